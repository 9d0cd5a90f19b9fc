// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"rcptgate"
	"rcptgate/address"
)

// What follows says by itself, and as plainly as it can, what rules and patterns mean. It
// shares nothing with the program but the configuration.

func plainAddress(pattern, addr string) bool {
	if pattern == "<>" || addr == "" {
		return pattern == "<>" && addr == ""
	}
	pattern, addr = strings.ToLower(pattern), strings.ToLower(addr)
	if strings.HasPrefix(pattern, "/") {
		return regexp.MustCompile(strings.Trim(pattern, "/")).MatchString(addr)
	}
	if pattern == "*" {
		return true
	}
	local, domain, _ := strings.Cut(addr, "@")
	wantLocal, wantDomain, _ := strings.Cut(pattern, "@")
	base, _, _ := strings.Cut(local, "+")
	if wantLocal != "" && !plainGlob(wantLocal, local) && !plainGlob(wantLocal, base) {
		return false
	}
	switch {
	case wantDomain == "$local":
		return domain == "" || domain == "own.example"
	case wantDomain == "" || wantDomain == "*":
		return true
	case domain == "":
		return false
	case wantDomain[0] == '.':
		for at := strings.IndexByte(domain, '.'); at >= 0; at = strings.IndexByte(domain, '.') {
			if domain = domain[at+1:]; plainGlob(wantDomain[1:], domain) {
				return true
			}
		}
		return false
	}
	return plainGlob(wantDomain, domain)
}

// plainGlob is that of the standard library, for which these names have nothing special.
func plainGlob(pattern, s string) bool {
	ok, _ := path.Match(pattern, s)
	return ok
}

func plainSet(list []string, lists map[string][]string, matches func(pattern string) bool) bool {
	if len(list) == 0 {
		return true
	}
	positive, matched := false, false
	for _, p := range list {
		text, not := strings.CutPrefix(p, "!")
		patterns := []string{text}
		if name, ok := strings.CutPrefix(text, "list:"); ok {
			patterns = lists[name]
		}
		hit := false
		for _, one := range patterns {
			hit = hit || matches(one)
		}
		if not && hit {
			return false
		}
		positive, matched = positive || !not, matched || !not && hit
	}
	return matched || !positive
}

// plainFirst gives the number of the first rule that matches, from 1; 0 is none.
func plainFirst(rules []RuleConfig, lists map[string][]string, q *rcptgate.Query) int {
	for i, r := range rules {
		ok := plainSet(r.Sender, lists, func(p string) bool { return plainAddress(p, q.Sender) }) &&
			plainSet(r.Recipient, lists, func(p string) bool { return plainAddress(p, q.Recipient.Path) }) &&
			plainSet(r.AuthUser, lists, func(p string) bool { return q.AuthUser != "" && plainGlob(p, q.AuthUser) }) &&
			plainSet(r.Client, lists, func(p string) bool {
				return q.Client.IsValid() && netip.MustParsePrefix(p).Contains(q.Client)
			}) && (r.Auth == nil || *r.Auth == (q.AuthUser != ""))
		if ok && (r.Enforce == nil || *r.Enforce) {
			return i + 1
		}
	}
	return 0
}

// TestIndexIsFirstMatch: however rules are filed, the first that matches decides.
func TestIndexIsFirstMatch(t *testing.T) {
	lists := map[string][]string{"one": {"ann@own.example", "@a.example"}, "two": {"b*@", "@.own.example"}}
	addresses := rapid.SampledFrom([]string{
		"ann@own.example", "ann+x@own.example", "bob@own.example", "bob", "ann@a.example", "bob@b.a.example", "carl@c.b.a.example", "ann@x.own.example", "Bob@OWN.example", "", "12@a.example",
	})
	patterns := rapid.SampledFrom([]string{
		"ann@own.example", "ann+x@own.example", "@own.example", "@a.example", "@.a.example", "ann@.own.example", "ann@", "@$local", "ann@$local", "a*@own.example", "*@*.a.example", "*b@c.*.example",
		"*", "<>", "/^[0-9]+@/", "list:one", "list:two", "bob@b.a.example", "?ob@.a.example", "b*@*",
	})
	rapid.Check(t, func(rt *rapid.T) {
		set := func(g *rapid.Generator[string], most int, label string) (list []string) {
			for range rapid.IntRange(0, most).Draw(rt, label) {
				list = append(list, rapid.SampledFrom([]string{"", "", "", "!"}).Draw(rt, label+" not")+g.Draw(rt, label+" pattern"))
			}
			return list
		}
		var rules []RuleConfig
		for range rapid.IntRange(1, 12).Draw(rt, "rules") {
			r := RuleConfig{Sender: set(patterns, 2, "sender"), Recipient: set(patterns, 3, "recipient")}
			r.Client = set(rapid.SampledFrom([]string{"192.0.2.0/24", "192.0.0.0/16", "10.0.0.1/32", "2001:db8::/32", "0.0.0.0/0"}), 1, "client")
			r.AuthUser = set(rapid.SampledFrom([]string{"joe", "j*", "kim"}), 1, "user")
			if b := rapid.IntRange(0, 3).Draw(rt, "auth"); b > 1 {
				is := b == 2
				r.Auth = &is
			}
			if rapid.IntRange(0, 5).Draw(rt, "rehearsed") == 0 {
				r.Enforce = new(bool)
			}
			rules = append(rules, r)
		}
		c, err := newCheck(options{config: new(Config), rules: rules, lists: []ListConfig{{Name: "one", Entries: lists["one"]}, {Name: "two", Entries: lists["two"]}}, language: testLanguage(), counters: new(counters)})
		if err != nil {
			rt.Fatal(err)
		}
		for range 20 {
			q := &rcptgate.Query{Sender: addresses.Draw(rt, "from"), Recipient: address.Parse(addresses.Filter(func(s string) bool { return s != "" }).Draw(rt, "to"))}
			q.Target = q.Recipient
			q.AuthUser = rapid.SampledFrom([]string{"", "joe", "kim"}).Draw(rt, "as")
			q.Client = rapid.SampledFrom([]netip.Addr{{}, netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")}).Draw(rt, "from")
			v, err := c.Check(t.Context(), q)
			if err != nil {
				rt.Fatal(err)
			}
			want, got := plainFirst(rules, lists, q), strings.TrimPrefix(string(v.Reason), "rule:")
			if v.Would != rcptgate.Continue {
				got = ""
			}
			_, explained, _ := c.explain(t.Context(), q, q.Now())
			if name := strings.TrimPrefix(fmt.Sprint(want), "0"); got != name || explained.name != name {
				rt.Fatalf("<%s> to %s as %q from %v: rule %q, explained %q; want %q of\n%+v", q.Sender, q.Recipient.Path, q.AuthUser, q.Client, got, explained.name, name, rules)
			}
		}
	})
}
