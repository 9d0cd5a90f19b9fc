// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"rcptgate/kit/exit"
	"rcptgate/kit/term"
	"rcptgate/view"
)

// Level is how bad a finding is.
type Level string

// The levels.
const (
	OK      Level = "ok"
	Note    Level = "note"
	Warn    Level = "warn"
	Fail    Level = "fail"
	Unknown Level = "unknown" // it could not be found out
)

// Finding is one thing that was looked at.
type Finding struct {
	ID     string `json:"id"` // a stable word: "mx-elsewhere"
	Level  Level  `json:"level"`
	Domain string `json:"domain,omitempty"` // empty for this machine
	What   string `json:"what"`
	// Seen says where: a file with its line, a record, a reply.
	Seen []string `json:"seen,omitempty"`
	// Expected is what is right.
	Expected string   `json:"expected,omitempty"`
	Matters  string   `json:"matters,omitempty"`
	Do       []string `json:"remedy,omitempty"` // the line or record to write
	// Refs are where it is written what is right: RFCs, manuals.
	Refs []string `json:"refs,omitempty"`
	MS   int64    `json:"ms"` // how long it took to find out, in milliseconds
}

// Report is everything that was found.
type Report struct {
	Findings []Finding `json:"findings"`
	Checks   int       `json:"checks"`
}

// Exit gives the exit code: 78 for a failure, 75 if something could not be found out, 0
// otherwise; with strict a warning is a failure.
func (r *Report) Exit(strict bool) int {
	code := exit.OK
	for _, f := range r.Findings {
		switch {
		case f.Level == Fail, f.Level == Warn && strict:
			return exit.Config
		case f.Level == Unknown:
			code = exit.Tempfail
		}
	}
	return code
}

var marks = map[Level]string{OK: "✓", Note: "·", Warn: "▲", Fail: "✖", Unknown: "?"}

// order is worst first.
var order = map[Level]int{Fail: 0, Warn: 1, Unknown: 2, Note: 3, OK: 4}

// Print writes the findings by domain, worst first. Quiet leaves out what is in order, verbose
// lists each of it.
func (r *Report) Print(w io.Writer, quiet, verbose bool) error {
	var b strings.Builder
	var domains []string
	byDomain := map[string][]Finding{}
	for _, f := range r.Findings {
		if _, ok := byDomain[f.Domain]; !ok {
			domains = append(domains, f.Domain)
		}
		byDomain[f.Domain] = append(byDomain[f.Domain], f)
	}
	if problems := r.problems(); problems == 0 && !verbose {
		if !quiet {
			fmt.Fprintf(&b, "✓ everything is in order: %s (--verbose lists them)\n", term.Count(r.Checks, "check"))
		}
		_, err := io.WriteString(w, b.String())
		return err
	}
	for _, domain := range domains {
		list := byDomain[domain]
		slices.SortStableFunc(list, func(a, b Finding) int { return cmp.Compare(order[a.Level], order[b.Level]) })
		printDomain(&b, domain, list, quiet, verbose)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// problems counts what is neither in order nor a note.
func (r *Report) problems() (n int) {
	for _, f := range r.Findings {
		if f.Level != OK && f.Level != Note {
			n++
		}
	}
	return n
}

func printDomain(b *strings.Builder, domain string, list []Finding, quiet, verbose bool) {
	fine := 0
	shown := false
	for i := range list {
		f := &list[i]
		if f.Level == OK && !verbose || quiet && f.Level == Note {
			fine++
			continue
		}
		if !shown {
			b.WriteString(view.Clean(cmp.Or(domain, "this machine")) + "\n")
			shown = true
		}
		f.print(b)
	}
	if fine > 0 && !quiet {
		if !shown {
			b.WriteString(view.Clean(cmp.Or(domain, "this machine")) + "\n")
		}
		fmt.Fprintf(b, " ✓ %s in order\n", term.Count(fine, "check"))
	}
}

// What strangers wrote takes this many lines of so many octets for people; JSON has all of it.
const (
	maxSeen = 50
	maxLine = 1_000
)

// clip cuts a line that is too long to read.
func clip(s string) string {
	if len(s) <= maxLine {
		return s
	}
	return strings.ToValidUTF8(s[:maxLine], "") + fmt.Sprintf("… (%s)", term.Count(len(s), "octet"))
}

// print writes one finding.
func (f *Finding) print(b *strings.Builder) {
	fmt.Fprintf(b, " %s %-16s %s\n", marks[f.Level], f.ID, view.Clean(clip(f.What)))
	line := func(head, text string) {
		fmt.Fprintf(b, "   %-9s%s\n", head, view.Clean(text))
	}
	for i, s := range f.Seen[:min(len(f.Seen), maxSeen)] {
		line(map[bool]string{true: "seen:"}[i == 0], clip(s))
	}
	if n := len(f.Seen) - maxSeen; n > 0 {
		line("", fmt.Sprintf("and %d more", n))
	}
	if f.Matters != "" {
		line("matters:", f.Matters)
	}
	for i, s := range f.Do {
		line(map[bool]string{true: "do:"}[i == 0], s)
	}
}
