// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCleanText(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"User unknown", "User unknown"},
		{"two\nlines", "two\nlines"},
		{"a\r\nb\r", "a\nb"},
		{"bell\a escape\x1b[2J nul\x00", "bell  escape [2J nul "},
		{"c1\u0085 next\u2028line", "c1  next line"},
		{"bad \xff utf8", "bad ? utf8"},
		{"grüße", "grüße"},
		{strings.Repeat("x", 600), strings.Repeat("x", 480)},
		{strings.Repeat("é", 300), strings.Repeat("é", 240)},
		{strings.Repeat("l\n", 100), strings.TrimSuffix(strings.Repeat("l\n", 32), "\n")},
	} {
		got := CleanText(tc.in)
		if got != tc.want {
			t.Errorf("CleanText(%.40q) = %.60q, want %.60q", tc.in, got, tc.want)
		}
		if !utf8.ValidString(got) {
			t.Errorf("CleanText(%.40q) is no UTF-8", tc.in)
		}
	}
}

func FuzzCleanText(f *testing.F) {
	f.Add("550 no\r\nsuch\x00user")
	f.Fuzz(func(t *testing.T, s string) {
		got := CleanText(s)
		if CleanText(got) != got {
			t.Fatalf("not stable: %q", got)
		}
		for line := range strings.SplitSeq(got, "\n") {
			if len(line) > replyLineMax || strings.ContainsAny(line, "\r\x00\x1b") {
				t.Fatalf("line %q is not fit to send", line)
			}
		}
	})
}

func TestKey(t *testing.T) {
	m := Mailbox{Path: `"Quo ted"@X`, Local: "Quo ted", Domain: "x"}
	if got := m.Key(true); got != "quo ted@x" {
		t.Errorf("Key(true) = %q", got)
	}
	if got := m.Key(false); got != "Quo ted@x" {
		t.Errorf("Key(false) = %q", got)
	}
}

func TestWords(t *testing.T) {
	for a := Continue; a <= Discard; a++ {
		if a.String() == "unknown" {
			t.Errorf("action %d has no word", a)
		}
	}
	for s := StageConnect; s <= StageMessage; s++ {
		if s.String() == "unknown" {
			t.Errorf("stage %d has no word", s)
		}
	}
	if Continue.Refuses() || Accept.Refuses() || !Reject.Refuses() || !Tempfail.Refuses() {
		t.Error("Refuses is wrong")
	}
}

func TestFit(t *testing.T) {
	for _, tc := range []struct {
		in             Verdict
		code           int
		enhanced, text string
		want           string
	}{
		{Verdict{Action: Reject, Code: 551, Enhanced: "5.1.6", Text: "moved"}, 550, "5.1.1", "no", "551 5.1.6 moved"},
		{Verdict{Action: Reject, Code: 250, Text: "ok"}, 550, "5.1.1", "no", "550 5.1.1 ok"},
		{Verdict{Action: Tempfail, Code: 550, Enhanced: "5.7.1"}, 451, "4.7.1", "later", "451 4.7.1 later"},
		{Verdict{Action: Tempfail, Code: 421, Enhanced: "4.3.2", Text: "closing"}, 450, "", "", "451 4.3.2 closing"},
		{Verdict{Action: Reject, Code: 521}, 0, "", "", "550  "},
		{Verdict{Action: Reject, Code: 556, Enhanced: "5.1.10"}, 0, "", "", "550 5.1.10 "},
		{Verdict{Action: Tempfail}, 0, "", "", "451  "},
		{Verdict{Action: Reject, Text: "a\x1bb"}, 0, "4.1.1", "", "550 5.1.1 a b"},
		{Verdict{Action: Reject}, 452, "5.2.2", "full", "550 5.2.2 full"},
	} {
		v := tc.in
		v.Fit(tc.code, tc.enhanced, tc.text)
		if got := fmt.Sprintf("%d %s %s", v.Code, v.Enhanced, v.Text); got != tc.want {
			t.Errorf("%+v became %q, want %q", tc.in, got, tc.want)
		}
	}
}
