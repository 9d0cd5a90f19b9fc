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
		{"User+Tag@Example.COM.", "User+Tag@Example.COM", "User+Tag", "example.com"},
		{`<"quo ted"@x.example>`, `"quo ted"@x.example`, "quo ted", "x.example"},
		{`<"plain"@x.example>`, `"plain"@x.example`, "plain", "x.example"},
		{`"a\"b\\c"@x`, `"a\"b\\c"@x`, `a"b\c`, "x"},
		{`"a@b"@c`, `"a@b"@c`, "a@b", "c"},
		{`"a@b"`, `"a@b"`, "a@b", ""},
		{`"a@b".`, `"a@b".`, `"a@b".`, ""},
		{`"a@b"c@d."e@f"`, `"a@b"c@d."e@f"`, `"a@b"c`, `d."e@f"`},
		{`"a\"@b"`, `"a\"@b"`, `a"@b`, ""},
		{`"a@b."`, `"a@b."`, `a@b.`, ""},
		{`"a@b.`, `"a@b`, `"a`, "b"},
		{`a\@b`, `a\@b`, `a\`, "b"},
		{"postmaster", "postmaster", "postmaster", ""},
		{"<@relay.example,@b.example:u@c.example>", "u@c.example", "u", "c.example"},
		{"<@nothing>", "@nothing", "", "nothing"},
		{"u@[203.0.113.9]", "u@[203.0.113.9]", "u", "[203.0.113.9]"},
		{"u@BÜCHER.example", "u@BÜCHER.example", "u", "xn--bcher-kva.example"},
		{"u@\xff\xfe", "u@\xff\xfe", "u", "\xff\xfe"},
		{"u@example.com..", "u@example.com..", "u", "example.com.."},
		{"u@[203.0.113.9].", "u@[203.0.113.9]", "u", "[203.0.113.9]"},
		{"postmaster.", "postmaster.", "postmaster.", ""},
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

// TestOtherMailboxesHaveOtherKeys: what may be another mailbox is not folded.
func TestOtherMailboxesHaveOtherKeys(t *testing.T) {
	for _, tc := range [][2]string{
		{"kate@x", "\u212aate@x"},                        // the Kelvin sign, whose lower case is k
		{"i@x", "\u0130@x"},                              // the Turkish capital I with a dot
		{"\u00e5@x", "\u212b@x"},                         // the Angstrom sign
		{"\u00e9@x", "e\u0301@x"},                        // Unicode in two normal forms
		{"\xff@x", "\xfe@x"},                             // octets that are not UTF-8
		{"u@example.com", "u@\uff45xample.com"},          // a full-width letter
		{"u@example.com", "u@example\u3002com"},          // an ideographic full stop
		{"u@kexample.com", "u@\u212aexample.com"},        // in a domain
		{"u@strasse.example", "u@stra\u00dfe.example"},   // IDNA 2003 made them one
		{"u@example.com", "u@example.com.."},             // two final dots
		{"u@\u00e9.example", "u@e\u0301.example"},        // in two normal forms
		{"u@\xff.example", "u@\xfe.example"},             // not UTF-8
		{"u@x", "u@x\u00ad"},                             // a soft hyphen, which IDNA drops
		{"u@xn--strae-oqa.example", "u@strasse.example"}, // A-labels of another name
	} {
		a, b := Parse(tc[0]), Parse(tc[1])
		if a.Key(true) == b.Key(true) || Same(a, b) {
			t.Errorf("%q and %q are one mailbox: %q", tc[0], tc[1], a.Key(true))
		}
	}
	for _, tc := range [][2]string{{"\u00dcser@x", "\u00fcser@x"}, {"\u03a3@x", "\u03c3@x"}, {"u@\u04c0.example", "u@\u04cf.example"}} {
		if a, b := Parse(tc[0]), Parse(tc[1]); a.Key(true) != b.Key(true) || !Same(a, b) {
			t.Errorf("%q and %q differ in case only: %q, %q", tc[0], tc[1], a.Key(true), b.Key(true))
		}
	}
}

// TestCanonical: a path that is written in another way than usual says so, and the usual
// way is known.
func TestCanonical(t *testing.T) {
	for _, tc := range []struct {
		in        string
		canonical bool
		written   string
	}{
		{"victim@d.example", true, "victim@d.example"},
		{"Victim@D.Example", true, "Victim@D.Example"},
		{"victim@d.example.", true, "victim@d.example"},
		{"<@relay:victim@d.example>", true, "victim@d.example"},
		{`"victim"@d.example`, false, "victim@d.example"},
		{`"Vic\tim"@D.example`, false, "Victim@d.example"},
		{`"a b"@d.example`, true, `"a b"@d.example`},
		{`"a\ b"@d.example`, false, `"a b"@d.example`},
		{`a b@d.example`, false, `"a b"@d.example`},
		{`"a\"\\b"@d.example`, true, `"a\"\\b"@d.example`},
		{`"a@b"@D.example`, true, `"a@b"@D.example`},
		{`"a@b"`, true, `"a@b"`},
		{`""@d.example`, true, `""@d.example`},
		{"@d.example", false, `""@d.example`},
		{"postmaster", true, "postmaster"},
		{`"postmaster"`, false, "postmaster"},
		{"a..b.@d.example", true, "a..b.@d.example"}, // real
		{"u@[192.0.2.1]", true, "u@[192.0.2.1]"},
		{"u@[ipv6:2001:DB8::1]", true, "u@[ipv6:2001:DB8::1]"},
		{"u@b\u00fccher.example", true, "u@b\u00fccher.example"}, // asked as A-labels
		{"u@xn--bcher-kva.example", true, "u@xn--bcher-kva.example"},
		{"\u00fc@B\u00dcCHER.example", true, "\u00fc@B\u00dcCHER.example"}, // asked as it is
		{"\u00fc@xn--bcher-kva.example", false, "\u00fc@xn--bcher-kva.example"},
		{"u@\uff45xample.com", true, "u@\uff45xample.com"}, // a domain of its own
		{"u@example.com..", true, "u@example.com.."},
	} {
		m := Parse(tc.in)
		if m.IsCanonical() != tc.canonical || m.Canonical() != tc.written {
			t.Errorf("%q: canonical %v, written %q", tc.in, m.IsCanonical(), m.Canonical())
		}
		if again := Parse(m.Canonical()); again.Key(true) != m.Key(true) {
			t.Errorf("%q: %q is another mailbox than %q", tc.in, again.Key(true), m.Key(true))
		}
	}
	m := Parse("Victim+x@Example.com")
	if n := testing.AllocsPerRun(100, func() { m.IsCanonical() }); n != 0 {
		t.Errorf("IsCanonical allocates %v times", n)
	}
}

// TestLongDomains: the conversion to A-labels takes quadratic time, and a client chooses
// the domain.
func TestLongDomains(t *testing.T) {
	label := make([]rune, 700)
	for i := range label {
		label[i] = rune(0x4e00 + i)
	}
	long := string(label) + ".example"
	if got := Domain(long); got != long {
		t.Errorf("a domain of %d octets became %.40q", len(long), got)
	}
	if got := Parse("u@" + long + ".").Domain; got != long {
		t.Errorf("in an address: %.40q", got)
	}
	if got := Domain(string(label[:20]) + ".example"); !rcptgate.IsASCII(got) {
		t.Errorf("a short one is not converted: %q", got)
	}
}

func BenchmarkLongDomain(b *testing.B) {
	label := make([]rune, 2048/3)
	for i := range label {
		label[i] = rune(0x4e00 + i)
	}
	s := "u@" + string(label) + ".example"
	for b.Loop() {
		Parse(s)
	}
}

func BenchmarkShortUnicodeDomain(b *testing.B) {
	for b.Loop() {
		Parse("u@b\u00fccher.example")
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
		{`"Plain"@A.example`, "plain@a.example", "Plain@a.example"},         // Postfix will write it without quotes
		{`"plain"@a.example`, `"plain"@a.example`, `"plain"@a.example`},     // Sendmail will not
		{"u@a.example.", "u@a.example", "u@a.example"},                      //
		{"\u212a@a.example", "k@a.example", "k@a.example"},                  // another mailbox
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
		{"u@Example.com.", false, "u@Example.com"},
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
		if !m.IsCanonical() && Parse(m.Canonical()).Key(false) != m.Key(false) {
			t.Fatalf("Parse(%q): %q is written %q", s, m.Key(false), m.Canonical())
		}
		Target(m, s)
		if wire := Wire(m, false); wire == "" && m.Path != "" {
			t.Fatalf("Wire(%q) is empty", s)
		}
	})
}
