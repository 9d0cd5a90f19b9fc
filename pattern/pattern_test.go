// SPDX-License-Identifier: BSD-2-Clause

package pattern

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"rcptgate/address"
)

// language knows example.org as local, and a list.
func language() *Language {
	l := &Language{
		Delimiters: "+",
		Local: func(_ context.Context, domain string) (bool, error) {
			return domain == "" || domain == "example.org", nil
		},
		Clients: map[string]func(netip.Addr) bool{"trusted": func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.1") }},
		Hosts:   map[string]func(string) bool{"own": func(s string) bool { return s == "mx.example.org" }},
	}
	l.List = func(name string, kind Kind) (*List, error) {
		if name != "good" {
			return nil, errors.New("no such list")
		}
		entries := map[Kind][]string{Addresses: {"ann@example.net", "@.friends.example"}, Clients: {"10.0.0.0/8"}, Hosts: {".good.example"}, Names: {"joe", "lab*"}}[kind]
		list, _, err := l.NewList(kind, entries, nil)
		return list, err
	}
	return l
}

func setOf(t testing.TB, kind Kind, patterns ...string) *Set {
	t.Helper()
	s := language().NewSet(kind)
	for _, p := range patterns {
		if err := s.Add(p); err != nil {
			t.Fatalf("%q: %v", p, err)
		}
	}
	return s
}

func addressOf(path string) *Address {
	a := new(Address)
	a.SetPath(path, "+")
	return a
}

func TestAddresses(t *testing.T) {
	for _, tc := range []struct {
		patterns string // separated by blanks
		yes, no  string
	}{
		{"ann@example.org", "ann@example.org ANN@Example.ORG. ann+news@example.org \"ann\"@example.org", "bob@example.org ann@a.example.org ann <> xann@example.org"},
		{"ann+news@example.org", "ann+news@example.org Ann+News@example.org", "ann@example.org ann+x@example.org ann+news+x@example.org"},
		{"@example.org", "a@example.org a+b@EXAMPLE.org", "a@b.example.org a@xexample.org a <>"},
		{"@.example.org", "a@b.example.org a@c.b.example.org", "a@example.org a@xexample.org a@b.example.org.uk <>"},
		{"ann@.example.org", "ann@b.example.org ann+x@c.b.example.org", "ann@example.org bob@b.example.org"},
		{"ann@", "ann@x.example ann+d@y.example ann", "bob@x.example <> annx@x.example"},
		{"ann@*", "ann@x.example", "bob@x.example"},
		{"*@*.farm.example.net", "x@n1.farm.example.net y@a.b.farm.example.net", "x@farm.example.net x@nfarm.example.net <>"},
		{"*s@example.org", "news@example.org news+x@example.org", "new@example.org s@a.example.org"},
		{"n?w@ex*", "new@example.org n+w@exa", "nw@example.org neww@example.org new@xex"},
		{"a*@.example.org", "ab@c.example.org", "ab@example.org b@c.example.org"},
		{"*", "a@b a \"x y\"@z a@[192.0.2.1]", "<>"},
		{"<>", "<>", "a@b a"},
		{"@$local", "a@example.org root a+b@example.org", "a@example.net <>"},
		{"$local", "a@example.org root", "a@example.net <>"},
		{"ann@$local", "ann@example.org ann ann+x@example.org", "bob@example.org ann@example.net"},
		{"list:good", "ann@example.net a@b.friends.example", "ann@example.org a@friends.example"},
		{`/^[0-9]+@bigisp\.example$/`, "123@bigisp.example 1@BIGISP.example", "a1@bigisp.example 12+x@bigisp.example <>"},
		{`/^(<>)?$/`, "", "<> ann@example.org"}, // whatever it says, it is not about the null reverse-path
		{"!ann@example.org", "bob@example.org <>", "ann@example.org ann+x@example.org"},
		{"!list:good !<>", "bob@example.org", "ann@example.net <>"},
		{"@example.org !ann@example.org", "bob@example.org", "ann@example.org bob@example.net"},
		{"!ann@example.org @example.org", "bob@example.org", "ann@example.org bob@example.net"},
		{"a@[192.0.2.1]", "a@[192.0.2.1]", "a@[192.0.2.2]"},
		{"*@[192.0.*.1]", "a@[192.0.2.1]", "a@[192.0.2.2]"},
		{"@.0.2.1]", "", "a@[192.0.2.1]"}, // a literal has no domains above it
		{"*@b\u00fccher.* u?@*.b\u00dccher.example", "a@xn--bcher-kva.example ux@mail.b\u00fccher.example", "a@bucher.example uxx@mail.b\u00fccher.example"},
		{"u@b\u00fccher.example", "u@xn--bcher-kva.example u@B\u00dcCHER.example", "u@bucher.example"},
		{`"quo ted"@example.org`, `"quo ted"@example.org`, "quo@example.org"},
	} {
		s := setOf(t, Addresses, regexp.MustCompile(`"quo ted"@\S+|\S+`).FindAllString(tc.patterns, -1)...)
		for want, list := range map[bool]string{true: tc.yes, false: tc.no} {
			for _, path := range regexp.MustCompile(`"[^"]*"@?\S*|\S+`).FindAllString(list, -1) {
				a := addressOf(strings.TrimSuffix(strings.TrimPrefix(path, "<"), ">"))
				if got, err := s.Address(t.Context(), a); got != want || err != nil {
					t.Errorf("%s: %s matches: %v, %v", tc.patterns, path, got, err)
				}
				if want && !found(s, a) {
					t.Errorf("%s: %s is not found under any of the keys", tc.patterns, path)
				}
			}
		}
	}
}

// found reports whether an index would find a set for an address.
func found(s *Set, a *Address) bool {
	keys, ok := s.Keys()
	if !ok {
		return true
	}
	all := Forms(1<<formCount - 1)
	return !a.Keys(all, false, func(_ Form, key string) bool {
		return !slices.ContainsFunc(keys, func(k Key) bool { return k.Text == key })
	})
}

func TestKeys(t *testing.T) {
	for patterns, want := range map[string]string{
		"ann@example.org @b.example": "@b.example ann@example.org", "@.x.example ann@": ".x.example ann@", "ann@.x.example": "ann@.x.example", "<>": "<>",
		"*@*.farm.example.net": ".farm.example.net", "ann@mx?.example.org": "ann@", "n*@example.org": "@example.org", "n*@.example.org": ".example.org",
		"ann@$local": "ann@", "list:good": ".friends.example ann@example.net", "ann@example.org !bob@example.org": "ann@example.org",
		"*": "none", "!ann@example.org": "none", "@$local": "none", "/x/": "none", "a*@b*": "none", "ann@example.org /x/": "none",
	} {
		keys, ok := setOf(t, Addresses, strings.Fields(patterns)...).Keys()
		var texts []string
		for _, k := range keys {
			texts = append(texts, k.Text)
		}
		slices.Sort(texts)
		if got := strings.Join(texts, " "); ok != (want != "none") || ok && got != want {
			t.Errorf("%s: %q, %v", patterns, got, ok)
		}
	}
}

func TestOthers(t *testing.T) {
	for _, tc := range []struct {
		kind     Kind
		patterns string
		yes, no  string
	}{
		{Clients, "192.0.2.0/24 2001:db8::/32", "192.0.2.9 ::ffff:192.0.2.9 2001:db8::1", "192.0.3.1 2001:db9::1"},
		{Clients, "!$trusted", "192.0.2.2", "192.0.2.1"},
		{Clients, "$trusted list:good", "192.0.2.1 10.1.2.3", "192.0.2.2"},
		{Hosts, "mx.example.org .example.net", "MX.example.org. a.example.net a.b.example.net", "example.net xmx.example.org a.mx.example.org"},
		{Hosts, "b\u00fccher.example .b\u00fccher.example", "xn--bcher-kva.example mx.B\u00dcCHER.example", "bucher.example"},
		{Hosts, "*.b\u00fccher.example m?.b\u00dcCHER.test", "a.xn--bcher-kva.example a.b.b\u00fccher.example mx.xn--bcher-kva.test", "xn--bcher-kva.example a.bucher.example mxx.xn--bcher-kva.test"},
		{Hosts, "$own dsl-*", "mx.example.org dsl-1-2-3.isp.example", "mx.example.net"},
		{Hosts, `list:good /^\[/`, "a.good.example [192.0.2.1]", "good.example"},
		{Names, "ann list:good", "ANN joe lab7", "bob"},
		{Names, "*", "x", ""},
		{Names, ".example", ".example", "a.example"}, // a name has no names below it
	} {
		s := setOf(t, tc.kind, strings.Fields(tc.patterns)...)
		for want, list := range map[bool]string{true: tc.yes, false: tc.no} {
			for _, text := range strings.Fields(list) {
				var got bool
				var err error
				switch tc.kind {
				case Clients:
					got, err = s.Client(t.Context(), netip.MustParseAddr(text))
				case Hosts:
					got, err = s.Host(t.Context(), text)
				case Names, Addresses:
					got, err = s.Name(t.Context(), text)
				}
				if got != want || err != nil {
					t.Errorf("%v %s: %s matches: %v, %v", tc.kind, tc.patterns, text, got, err)
				}
			}
		}
	}
	if in, _ := setOf(t, Clients, "0.0.0.0/0", "::/0").Client(t.Context(), netip.Addr{}); in {
		t.Error("a client without an address is in a network")
	}
	if in, _ := setOf(t, Names, "*").Name(t.Context(), ""); in {
		t.Error("nobody is somebody")
	}
}

// TestRefused: what cannot be meant is named.
func TestRefused(t *testing.T) {
	for _, tc := range []struct {
		kind Kind
		text string
		want string
	}{
		{Addresses, "", "empty"}, {Addresses, "example.org", `no "@"`}, {Addresses, "@", "nothing but"}, {Addresses, "!!a@b", `one "!"`}, {Addresses, "/a@b", "slash at both ends"},
		{Addresses, "/(/", "missing"}, {Addresses, "a@$trusted", `only "$local"`}, {Addresses, "$own", `only "$local"`}, {Addresses, "list:", "expected a name"}, {Addresses, "list:bad", "no such list"},
		{Addresses, "a b@c", "blanks"}, {Addresses, "a@b..c", "not a domain"}, {Addresses, "a@.", "not a domain"}, {Addresses, "a@*b\u00fc", "A-label"}, {Hosts, "*b\u00fc.example", "A-label"}, {Addresses, strings.Repeat("a", 2000) + "@b", "at most"},
		{Addresses, "a*@$local", "no glob"}, {Clients, "192.0.2.1/24", "did you mean"}, {Clients, "mx.example.org", "network"}, {Clients, "$local", "$backends"}, {Clients, "/x/", "expected an address"},
		{Hosts, "a@b", "not a host name"}, {Hosts, "$trusted", `only "$own"`},
	} {
		err := language().NewSet(tc.kind).Add(tc.text)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v %q: %v, want %q", tc.kind, tc.text, err, tc.want)
		}
	}
	if _, at, err := language().NewList(Addresses, []string{"a@b", "list:good"}, nil); err == nil || at != 2 {
		t.Errorf("a list in a list: %d, %v", at, err)
	}
	if _, at, err := language().NewList(Addresses, []string{"!a@b"}, nil); err == nil || at != 1 {
		t.Errorf("an exception in a list: %d, %v", at, err)
	}
}

// TestUnknownIsNotNo: an error counts unless what is known decides.
func TestUnknownIsNotNo(t *testing.T) {
	l := language()
	down := errors.New("down")
	l.Local = func(context.Context, string) (bool, error) { return false, down }
	for patterns, want := range map[string]string{
		"@$local": "error", "@$local ann@example.org": "yes", "!@$local": "error", "!@$local ann@example.org": "error", "!@$local bob@example.org": "no", "!@$local !ann@example.org": "no",
	} {
		s := l.NewSet(Addresses)
		for _, p := range strings.Fields(patterns) {
			if err := s.Add(p); err != nil {
				t.Fatal(err)
			}
		}
		in, err := s.Address(t.Context(), addressOf("ann@example.org"))
		got := map[bool]string{true: "yes", false: "no"}[in]
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", patterns, got, want)
		}
	}
}

func TestMayBeNull(t *testing.T) {
	for patterns, want := range map[string]bool{
		"!list:good": true, "!list:good !<>": false, "<> a@b": true, "*": false, "@$local": false, "list:good": false, "a@b !<>": false,
	} {
		s := setOf(t, Addresses, strings.Fields(patterns)...)
		if got := s.MayBeNull(); got != want {
			t.Errorf("%s: %v", patterns, got)
		}
		if in, _ := s.Address(t.Context(), addressOf("")); in != want {
			t.Errorf("%s: <> matches: %v", patterns, in)
		}
	}
	if !setOf(t, Addresses, "<>").OnlyNull() || setOf(t, Addresses, "<>", "a@b").OnlyNull() {
		t.Error("OnlyNull is wrong")
	}
}

// FuzzPattern: no text breaks the reader, and whatever matches is found by an index.
func FuzzPattern(f *testing.F) {
	for _, s := range []string{"ann@example.org", "@.b.c", "*@*.x", "/a.*b/", "list:good", "!<>", "a@", "\"a b\"@c", "a+b@c", "?@?", "@$local", "a@b.", "*a*b*@c*", "[::1]", ".x"} {
		f.Add(s, "ann+x@sub.example.org")
	}
	f.Fuzz(func(t *testing.T, text, path string) {
		for _, kind := range []Kind{Addresses, Clients, Hosts, Names} {
			s := language().NewSet(kind)
			if s.Add(text) != nil {
				continue
			}
			_, _ = s.Host(t.Context(), path)
			_, _ = s.Name(t.Context(), path)
			if kind != Addresses {
				continue
			}
			m := address.Parse(path)
			a := new(Address)
			a.Set(&m, "+")
			if in, _ := s.Address(t.Context(), a); in && !found(s, a) {
				t.Errorf("%q matches %q and is not found under its keys", text, path)
			}
		}
	})
}

// TestSetPath: the short way for paths that are written as they are compared gives what the
// long way gives.
func TestSetPath(t *testing.T) {
	same := func(path string) error {
		var short, long Address
		short.SetPath("previous+x@example.org", "+-")
		short.SetPath(path, "+-")
		m := address.Parse(path)
		long.Set(&m, "+-")
		if short.String() != long.String() || short.at != long.at || short.base != long.base || short.user != long.user || short.domain() != long.domain() {
			return fmt.Errorf("%q: %+v, want %+v", path, short, long)
		}
		return nil
	}
	for _, path := range []string{
		"ann@example.org", `"ann@home"@example.org`, `ann"@example.org"`, `ann"x@y"@example.org`, `ann"@example.org`, `a\@b@c`, "ann@", "@", "",
	} {
		if err := same(path); err != nil {
			t.Error(err)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		path := ""
		for _, parts := range [][]string{
			{"", "<", "@relay:", `"`, `"`}, {"ann", "ann+x", "Ann", "a-b+c", "\u00fc", "owner-list", `a"b`, `a\@b`, ""},
			{"", `"`, "."}, {"@", "@", "", "@c@"}, {"example.org", "Example.org", "b\u00fccher.example", "[192.0.2.1]", ""}, {"", "", "", ".", "..", ">", ".>", `"`},
		} {
			path += rapid.SampledFrom(parts).Draw(rt, "part")
		}
		if err := same(path); err != nil {
			rt.Fatal(err)
		}
	})
}

// TestSieve: a sieve has every key that it was made of, and few others.
func TestSieve(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		keys := rapid.SliceOf(rapid.StringN(0, 40, 40)).Draw(rt, "keys")
		hashes := make([]uint64, len(keys))
		for i, key := range keys {
			hashes[i] = hashOf(key)
		}
		s := newSieve(hashes)
		for i, key := range keys {
			if !s.has(hashes[i]) || hashOf(strings.Clone(key)) != hashes[i] {
				rt.Fatalf("%q of %q is not in the sieve", key, keys)
			}
		}
	})
	var hashes []uint64
	for i := range 10_000 {
		hashes = append(hashes, hashOf(fmt.Sprintf("someone%d@sender%d.example", i, i%100)))
	}
	s, passed := newSieve(hashes), 0
	for i := range 10_000 {
		if s.has(hashOf(fmt.Sprintf("user%d@sender%d.example", i, i%100))) {
			passed++
		}
	}
	if passed > 200 {
		t.Errorf("%d of 10,000 other keys pass", passed)
	}
	if !sieve(nil).has(1) {
		t.Error("the empty sieve lacks a key")
	}
}
