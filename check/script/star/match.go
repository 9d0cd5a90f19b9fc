// SPDX-License-Identifier: BSD-2-Clause

package star

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"strings"
	"sync"

	"go.starlark.net/starlark"

	"rcptgate/config/setting"
	"rcptgate/pattern"
)

// Bounds of regular expressions.
const (
	regexpMax  = 4096    // octets of one
	subjectMax = 1 << 20 // octets of what it is tried on
	matchesMax = 10_000
	patternMax = 4096 // octets of what patterns are tried on
)

// searchAStep is how much of a search is a step: octets times instructions of the expression,
// each of which may have to be looked at for each octet.
const searchAStep = 256

// Regexp is a regular expression.
type Regexp struct {
	object
	re, whole *regexp.Regexp
	size      int // instructions
}

var regexpClass = newClass("regexp", "a regular expression, from re()",
	member[*Regexp]{name: "search", sign: "(text) -> match or None", doc: "the first match anywhere in the text", call: searchRegexp},
	member[*Regexp]{name: "match", sign: "(text) -> match or None", doc: "a match of the whole text", call: matchRegexp},
	member[*Regexp]{name: "findall", sign: "(text) -> list", doc: "all matches as strings. If the pattern has one group, the strings that the group matched", call: findRegexp},
	member[*Regexp]{name: "sub", sign: "(replacement, text) -> string", doc: "the text with every match replaced; $1 is the first group", call: subRegexp},
	member[*Regexp]{name: "pattern", sign: "string", doc: "the expression", get: func(x *Regexp) starlark.Value { return text(x.re.String()) }},
)

// String and the rest make Regexp a value.
func (x *Regexp) String() string                           { return fmt.Sprintf("re(%q)", x.re) }
func (*Regexp) Type() string                               { return regexpClass.name }
func (*Regexp) Hash() (uint32, error)                      { return unhashable("a regexp") }
func (x *Regexp) AttrNames() []string                      { return regexpClass.names }
func (x *Regexp) Attr(name string) (starlark.Value, error) { return regexpClass.attr(x, name) }

func newRegexp(_ *Call, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var p string
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "pattern", &p); err != nil {
		return nil, err
	}
	if len(p) > regexpMax {
		return nil, fmt.Errorf("a pattern of %d octets: at most %d are allowed", len(p), regexpMax)
	}
	re, err := regexp.Compile(p)
	if err != nil {
		return nil, err
	}
	whole, err := regexp.Compile(`\A(?:` + p + `)\z`)
	if err != nil {
		return nil, err
	}
	parsed, err := syntax.Parse(p, syntax.Perl)
	if err != nil {
		return nil, err
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	return &Regexp{re: re, whole: whole, size: len(prog.Inst)}, nil
}

// subject reads what an expression is tried on.
func (x *Regexp) subject(c *Call, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (string, error) {
	var s string
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "text", &s); err != nil {
		return "", err
	}
	return s, x.fits(c, s)
}

// fits bounds a text, and counts a search in it before it begins.
func (x *Regexp) fits(c *Call, s string) error {
	if len(s) > subjectMax {
		return fmt.Errorf("a text of %d octets: an expression is tried on at most %d", len(s), subjectMax)
	}
	return c.works(len(s)/16 + len(s)*x.size/searchAStep)
}

func searchRegexp(c *Call, x *Regexp, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	s, err := x.subject(c, b, args, kwargs)
	if err != nil {
		return nil, err
	}
	return newMatch(x.re.FindStringSubmatchIndex(s), s), nil
}

func matchRegexp(c *Call, x *Regexp, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	s, err := x.subject(c, b, args, kwargs)
	if err != nil {
		return nil, err
	}
	return newMatch(x.whole.FindStringSubmatchIndex(s), s), nil
}

func findRegexp(c *Call, x *Regexp, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	s, err := x.subject(c, b, args, kwargs)
	if err != nil {
		return nil, err
	}
	found := x.re.FindAllStringSubmatch(s, matchesMax)
	list := make([]starlark.Value, len(found))
	for i, m := range found {
		if len(m) == 2 {
			list[i] = text(m[1])
		} else {
			list[i] = text(m[0])
		}
	}
	return starlark.NewList(list), nil
}

func subRegexp(c *Call, x *Regexp, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var with, s string
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "replacement", &with, "text", &s); err != nil {
		return nil, err
	}
	if err := x.fits(c, s); err != nil {
		return nil, err
	}
	var out []byte
	at := 0
	for _, loc := range x.re.FindAllStringSubmatchIndex(s, -1) {
		out = x.re.ExpandString(append(out, s[at:loc[0]]...), with, s, loc)
		if at = loc[1]; len(out) > stringMax {
			return nil, tooLong(len(out))
		}
	}
	out = append(out, s[at:]...)
	return text(string(out)), lengthOK(true, len(out))
}

// Match is where an expression matches.
type Match struct {
	object
	s   string
	loc []int
}

var matchClass = newClass("match", "one match of a regular expression",
	member[*Match]{name: "group", sign: "(n=0) -> string or None", doc: "the text that a group matched; 0 is the whole match", call: groupOf},
	member[*Match]{name: "groups", sign: "list", doc: "the texts that the groups matched, from group 1 on", get: (*Match).groups},
	member[*Match]{name: "start", sign: "int", doc: "where the match begins in the text", get: func(x *Match) starlark.Value { return starlark.MakeInt(x.loc[0]) }},
	member[*Match]{name: "end", sign: "int", doc: "where it ends", get: func(x *Match) starlark.Value { return starlark.MakeInt(x.loc[1]) }},
)

func newMatch(loc []int, s string) starlark.Value {
	if loc == nil {
		return starlark.None
	}
	return &Match{s: s, loc: loc}
}

// String and the rest make Match a value.
func (x *Match) String() string                           { return fmt.Sprintf("match(%q)", x.s[x.loc[0]:x.loc[1]]) }
func (*Match) Type() string                               { return matchClass.name }
func (*Match) Hash() (uint32, error)                      { return unhashable("a match") }
func (x *Match) AttrNames() []string                      { return matchClass.names }
func (x *Match) Attr(name string) (starlark.Value, error) { return matchClass.attr(x, name) }

func (x *Match) at(n int) starlark.Value {
	if x.loc[2*n] < 0 {
		return starlark.None
	}
	return text(x.s[x.loc[2*n]:x.loc[2*n+1]])
}

func (x *Match) groups() starlark.Value {
	var list []starlark.Value
	for n := 1; n < len(x.loc)/2; n++ {
		list = append(list, x.at(n))
	}
	return starlark.NewList(list)
}

func groupOf(_ *Call, x *Match, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	n := 0
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "n?", &n); err != nil {
		return nil, err
	}
	if n < 0 || n >= len(x.loc)/2 {
		return nil, fmt.Errorf("no group %d: there are %d", n, len(x.loc)/2-1)
	}
	return x.at(n), nil
}

// Networks is a list of IP networks.
type Networks struct {
	object
	nets []setting.Network
}

// String and the rest make Networks a value that things can be in.
func (x *Networks) String() string      { return fmt.Sprintf("cidr(%v)", x.nets) }
func (*Networks) Type() string          { return "networks" }
func (*Networks) Hash() (uint32, error) { return unhashable("a list of networks") }

// Has reports whether an address is in one of the networks.
func (x *Networks) Has(v starlark.Value) (bool, error) {
	s, ok := starlark.AsString(v)
	if !ok {
		return false, fmt.Errorf("in cidr(): expected an IP address, not a value of type %s", v.Type())
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return false, nil //nolint:nilerr // not an address, "" of a local client for one
	}
	for i := range x.nets {
		if x.nets[i].Has(a) {
			return true, nil
		}
	}
	return false, nil
}

func newNetworks(_ *Call, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	list, err := stringsOf(b, "networks", args, kwargs)
	if err != nil {
		return nil, err
	}
	x := new(Networks)
	for _, s := range list {
		n, err := setting.ParseNetwork(s)
		if err != nil {
			return nil, err
		}
		x.nets = append(x.nets, n)
	}
	return x, nil
}

// stringsOf reads a list of strings, or one string, as the only argument.
func stringsOf(b *starlark.Builtin, name string, args starlark.Tuple, kwargs []starlark.Tuple) ([]string, error) {
	var v starlark.Value
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, name, &v); err != nil {
		return nil, err
	}
	return listOf(v)
}

func listOf(v starlark.Value) (list []string, err error) {
	if s, ok := starlark.AsString(v); ok {
		return []string{s}, nil
	}
	iter := starlark.Iterate(v)
	if iter == nil {
		return nil, fmt.Errorf("expected a list of strings, not a value of type %s", v.Type())
	}
	defer iter.Done()
	for e := starlark.Value(nil); iter.Next(&e); {
		s, ok := starlark.AsString(e)
		if !ok {
			return nil, fmt.Errorf("expected a list of strings; it has a value of type %s", e.Type())
		}
		list = append(list, s)
	}
	return list, nil
}

// Patterns is a set of patterns, as rules have them.
type Patterns struct {
	object
	set        *pattern.Set
	kind       pattern.Kind
	delimiters string
	spare      sync.Pool // of *pattern.Address
}

// String and the rest make Patterns a value that things can be in.
func (x *Patterns) String() string      { return "patterns(" + x.kind.String() + ")" }
func (*Patterns) Type() string          { return "patterns" }
func (*Patterns) Hash() (uint32, error) { return unhashable("a set of patterns") }

// Has reports whether the patterns match.
func (x *Patterns) Has(v starlark.Value) (bool, error) {
	s, ok := starlark.AsString(v)
	if !ok {
		return false, fmt.Errorf("in patterns(): expected a string, not a value of type %s", v.Type())
	}
	if len(s) > patternMax {
		return false, fmt.Errorf("in patterns(): a text of %d octets: patterns are tried on at most %d", len(s), patternMax)
	}
	ctx := context.Background()
	switch x.kind {
	case pattern.Clients:
		a, err := netip.ParseAddr(s)
		if err != nil {
			return false, nil //nolint:nilerr // no pattern matches what is not an address
		}
		return x.set.Client(ctx, a)
	case pattern.Hosts:
		return x.set.Host(ctx, s)
	case pattern.Names:
		return x.set.Name(ctx, s)
	case pattern.Addresses:
	}
	a, _ := x.spare.Get().(*pattern.Address)
	if a == nil {
		a = new(pattern.Address)
	}
	defer x.spare.Put(a)
	a.SetPath(s, x.delimiters)
	return x.set.Address(ctx, a)
}

var kinds = map[string]pattern.Kind{"address": pattern.Addresses, "client": pattern.Clients, "host": pattern.Hosts, "name": pattern.Names} //nolint:gochecknoglobals // a table

func newPatterns(c *Call, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var v starlark.Value
	word := "address"
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "list", &v, "kind?", &word); err != nil {
		return nil, err
	}
	list, err := listOf(v)
	if err != nil {
		return nil, err
	}
	kind, ok := kinds[word]
	if !ok {
		return nil, fmt.Errorf("%q is not a kind: expected \"address\", \"client\", \"host\" or \"name\"", word)
	}
	if c.Env.Language == nil {
		return nil, errNotHere
	}
	x := &Patterns{set: c.Env.Language.NewSet(kind), kind: kind, delimiters: c.Env.Language.Delimiters}
	var errs []error
	for _, s := range list {
		if err := x.set.Add(strings.TrimSpace(s)); err != nil {
			errs = append(errs, err)
		}
	}
	return x, errors.Join(errs...)
}

func isIP6(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is6() && !a.Is4In6()
}
