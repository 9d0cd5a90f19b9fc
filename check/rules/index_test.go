// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"context"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/pattern"
	"rcptgate/table"
	tableindex "rcptgate/table/index"
	"rcptgate/table/open"
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

// plainPair is a line of a file of pairs.
type plainPair struct{ sender, recipient, action string }

func linesOf(pairs []plainPair) (text string) {
	for _, p := range pairs {
		text += p.sender + " " + p.recipient + " " + p.action + "\n"
	}
	return text
}

// rank says how exact a pattern is that matches an address: the lower, the more.
func rank(pattern, addr string) (r [3]int) {
	local, domain, _ := strings.Cut(pattern, "@")
	user, _, _ := strings.Cut(addr, "@")
	switch below := strings.HasPrefix(domain, "."); {
	case pattern == "*":
		r[0] = 5
	case local == "" && below:
		r[0] = 4
	case local == "":
		r[0] = 3
	case domain == "":
		r[0] = 2
	case below:
		r[0] = 1
	}
	r[1] = -len(domain)
	if !strings.EqualFold(local, user) {
		r[2] = 1
	}
	return r
}

// mostExact gives the pair that counts: that of the most exact sender, and of these that of the most
// exact recipient.
func mostExact(pairs []plainPair, sender, recipient string) (best *plainPair) {
	less := func(a, b *plainPair) int {
		s, t := rank(a.sender, sender), rank(b.sender, sender)
		if d := slices.Compare(s[:], t[:]); d != 0 {
			return d
		}
		s, t = rank(a.recipient, recipient), rank(b.recipient, recipient)
		return slices.Compare(s[:], t[:])
	}
	for i := range pairs {
		p := &pairs[i]
		if plainAddress(p.sender, sender) && plainAddress(p.recipient, recipient) && (best == nil || less(p, best) < 0) {
			best = p
		}
	}
	return best
}

// fileOfTwo is a table that has one of two contents.
type fileOfTwo struct {
	contents [2]*tableindex.Index
	now      int
}

func (f *fileOfTwo) Lookup(_ context.Context, key string) (value string, found bool, err error) {
	value, found = f.contents[f.now].Get(key)
	return value, found, nil
}

func (f *fileOfTwo) Generation() any { return f.contents[f.now] }

func (f *fileOfTwo) Summaries() ([]string, error) {
	text, _ := f.contents[f.now].Get(table.Summary)
	return []string{text}, nil
}

// fileOf reads lines as a map file of a format.
func fileOf(rt *rapid.T, wrap func(table.Format) table.Format, lines func(i int) string) *fileOfTwo {
	f := new(fileOfTwo)
	for i := range f.contents {
		text := lines(i)
		inner, err := open.Format("texthash", func(err error) { rt.Fatal(err) })
		if err != nil {
			rt.Fatal(err)
		}
		var b tableindex.Builder
		if err := wrap(inner).Scan(context.Background(), strings.NewReader(text), int64(len(text)), b.Add); err != nil {
			rt.Fatal(err)
		}
		f.contents[i] = b.Build(nil)
	}
	return f
}

// drawTables makes two contents of a file of pairs, and of a list.
func drawTables(rt *rapid.T) (pairs [2][]plainPair, members [2][]string) {
	exact := rapid.SampledFrom([]string{
		"ann@own.example", "ann+x@own.example", "bob@b.a.example", "@own.example", "@a.example", "@.a.example", "@.example", "ann@.own.example", "ann@.example", "bob@", "ann+x@", "<>", "*",
	})
	for i := range 2 {
		for range rapid.IntRange(0, 4).Draw(rt, "pairs") {
			p := plainPair{exact.Draw(rt, "sender"), exact.Filter(func(s string) bool { return s != "<>" }).Draw(rt, "recipient"), rapid.SampledFrom([]string{"reject", "tempfail", "discard"}).Draw(rt, "action")}
			pairs[i] = append(pairs[i], p)
		}
		for range rapid.IntRange(0, 3).Draw(rt, "members") {
			members[i] = append(members[i], exact.Filter(func(s string) bool { return s != "*" }).Draw(rt, "member"))
		}
	}
	return pairs, members
}

// TestIndexIsFirstMatch: however rules are filed, the first that matches decides; before them, the most
// exact pair. Tables change between questions.
func TestIndexIsFirstMatch(t *testing.T) {
	lists := map[string][]string{"one": {"ann@own.example", "@a.example"}, "two": {"b*@", "@.own.example"}, "three": nil}
	addresses := rapid.SampledFrom([]string{
		"ann@own.example", "ann+x@own.example", "bob@own.example", "bob", "ann@a.example", "bob@b.a.example", "carl@c.b.a.example", "ann@x.own.example", "Bob@OWN.example", "", "12@a.example",
	})
	patterns := rapid.SampledFrom([]string{
		"ann@own.example", "ann+x@own.example", "@own.example", "@a.example", "@.a.example", "ann@.own.example", "ann@", "@$local", "ann@$local", "a*@own.example", "*@*.a.example", "*b@c.*.example",
		"*", "<>", "/^[0-9]+@/", "list:one", "list:two", "list:three", "bob@b.a.example", "?ob@.a.example", "b*@*",
	})
	rapid.Check(t, func(rt *rapid.T) {
		pairs, members := drawTables(rt)
		var files []*fileOfTwo
		set := func(g *rapid.Generator[string], most int, label string) (list []string) {
			for range rapid.IntRange(0, most).Draw(rt, label) {
				list = append(list, rapid.SampledFrom([]string{"", "", "", "!"}).Draw(rt, label+" not")+g.Draw(rt, label+" pattern"))
			}
			return list
		}
		var rules []RuleConfig
		for range rapid.IntRange(1, 12).Draw(rt, "rules") {
			r := RuleConfig{Sender: set(patterns, 2, "sender"), Recipient: set(patterns, 3, "recipient")}
			r.Client = set(rapid.SampledFrom([]string{"192.0.2.0/24", "192.0.0.0/16", "10.0.0.1/32", "2001:db8::/32", "0.0.0.0/0", "8.0.0.0/5"}), 1, "client")
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
		file := table.Spec{Type: "texthash", Name: "file"}
		c, err := newCheck(options{
			config: &Config{Pairs: []table.Spec{file}}, rules: rules, language: testLanguage(), counters: new(counters),
			lists: []ListConfig{{Name: "one", Entries: lists["one"]}, {Name: "two", Entries: lists["two"]}, {Name: "three", Table: []table.Spec{file}}},
			open: func(kind pattern.Kind, _ table.Spec) (table.Table, error) {
				files = append(files, fileOf(rt, func(f table.Format) table.Format { return pattern.Format(kind, f) }, func(i int) string { return strings.Join(append(members[i], ""), " x\n") }))
				return files[len(files)-1], nil
			},
			openPairs: func(name string, _ table.Spec) (table.Table, error) {
				files = append(files, fileOf(rt, func(f table.Format) table.Format { return pairFormat{f, name, readPair} }, func(i int) string { return linesOf(pairs[i]) }))
				return files[len(files)-1], nil
			},
		})
		if err != nil {
			rt.Fatal(err)
		}
		sender := ""
		for range 20 {
			if rapid.Bool().Draw(rt, "another message") {
				sender = addresses.Draw(rt, "from")
			}
			now := rapid.IntRange(0, 1).Draw(rt, "content")
			for _, f := range files {
				f.now = now
			}
			lists["three"] = members[now]
			q := &rcptgate.Query{Sender: sender, Recipient: address.Parse(addresses.Filter(func(s string) bool { return s != "" }).Draw(rt, "to"))}
			q.Target = q.Recipient
			q.AuthUser = rapid.SampledFrom([]string{"", "joe", "kim"}).Draw(rt, "as")
			q.Client = rapid.SampledFrom([]netip.Addr{{}, netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")}).Draw(rt, "from")
			v, err := c.Check(t.Context(), q)
			if err != nil {
				rt.Fatal(err)
			}
			want := ""
			if p := mostExact(pairs[now], q.Sender, q.Recipient.Path); p != nil {
				want = "pairs " + p.action
			} else if n := plainFirst(rules, lists, q); n > 0 {
				want = fmt.Sprintf("%d reject", n)
			}
			got := strings.TrimPrefix(string(v.Reason)+" "+v.Action.String(), "rule:")
			if v.Would != rcptgate.Continue || v.Reason == "" {
				got = ""
			}
			_, explained, _ := c.explain(t.Context(), q, q.Now())
			if said := strings.TrimSpace(explained.name + " " + explained.act.String()); got != want || explained.name != "" && said != want || explained.name == "" && want != "" {
				rt.Fatalf("<%s> to %s as %q from %v: %q, explained %q; want %q of\n%+v\n%+v\n%v", q.Sender, q.Recipient.Path, q.AuthUser, q.Client, got, explained.name, want, rules, pairs[now], members[now])
			}
		}
	})
}
