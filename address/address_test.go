// SPDX-License-Identifier: BSD-2-Clause

package address

import (
	"strings"
	"testing"

	"rcptgate"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct{ in, path, local, domain string }{
		{"<user@example.com>", "user@example.com", "user", "example.com"},
		{"User+Tag@Example.COM.", "User+Tag@Example.COM.", "User+Tag", "example.com"},
		{`<"quo ted"@x.example>`, `"quo ted"@x.example`, "quo ted", "x.example"},
		{`<"plain"@x.example>`, `"plain"@x.example`, "plain", "x.example"},
		{`"a\"b\\c"@x`, `"a\"b\\c"@x`, `a"b\c`, "x"},
		{`"a@b"@c`, `"a@b"@c`, "a@b", "c"},
		{`"a@b"`, `"a@b"`, "a@b", ""},
		{"postmaster", "postmaster", "postmaster", ""},
		{"<@relay.example,@b.example:u@c.example>", "u@c.example", "u", "c.example"},
		{"<@nothing>", "@nothing", "", "nothing"},
		{"u@[203.0.113.9]", "u@[203.0.113.9]", "u", "[203.0.113.9]"},
		{"u@BÜCHER.example", "u@BÜCHER.example", "u", "xn--bcher-kva.example"},
		{"u@\xff\xfe", "u@\xff\xfe", "u", "?"},
		{"", "", "", ""},
		{"<>", "", "", ""},
		{"\"", "\"", "\"", ""},
		{"u@", "u@", "u", ""},
	} {
		got := Parse(tc.in)
		want := rcptgate.Mailbox{Path: tc.path, Local: tc.local, Domain: tc.domain}
		if got != want {
			t.Errorf("Parse(%q) = %+v, want %+v", tc.in, got, want)
		}
	}
}

func TestOneMailboxHasOneKey(t *testing.T) {
	spellings := []string{
		"ted@bücher.example", "TED@BÜCHER.example", "ted@xn--bcher-kva.example.",
		`"Ted"@XN--BCHER-KVA.example`, `"T\ed"@bücher.example`, "<@relay.example:ted@bücher.example>",
	}
	for _, s := range spellings {
		if got := Parse(s).Key(true); got != "ted@xn--bcher-kva.example" {
			t.Errorf("Parse(%q).Key(true) = %q", s, got)
		}
	}
	if a, b := Parse("Ted@x").Key(false), Parse("ted@X").Key(false); a == b {
		t.Errorf("case of the local part ignored although asked to keep it: %q", a)
	}
}

func TestKeyOfACanonicalAddressAllocatesNothing(t *testing.T) {
	m := Parse("someone@example.com")
	if n := testing.AllocsPerRun(100, func() { _ = m.Key(true) }); n != 0 {
		t.Errorf("Key allocates %v times", n)
	}
}

func TestTarget(t *testing.T) {
	for _, tc := range []struct{ rcpt, macro, want string }{
		{"u@a.example", "", "u@a.example"},
		{"U@A.example", "u@a.example", "U@A.example"},                       // Postfix lower-cases: no rewriting
		{`"quo ted"@a.example`, "quo ted@a.example", `"quo ted"@a.example`}, // nor is unquoting
		{"info@a.example", "real@b.example", "real@b.example"},              // virtusertable
		{"u@a.example", "u", "u@a.example"},                                 // Sendmail, local mailer
		{"u@a.example", "<v@a.example>", "v@a.example"},
	} {
		if got := Target(Parse(tc.rcpt), tc.macro).Path; got != tc.want {
			t.Errorf("Target(%q, %q) = %q, want %q", tc.rcpt, tc.macro, got, tc.want)
		}
	}
}

func TestWire(t *testing.T) {
	for _, tc := range []struct {
		in   string
		utf8 bool
		want string
	}{
		{"U@Example.com", false, "U@Example.com"},
		{"u@bücher.example", false, "u@xn--bcher-kva.example"},
		{"u@bücher.example", true, "u@bücher.example"},
		{"ü@bücher.example", true, "ü@bücher.example"},
	} {
		if got := Wire(Parse(tc.in), tc.utf8); got != tc.want {
			t.Errorf("Wire(%q, %v) = %q, want %q", tc.in, tc.utf8, got, tc.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"<u@x>", `"a\"@b"@c`, "<@a:b@c>", "u@bücher.example", "\"\\", "@", "u@[IPv6:::1]", "a\r\nb@c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m := Parse(s)
		if !strings.Contains(s, m.Path) {
			t.Fatalf("Parse(%q).Path = %q is not a part of it", s, m.Path)
		}
		if m.Domain != Domain(m.Domain) {
			t.Fatalf("domain of %q is not canonical: %q", s, m.Domain)
		}
		if again := Parse(m.Path); again.Key(true) != m.Key(true) && !strings.HasPrefix(m.Path, "<") && !strings.HasPrefix(m.Path, "@") {
			t.Fatalf("Parse(%q) is not stable: %q, then %q", s, m.Key(true), again.Key(true))
		}
		Target(m, s)
		if wire := Wire(m, false); wire == "" && m.Path != "" {
			t.Fatalf("Wire(%q) is empty", s)
		}
	})
}
