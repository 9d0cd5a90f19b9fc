// SPDX-License-Identifier: BSD-2-Clause

package arf

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rcptgate/report/mailbox"
)

// find reads one message whose parts are given with their own headers.
func find(head string, parts ...string) *Report {
	text := head + "\n\n"
	for _, p := range parts {
		text += "--b\n" + p + "\n"
	}
	text += "--b--\n"
	return Find(&mailbox.Message{Data: []byte(text), Size: int64(len(text))}, Options{})
}

const (
	reportHead = "Subject: x\nContent-Type: multipart/report; boundary=b"
	someText   = "Content-Type: text/plain\n\nSpam!"
	feedback   = "Content-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: a\nVersion: 1"
	original   = "Content-Type: message/rfc822\n\nReturn-Path: <back@x.example>\nSubject: s\n\nbody"
)

// TestWhatIsNoReport: messages that carry another one are complaints only if they say so.
func TestWhatIsNoReport(t *testing.T) {
	for name, r := range map[string]*Report{
		"a forwarded message":                find("Content-Type: multipart/mixed; boundary=b", someText, original),
		"a notification without its part":    find("Content-Type: multipart/report; report-type=delivery-status; boundary=b", someText, original),
		"a notification that does not say":   find(reportHead, someText, "Content-Type: message/delivery-status\n\nReporting-MTA: dns; x", original),
		"a receipt that does not say":        find(reportHead, someText, "Content-Type: message/disposition-notification\n\nx: y", original),
		"a report in words without original": find(reportHead, someText),
	} {
		if r != nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestTypeOfWords: a report in words is of a failure if its type, its subject or its text says so.
func TestTypeOfWords(t *testing.T) {
	for want, list := range map[string][]*Report{
		"abuse": {find(reportHead, someText, original), find(reportHead, someText, original, "Content-Type: text/plain\n\nfailed authentication")},
		"auth-failure": {
			find("Subject: x\nContent-Type: multipart/report; report-type=Auth-Failure; boundary=b", someText, original),
			find(reportHead, "Content-Type: text/plain\n\nThis message failed authentication.", original),
			find("Subject: DMARC\nContent-Type: multipart/report; boundary=b", someText, original),
		},
	} {
		for i, r := range list {
			if r == nil || r.Type != want {
				t.Errorf("%s %d: %+v", want, i, r)
			}
		}
	}
}

// TestProblems: what is missing is said.
func TestProblems(t *testing.T) {
	has := func(r *Report, what string) bool {
		return r != nil && slices.ContainsFunc(r.Problems, func(p string) bool { return strings.Contains(p, what) })
	}
	whole := find(reportHead, someText, feedback, original)
	bare := find(reportHead, someText, "Content-Type: message/feedback-report\n\nFeedback-Type: abuse")
	for _, what := range []string{"original message is missing", "User-Agent is missing", "Version is missing"} {
		if has(whole, what) || !has(bare, what) {
			t.Errorf("%q: %+v, %+v", what, whole, bare)
		}
	}
	text := reportHead + "\n\n--b\n" + feedback + "\n--b\n" + original + "\n--b--\n"
	if r := Find(&mailbox.Message{Data: []byte(text), Size: 1 << 30, Cut: true}, Options{}); !has(r, "too large") || has(whole, "too large") {
		t.Errorf("cut: %+v", r)
	}
}

// TestWhichFieldCounts: what the report itself says comes before what the original says.
func TestWhichFieldCounts(t *testing.T) {
	r := find(reportHead, someText, feedback, original)
	if r == nil || r.MailFrom != "back@x.example" || !strings.Contains(derivedText(r), "mail_from=return-path") {
		t.Errorf("%+v", r)
	}
	r = find(reportHead, someText, feedback+"\nOriginal-Mail-From: <a@x.example>\nArrival-Date: 1 Jan 2020 10:00:00 GMT\nReceived-Date: 2 Jan 2020 10:00:00 GMT\nOriginal-Rcpt-To: Doe, Ann <ann@x.example>\nOriginal-Rcpt-To: <b@x.example>, <c@x.example>", original)
	if r == nil || r.MailFrom != "a@x.example" || stamp(r.Arrival) != "2020-01-01T10:00:00Z" || len(r.Extra) != 1 || r.Extra[0].Name != "Received-Date" || len(r.RcptTo) != 3 {
		t.Errorf("%+v", r)
	}
}

func TestOddDates(t *testing.T) {
	for in, want := range map[string]string{
		"1 Jan 2020 10:00:00:00 GMT": "", "1 Jan 2020 10:x0 GMT": "", "1 Jan 2020 10:000 GMT": "",
		"1 Jan 2020 10:00:00 GMT 1999": "2020-01-01T10:00:00Z", "99999999999999999999 Jan 2020 10:00": "",
	} {
		if got, err := ParseDate(in); stamp(got) != want || (err == nil) != (want != "") {
			t.Errorf("%q: %s, %v", in, stamp(got), err)
		}
	}
}

// TestSummaryKeys holds what reports are counted by, and the first and the last of a group.
func TestSummaryKeys(t *testing.T) {
	day := func(d int) time.Time { return time.Date(2026, 1, d, 10, 0, 0, 0, time.UTC) }
	for key, want := range map[string]string{
		"day": "[- 1 2026-01-02 2 2026-01-05 1]", "week": "[- 1 2026-W01 2 2026-W02 1]", "source-ip": "[- 3 192.0.2.1 1]", "domain": "[- 1 a.example 2 b.example 1]",
	} {
		s, err := NewSummary(key)
		if err != nil {
			t.Fatal(err)
		}
		s.Add(&Report{Incidents: 1})
		s.Add(&Report{Incidents: 1, Arrival: day(2), ReportedDomain: []string{"A.example"}, SourceIP: netip.MustParseAddr("192.0.2.1")})
		s.Add(&Report{Incidents: 1, Arrival: day(5), Original: Original{From: "<x@b.example>"}})
		s.Add(&Report{Incidents: 1, Arrival: day(2), Original: Original{From: "x@a.example"}, ReportedDomain: nil})
		var got []string
		for _, row := range s.Table(0).Rows {
			got = append(got, fmt.Sprint(row.Cells[0], " ", row.Cells[1]))
		}
		slices.Sort(got)
		if fmt.Sprint(got) != want {
			t.Errorf("%s: %v, want %s", key, got, want)
		}
	}
	s, _ := NewSummary("provider")
	for _, d := range []int{3, 1, 9, 2} {
		s.Add(&Report{Incidents: 1, Arrival: day(d)})
	}
	s.Add(&Report{Incidents: 1})
	if g := s.groups[""]; !g.first.Equal(day(1)) || !g.last.Equal(day(9)) || g.reports != 5 {
		t.Errorf("%+v", g)
	}
}

// TestSummaryIsBounded: groups and recipients beyond the bounds are counted, and not kept.
func TestSummaryIsBounded(t *testing.T) {
	s, _ := NewSummary("provider")
	r := &Report{Incidents: 7}
	for i := range maxGroupRcpts + 5 {
		r.RcptTo = append(r.RcptTo, strconv.Itoa(i))
	}
	s.Add(r)
	if n := len(s.groups[""].rcpts); n != maxGroupRcpts {
		t.Errorf("%d recipients", n)
	}
	one := s.groups[""]
	for i := range maxGroups {
		s.groups[strconv.Itoa(i)] = one
	}
	s.Add(&Report{Incidents: 3, Provider: "Yahoo"})
	s.Add(&Report{Incidents: 3})
	if s.beyond != 3 || s.groups["Yahoo"] != nil || one.incidents != 10 {
		t.Errorf("%d beyond, %d in the group", s.beyond, one.incidents)
	}
}

func TestJSONIsBounded(t *testing.T) {
	wide, deep := map[string]any{}, any("leaf")
	for i := range 2000 {
		wide[strconv.Itoa(i)] = "x"
	}
	for range 50 {
		deep = map[string]any{"a": deep}
	}
	out := map[string]string{}
	flatten("", wide, out, 0)
	if len(out) < 500 || len(out) > 501 {
		t.Errorf("%d leaves", len(out))
	}
	out = map[string]string{}
	if flatten("", deep, out, 0); len(out) > 0 {
		t.Errorf("%v", out)
	}
}

// full takes so many octets, and then none.
type full struct{ room int }

var errFull = errors.New("full")

func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// TestWriteErrors: no format says that it has written what it has not, wherever the disk is full.
func TestWriteErrors(t *testing.T) {
	r := find(reportHead, someText, feedback, original)
	for _, format := range Formats() {
		for room, whole := 0, false; !whole; room += 400 {
			out := &full{room}
			w, err := NewWriter(out, format, false)
			if err == nil {
				err = errors.Join(w.Write(r), w.Write(r), w.Close())
			}
			if whole = out.room >= 0; whole == (err != nil) {
				t.Errorf("%s with room for %d: %v", format, room, err)
			}
		}
	}
}
