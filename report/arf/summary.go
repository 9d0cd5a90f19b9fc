// SPDX-License-Identifier: BSD-2-Clause

package arf

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"rcptgate/mail"
	"rcptgate/view"
)

// keys are what reports can be counted by.
var keys = []struct {
	name string
	of   func(*Report) string
}{
	{"ip", addr},
	{"net", network},
	{"rcpt", func(r *Report) string { return strings.ToLower(strings.Join(r.RcptTo, " ")) }},
	{"mail-from", func(r *Report) string { return strings.ToLower(r.MailFrom) }},
	{"domain", reportedDomain},
	{"type", func(r *Report) string { return r.Type }},
	{"kind", func(r *Report) string { return string(r.Kind) }},
	{"provider", func(r *Report) string { return r.Provider }},
	{"user-agent", func(r *Report) string { return r.UserAgent }},
	{"feedback-id", func(r *Report) string { return r.Original.FeedbackID }},
	{"list-id", func(r *Report) string { return r.Original.ListID }},
	{"day", func(r *Report) string { return when(r, time.DateOnly) }},
	{"week", week},
}

// network is the /24 or /64 of the source.
func network(r *Report) string { return mail.Network(r.SourceIP) }

func reportedDomain(r *Report) string {
	if len(r.ReportedDomain) > 0 {
		return strings.ToLower(strings.Join(r.ReportedDomain, " "))
	}
	_, domain, _ := strings.Cut(unbracket(r.Original.From), "@")
	return strings.ToLower(domain)
}

// At is when a report counts: when its original arrived, else when it was sent.
func (r *Report) At() time.Time {
	if r.Arrival.IsZero() {
		return r.Report.Date
	}
	return r.Arrival
}

func when(r *Report, layout string) string {
	if r.At().IsZero() {
		return ""
	}
	return r.At().UTC().Format(layout)
}

func week(r *Report) string {
	if r.At().IsZero() {
		return ""
	}
	year, n := r.At().UTC().ISOWeek()
	return fmt.Sprintf("%d-W%02d", year, n)
}

// maxGroups bounds the groups of a summary; those beyond are counted as one.
const maxGroups = 200_000

// maxGroupRcpts bounds the recipients of one group that are told apart.
const maxGroupRcpts = 10_000

// Summary counts reports by one or several of their values.
type Summary struct {
	names  []string
	of     []func(*Report) string
	groups map[string]*group
	beyond int // incidents of groups that had no room
}

type group struct {
	values             []string
	incidents, reports int
	rcpts              map[string]struct{}
	first, last        time.Time
}

// NewSummary makes a summary by the keys of a comma-separated list: "day,ip".
func NewSummary(by string) (*Summary, error) {
	s := &Summary{groups: map[string]*group{}}
	for name := range strings.SplitSeq(by, ",") {
		if name = strings.TrimSpace(name); name == "source-ip" { // as the report's field is called
			name = "ip"
		}
		i := slices.IndexFunc(keys, func(k struct {
			name string
			of   func(*Report) string
		}) bool {
			return k.name == name
		})
		if i < 0 {
			return nil, fmt.Errorf("reports cannot be counted by %q; known are %s", name, strings.Join(Keys(), ", "))
		}
		s.names, s.of = append(s.names, keys[i].name), append(s.of, keys[i].of)
	}
	return s, nil
}

// Keys names what reports can be counted by.
func Keys() []string {
	var out []string
	for _, k := range keys {
		out = append(out, k.name)
	}
	return out
}

// Add counts a report.
func (s *Summary) Add(r *Report) {
	values := make([]string, len(s.of))
	for i, of := range s.of {
		values[i] = of(r)
	}
	key := strings.Join(values, "\x00")
	g := s.groups[key]
	if g == nil {
		if len(s.groups) >= maxGroups {
			s.beyond += r.Incidents
			return
		}
		g = &group{values: values, rcpts: map[string]struct{}{}}
		s.groups[key] = g
	}
	g.incidents += r.Incidents
	g.reports++
	for _, rcpt := range r.RcptTo {
		if len(g.rcpts) < maxGroupRcpts {
			g.rcpts[strings.ToLower(rcpt)] = struct{}{}
		}
	}
	if at := r.At(); !at.IsZero() {
		if g.first.IsZero() || at.Before(g.first) {
			g.first = at
		}
		if at.After(g.last) {
			g.last = at
		}
	}
}

// Table gives the groups, those with most incidents first, at most top (0 is all).
func (s *Summary) Table(top int) view.Table {
	t := view.Table{Name: "complaints", Title: "Complaints by " + strings.Join(s.names, ", "), Empty: "no reports"}
	for _, name := range s.names {
		t.Columns = append(t.Columns, view.Column{Key: strings.ReplaceAll(name, "-", "_"), Title: name})
	}
	t.Columns = append(t.Columns, view.Columns("incidents", "incidents", "reports", "reports", "recipients", "recipients", "first", "first", "last", "last")...)
	list := make([]*group, 0, len(s.groups))
	for _, g := range s.groups {
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b *group) int {
		return cmp.Or(cmp.Compare(b.incidents, a.incidents), slices.Compare(a.values, b.values))
	})
	for _, g := range list {
		var cells []any
		for _, v := range g.values {
			cells = append(cells, cmp.Or(v, "-"))
		}
		t.Add("", append(cells, g.incidents, g.reports, len(g.rcpts), stamp(g.first), stamp(g.last))...)
	}
	if top > 0 {
		t.Limit(top)
	}
	return t
}

// Beyond is how many incidents belong to groups that had no room.
func (s *Summary) Beyond() int { return s.beyond }

// Identity is what two copies of one report have in common: the report's Message-ID, else
// its fields and the original's Message-ID.
func (r *Report) Identity() [16]byte {
	id := r.Report.MessageID
	if id == "" {
		id = strings.Join(r.lines, "\n") + "\x00" + r.Original.MessageID + "\x00" + r.Original.Subject
	}
	sum := sha256.Sum256([]byte(id))
	return [16]byte(sum[:16])
}
