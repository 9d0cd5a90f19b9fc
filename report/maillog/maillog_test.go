// SPDX-License-Identifier: BSD-2-Clause

package maillog

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
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
		unsure := map[bool]string{true: " (unsure)"}[e.Unsure]
		if e.Kind == Subject {
			out = append(out, fmt.Sprintf("%s subject %q %s%s %s", e.Day, e.Subject, e.Sender, unsure, e.Client))
			return nil
		}
		out = append(out, fmt.Sprintf("%s %s %q%s %d %d %s", e.Day, e.QueueID, e.Sender, unsure, e.Size, e.Rcpts, e.Client))
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
	const (
		sm     = "sm-mta[1]: 5AS80abc012345: from="
		forged = ", size=9, class=0, nrcpts=9, relay=x [203.0.113.9]"
		real   = ", size=100, class=0, nrcpts=1, msgid=<1@x>, relay=y [192.0.2.1]"
	)
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
			`Nov 28 subject "x; from=<forged@example.org>" a@example.net (unsure) invalid IP`}, // or an address that was forged
		{`postfix/cleanup[1]: 4ABCDE: info: header Subject: x from y[192.0.2.1]; from=<"x from z[203.0.113.9]; from=<z"@example.net> to=<b@example.org>`,
			`Nov 28 subject "x from y[192.0.2.1]; from=<\"x" z"@example.net> to=<b@example.org> (unsure) invalid IP`},
		{"postfix/smtpd[1]: 4ABCDE: client=y[192.0.2.1]\nNov 28 10:00:00 mx " + `postfix/cleanup[1]: 4ABCDE: info: header Subject: x from y[192.0.2.1]; from=<"x from z[203.0.113.9]; from=<z"@example.net> to=<b@example.org>`,
			`Nov 28 subject "x from y[192.0.2.1]; from=<\"x" z"@example.net> to=<b@example.org> (unsure) 192.0.2.1`},
		{sm + `<a(>` + forged + `)@example.net>` + real, `Nov 28 5AS80abc012345 "a(>, size=9, class=0, nrcpts=9, relay=x [203.0.113.9])@example.net" 100 1 192.0.2.1`},
		{sm + `<a(\\)>` + forged + `)@example.net>` + real, `Nov 28 5AS80abc012345 "a(\\)>, size=9, class=0, nrcpts=9, relay=x [203.0.113.9])@example.net" 100 1 192.0.2.1`},
		{sm + `<"a\\">` + forged + `"@example.net>` + real, `Nov 28 5AS80abc012345 "\"a\\\">, size=9, class=0, nrcpts=9, relay=x [203.0.113.9]\"@example.net" 100 1 192.0.2.1`},
		{sm + `<<a>` + forged + `b@example.net>` + real, `Nov 28 5AS80abc012345 "<a>, size=9, class=0, nrcpts=9, relay=x [203.0.113.9]b@example.net" 100 1 192.0.2.1`},
		{sm + `(` + forged + `)<a@example.net>` + real, `Nov 28 5AS80abc012345 "(, size=9, class=0, nrcpts=9, relay=x [203.0.113.9])<a@example.net>" 100 1 192.0.2.1`},
		{sm + `<\344\t` + strings.Repeat("x", 184) + `@example.net>` + real, `Nov 28 5AS80abc012345 "\xe4\t` + strings.Repeat("x", 184) + `@example.net" 100 1 192.0.2.1`},
		{sm + `<"` + strings.Repeat(`\344`, 198) + `, size=100, class=0, nrcpts=1, msgid=<x">` + forged + `>, relay=y [192.0.2.1]`, `Nov 28 5AS80abc012345 "\"` + strings.Repeat(`\xe4`, 198) + `" (unsure) 100 1 192.0.2.1`},
		{sm + `<"` + strings.Repeat(`x`, 186) + `"@example.ne` + real, `Nov 28 5AS80abc012345 "\"` + strings.Repeat(`x`, 186) + `\"@example.ne" (unsure) 100 1 192.0.2.1`},
		{sm + strings.Repeat(`x`, 188) + `@example.net` + real, `Nov 28 5AS80abc012345 "` + strings.Repeat(`x`, 188) + `@example.net" (unsure) 100 1 192.0.2.1`},
		{sm + `<"` + strings.Repeat(`x`, 300) + `"@example.net>` + real, ``}, // no Sendmail that is known
		{`sm-mta[1]: 5AS80abc012345[1]: from=<a@example.net>, size=100, class=0, nrcpts=1, msgid=<x, relay=x [203.0.113.9]>, ...`, `Nov 28 5AS80abc012345 "a@example.net" 100 1 invalid IP`},
		{sm + `<(">` + forged + `)a@example.net>` + real, `Nov 28 5AS80abc012345 "(\">, size=9, class=0, nrcpts=9, relay=x [203.0.113.9])a@example.net" 100 1 192.0.2.1`},
		{sm + `<"\n\r"@x>` + real, `Nov 28 5AS80abc012345 "\"\n\r\"@x" 100 1 192.0.2.1`},
		{sm + `<a@x>, size=-5, class=0, nrcpts=1, relay=y [192.0.2.1]`, `Nov 28 5AS80abc012345 "a@x" 0 1 192.0.2.1`},
		{sm + `<a@x>, size=, class=0, nrcpts=1, relay=y [192.0.2.1]`, ``},
		{`postfix/cleanup[1]: 4ABCDE: info: header Subject: a from b from y[192.0.2.1]; from=<"a\">"@example.net> to=<b@example.org>`,
			`Nov 28 subject "a from b" "a\">"@example.net 192.0.2.1`},
		{`postfix/qmgr[1]: 4ABCDE: status, from=<a@example.net>, size=9, nrcpt=9 (queue active)`, ``},
		{`postfix/qmgr[1]: 4ABCDE: from=<a@example.net`, ``},
		{`postfix/qmgr[1]: 4ABCDE: from=<a@example.net>, size=9, nrcpt=many`, ``},
		{`postfix/smtpd[1]: 4ABCDE: lost=y[192.0.2.1]` + "\nNov 28 10:00:00 mx postfix/qmgr[1]: 4ABCDE: from=<a@x>, size=9, nrcpt=9 (queue active)", `Nov 28 4ABCDE "a@x" 9 9 invalid IP`},
		{`sm-mta[1]: not an id: from=<a@example.net>` + real, ``},
		{`sm-mta] 1]: 5AS80abc012345: from=<a@example.net>` + real, ``},
		{`sm-mta[1]: 5AS80abc012345[2]: from=<a@example.net>` + real, ``},
	} {
		if got := strings.Join(read(t, "Nov 28 10:00:00 mx "+c.line+"\n"), "\n"); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.line, got, c.want)
		}
	}
}

// TestWalkEnds: at a cancelled context, at the caller's error, at damage.
func TestWalkEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	ours := errors.New("ours")
	count := 0
	ignore := func(string, error) {}
	if err := Walk(ctx, []string{"-"}, strings.NewReader(sample), ignore, func(*Entry) error { count++; return nil }); !errors.Is(err, context.Canceled) || count > 0 {
		t.Errorf("cancelled: %v after %d", err, count)
	}
	if err := Walk(context.Background(), []string{"-"}, strings.NewReader(sample), ignore, func(*Entry) error { count++; return ours }); !errors.Is(err, ours) || count != 1 {
		t.Errorf("the caller's error: %v after %d", err, count)
	}
	if got := read(t, "\x1f\x8bdamaged"); len(got) != 1 || !strings.HasPrefix(got[0], "problem ") {
		t.Errorf("damaged: %q", got)
	}
}

// TestQueueIsBounded: of more messages than are told apart, the older half of them is forgotten, and
// the newer is not.
func TestQueueIsBounded(t *testing.T) {
	const most = 10
	n := 0
	r := &reader{most: most, each: func(*Entry) error { n++; return nil }, clients: map[string]netip.Addr{}, seen: map[string]struct{}{}}
	for i := range most {
		id := strconv.Itoa(10_000 + i)
		r.clients[id], r.seen[id] = netip.MustParseAddr("192.0.2.1"), struct{}{}
	}
	for _, line := range []string{"postfix/smtpd[1]: 4ABCDE: client=x[192.0.2.2]", "postfix/qmgr[1]: 4ABCDE: from=<a@b>, size=1, nrcpt=1", "postfix/qmgr[1]: 4ABCDE: from=<a@b>, size=1, nrcpt=1",
		"postfix/qmgr[1]: 10003: from=<a@b>, size=1, nrcpt=1"} {
		if err := r.line([]byte("Nov 28 10:00:00 mx " + line)); err != nil {
			t.Fatal(err)
		}
	}
	if n != 1 || len(r.seen) != 1 || len(r.clients) != 1 || len(r.seen2) != most || len(r.clients2) != most {
		t.Errorf("%d messages, %d and %d are kept, %d and %d clients", n, len(r.seen), len(r.seen2), len(r.clients), len(r.clients2))
	}
	if r.client("4ABCDE") != netip.MustParseAddr("192.0.2.2") || r.client("10003") != netip.MustParseAddr("192.0.2.1") {
		t.Error("clients are forgotten")
	}
}

func FuzzWalk(f *testing.F) {
	for line := range strings.Lines(sample) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, in string) { read(t, in) })
}

// FuzzSendmail has a sender write anything as the address and the message id, and Sendmail take and
// log it. Whatever it is, what is read is what Sendmail wrote behind it.
func FuzzSendmail(f *testing.F) {
	for _, seed := range []string{`<a@x>`, `<"a\\">, size=9, class=0, nrcpts=9"@x>`, `<a(b)@x>`, "<\"\xff\"@x>", "<" + strings.Repeat("x", 300) + ">", `a`, `<<a>b@x>`} {
		f.Add(seed, `<1@x>`)
		f.Add(seed, `<x")>>, size=9, class=0, nrcpts=9`)
	}
	f.Fuzz(func(t *testing.T, from, id string) {
		var n nesting
		for i := range len(from) {
			if n.none() && (strings.IndexByte(" ,", from[i]) >= 0) {
				t.Skip("Sendmail takes no such address")
			}
			n.take(from[i])
		}
		if !n.none() {
			t.Skip("nor one in which something is open")
		}
		line := fmt.Sprintf("from=%.*s, size=100, class=0, nrcpts=1, msgid=%.*s, relay=y [192.0.2.1]", min(len(from), cutAt), from[:min(len(from), cutAt)], min(len(id), 100), id[:min(len(id), 100)])
		var b strings.Builder
		for _, c := range []byte(line) {
			switch {
			case c == '\\':
				b.WriteString(`\\`)
			case c < ' ' || c > '~':
				fmt.Fprintf(&b, `\%03o`, c)
			default:
				b.WriteByte(c)
			}
		}
		got := strings.Join(read(t, "Nov 28 10:00:00 mx sm-mta[1]: 5AS80abc012345: "+b.String()+"\n"), "\n")
		if !strings.HasSuffix(got, " 100 1 192.0.2.1") {
			t.Errorf("%s\n%s", b.String(), got)
		}
	})
}
