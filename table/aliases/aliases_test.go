// SPDX-License-Identifier: BSD-2-Clause

package aliases

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want []Target
	}{
		{"root", []Target{{Local, "root"}}},
		{"root, joe,ann", []Target{{Local, "root"}, {Local, "joe"}, {Local, "ann"}}},
		{"a@b.example", []Target{{Address, "a@b.example"}}},
		{"joe @ example . com", []Target{{Address, "joe@example.com"}}},
		{`\joe, list`, []Target{{Escaped, "joe"}, {Local, "list"}}},
		{`\joe@example.com`, []Target{{Address, "joe@example.com"}}},
		{`"\\joe"`, []Target{{Escaped, "joe"}}},
		{"/dev/null", []Target{{File, "/dev/null"}}},
		{`"/var/mail/a b"`, []Target{{File, "/var/mail/a b"}}},
		{`"|/usr/bin/prog -x, \"y z\""`, []Target{{Program, `/usr/bin/prog -x, "y z"`}}},
		{`|/usr/bin/prog -x y, joe`, []Target{{Program, "/usr/bin/prog -x y"}, {Local, "joe"}}},
		{`|"/usr/bin/prog a, b"`, []Target{{Program, "/usr/bin/prog a, b"}}},
		{":include:/etc/mail/list", []Target{{Include, "/etc/mail/list"}}},
		{`":include:/etc/mail/a list", :Include:/b`, []Target{{Include, "/etc/mail/a list"}, {Include, "/b"}}},
		{`Joe User <joe@example.com>, "User, Ann" <ann>`, []Target{{Address, "joe@example.com"}, {Local, "ann"}}},
		{"<@a.example,@b.example:joe@c.example>", []Target{{Address, "joe@c.example"}}},
		{"joe (a (nested, one) comment), ann", []Target{{Local, "joe"}, {Local, "ann"}}},
		{"friends: joe, ann@x.example; eve", []Target{{Local, "joe"}, {Address, "ann@x.example"}, {Local, "eve"}}},
		{`"joe user"@example.com`, []Target{{Address, `"joe user"@example.com`}}},
		{`"a@b"@example.com`, []Target{{Address, `"a@b"@example.com`}}},
		{`"joe user"`, []Target{{Local, "joe user"}}},
		{`first.last+detail`, []Target{{Local, "first.last+detail"}}},
		{"joe@[192.0.2.1]", []Target{{Address, "joe@[192.0.2.1]"}}},
		{":fail: gone away", []Target{{Other, ":fail: gone away"}}},
		{"error:nouser 550 no such user", []Target{{Other, "error:nouser 550 no such user"}}},
		{"joe, , ann,", []Target{{Local, "joe"}, {Local, "ann"}}},
		{"jürgen@bücher.example", []Target{{Address, "jürgen@bücher.example"}}},
		{"joe@", []Target{{Other, "joe@"}}},
		{`"joe@example.com"`, []Target{{Other, "joe@example.com"}}},
	} {
		got, err := Parse(tc.in)
		if err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %v, %v; want %v", tc.in, got, err, tc.want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want error
	}{
		{"", ErrEmpty},
		{" , (nobody)", ErrEmpty},
		{`"joe`, ErrQuote},
		{`|"prog`, ErrQuote},
		{"joe (never closed", ErrComment},
		{"Joe <joe@example.com", ErrAngle},
		{"joe ann", ErrSpace},
		{"<joe ann>", ErrSpace},
		{strings.Repeat("a,", MaxTargets+1), ErrMany},
	} {
		if got, err := Parse(tc.in); !errors.Is(err, tc.want) {
			t.Errorf("%.40s: %v, %v; want %v", tc.in, len(got), err, tc.want)
		}
	}
}

func TestParseInclude(t *testing.T) {
	got, err := ParseInclude("# the staff\njoe, ann@example.com\r\n\n  \n\"unclosed\n|prog\neve (last),")
	want := []Target{{Local, "joe"}, {Address, "ann@example.com"}, {Program, "prog"}, {Local, "eve"}}
	if !errors.Is(err, ErrQuote) || err.Error() != "line 5: a quotation mark is not closed" {
		t.Errorf("error = %v", err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v: the good lines count", got, want)
	}
	if got, err := ParseInclude("# nobody\n\n"); len(got) != 0 || err != nil {
		t.Errorf("an empty list: %v, %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"root", `"|prog, x", :include:/a, \joe, Joe <j@x>, g: a, b; c`, `"a\"b"@c`, "a(b(c)d)e", "<@r:a@b>", `\"joe u"`, "a . b @ c", "\x00,\xff",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		targets, err := Parse(s)
		if err != nil {
			return
		}
		if len(targets) > len(s) {
			t.Fatalf("%d targets of %d octets", len(targets), len(s))
		}
		for _, target := range targets {
			if target.Kind == Other {
				continue
			}
			again, err := Parse(target.String())
			if err != nil || len(again) != 1 || again[0] != target {
				t.Fatalf("%q: %#v is written %q and read again as %#v, %v", s, target, target.String(), again, err)
			}
		}
	})
}
