// SPDX-License-Identifier: BSD-2-Clause

package maillog

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

const sample = `Nov 28 10:00:00 mx postfix/smtpd[11]: 4ABCDE: client=mail.example.net[192.0.2.1]
Nov 28 10:00:00 mx postfix/cleanup[12]: 4ABCDE: warning: header Subject: about 5 from us from mail.example.net[192.0.2.1]; from=<ann@example.net> to=<b@example.org> proto=ESMTP helo=<x>
Nov 28 10:00:00 mx postfix/qmgr[13]: 4ABCDE: from=<ann@example.net>, size=48211, nrcpt=2 (queue active)
Nov 28 10:10:00 mx postfix/qmgr[13]: 4ABCDE: from=<ann@example.net>, size=48211, nrcpt=1 (queue active)
Nov 28 10:10:01 mx postfix/qmgr[13]: 4ABCDE: removed
2026-11-29T10:00:00.123+02:00 mx postfix-out/qmgr[13]: 4ABCDE: from=<>, size=99, nrcpt=1 (queue active)
Nov 30 10:00:00 mx sm-mta[14]: 5AS80abc012345: from=<bob@example.com>, size=1234, class=0, nrcpts=3, msgid=<1@x>, proto=ESMTP, daemon=MTA, relay=mail.example.com [IPv6:2001:db8::1]
Nov 30 10:00:01 mx sendmail[14]: 5AS80abc012346: from=root, size=77, class=0, nrcpts=1, msgid=<2@x>, relay=root@localhost
Nov 30 10:00:02 mx sm-mta[14]: 5AS80abc012345: to=<c@example.org>, delay=00:00:01, stat=Sent
Nov 30 10:00:03 mx postfix/qmgr[13]: 4ABCDF: from=<x@example.net>, size=many, nrcpt=1 (queue active)
not a line of a log
`

func read(t testing.TB, in string) (out []string) {
	t.Helper()
	err := Walk(context.Background(), []string{"-"}, strings.NewReader(in), func(f string, err error) { out = append(out, "problem "+err.Error()) }, func(e *Entry) error {
		if e.Kind == Subject {
			out = append(out, fmt.Sprintf("%s subject %q %s %s", e.Day, e.Subject, e.Sender, e.Client))
			return nil
		}
		out = append(out, fmt.Sprintf("%s %s %q %d %d %s", e.Day, e.QueueID, e.Sender, e.Size, e.Rcpts, e.Client))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWalk(t *testing.T) {
	want := []string{
		`Nov 28 subject "about 5 from us" ann@example.net 192.0.2.1`,
		`Nov 28 4ABCDE "ann@example.net" 48211 2 192.0.2.1`,
		`2026-11-29 4ABCDE "" 99 1 invalid IP`,
		`Nov 30 5AS80abc012345 "bob@example.com" 1234 3 2001:db8::1`,
		`Nov 30 5AS80abc012346 "root" 77 1 invalid IP`,
	}
	if got := read(t, sample); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte(sample))
	_ = z.Close()
	if got := read(t, packed.String()); len(got) != len(want) {
		t.Errorf("compressed: %q", got)
	}
	if got := read(t, packed.String()[:packed.Len()-30]); !strings.Contains(got[len(got)-1], "problem unexpected EOF") {
		t.Errorf("cut off: %q", got)
	}
	long := strings.Repeat("x", 3*maxLine) + "\n"
	if got := read(t, long+sample); len(got) != len(want) {
		t.Errorf("after a long line: %q", got)
	}
	err := Walk(context.Background(), []string{"/nonexistent"}, nil, func(string, error) {}, nil)
	if !errors.Is(err, ErrNothing) {
		t.Error(err)
	}
}

// TestFieldsAreNotForged has senders write what looks like fields of a log line into everything
// that the MTAs log of them.
func TestFieldsAreNotForged(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{`postfix/qmgr[1]: 4ABCDE: from=<"a>, size=9, nrcpt=9"@example.net>, size=100, nrcpt=1 (queue active)`,
			`Nov 28 4ABCDE "\"a>, size=9, nrcpt=9\"@example.net" 100 1 invalid IP`},
		{`postfix/qmgr[1]: 4ABCDE: from=<a, size=9, nrcpt=9@example.net>, size=100, nrcpt=1 (queue active)`,
			`Nov 28 4ABCDE "a, size=9, nrcpt=9@example.net" 100 1 invalid IP`},
		{`sm-mta[1]: 5AS80abc012345: from=<"a>, size=9, class=0, nrcpts=9, relay=x [203.0.113.9]"@example.net>, size=100, class=0, nrcpts=1, msgid=<1@x>, relay=y [192.0.2.1]`,
			`Nov 28 5AS80abc012345 "\"a>, size=9, class=0, nrcpts=9, relay=x [203.0.113.9]\"@example.net" 100 1 192.0.2.1`},
		{`sm-mta[1]: 5AS80abc012345: from=<"a\">, size=9, class=0, nrcpts=9, \""@example.net>, size=100, class=-60, nrcpts=1, msgid=<1@x>, relay=y [192.0.2.1]`,
			`Nov 28 5AS80abc012345 "\"a\\\">, size=9, class=0, nrcpts=9, \\\"\"@example.net" 100 1 192.0.2.1`},
		{`sm-mta[1]: 5AS80abc012345: from=<a@example.net>, size=100, class=0, nrcpts=1, msgid=<x, size=9, nrcpts=9, relay=x [203.0.113.9]>, relay=[203.0.113.8]@y [192.0.2.1] (may be forged)`,
			`Nov 28 5AS80abc012345 "a@example.net" 100 1 192.0.2.1`},
		{`postfix/cleanup[1]: 4ABCDE: warning: header X-A: header Subject: forged from x[203.0.113.9]; from=<a@example.net> to=<b@example.org>`, ``},
		{`postfix/cleanup[1]: 4ABCDE: info: header Subject: x; from=<forged@example.org> from y[192.0.2.1]; from=<a@example.net> to=<b@example.org>`,
			`Nov 28 subject "x; from=<forged@example.org>" a@example.net 192.0.2.1`},
	} {
		if got := strings.Join(read(t, "Nov 28 10:00:00 mx "+c.line+"\n"), "\n"); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.line, got, c.want)
		}
	}
}

func FuzzWalk(f *testing.F) {
	for line := range strings.Lines(sample) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, in string) { read(t, in) })
}
