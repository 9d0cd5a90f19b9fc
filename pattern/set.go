// SPDX-License-Identifier: BSD-2-Clause

package pattern

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"rcptgate/address"
	"rcptgate/config/setting"
)

// Language is what patterns are read with: what its words stand for, and where lists are
// found. Functions may be nil: the word is then unknown.
type Language struct {
	// Delimiters separate a detail from a user's name; see [rcptgate/address.SplitDetail].
	Delimiters string
	// Local reports whether a domain is the site's own: $local. "" is the domain of a bare
	// name.
	Local func(ctx context.Context, domain string) (bool, error)
	// Clients are the words for clients: "trusted" for $trusted.
	Clients map[string]func(client netip.Addr) bool
	// Hosts are the words for host names, which are in lower case.
	Hosts map[string]func(name string) bool
	// List finds a list by its name, read as patterns of a kind.
	List func(name string, kind Kind) (*List, error)
}

// Set is the patterns of one condition. It matches if one of those without "!" does, or if
// there is none, and none of those with "!" does. A Set does not change once it is made.
type Set struct {
	lang    *Language
	kind    Kind
	holds   group // one of them has to match, unless there is none
	excepts group // none of them may
}

// List is patterns that have a name. It does not change once it is made; its tables do.
type List struct {
	group
	Tables []*Table
}

// group is patterns of which one has to match.
type group struct {
	size   int
	keys   map[string]struct{}
	forms  Forms
	globs  []*glob  // of addresses
	wilds  []string // of hosts and names
	exprs  []*regexp.Regexp
	locals []string // what stands before @$local; "" is everybody
	nets   []setting.Network
	client []func(netip.Addr) bool
	host   []func(string) bool
	lists  []*List
}

// NewSet makes an empty set.
func (l *Language) NewSet(kind Kind) *Set { return &Set{lang: l, kind: kind} }

// Add reads one pattern. The error names it.
func (s *Set) Add(text string) error {
	g := &s.holds
	if rest, not := strings.CutPrefix(text, "!"); not {
		g, text = &s.excepts, rest
	}
	return s.lang.add(g, s.kind, text)
}

// NewList makes a list of patterns and tables. "!" and other lists are not for lists. The
// error says which entry it is, counted from 1.
func (l *Language) NewList(kind Kind, entries []string, tables []*Table) (list *List, at int, err error) {
	list = &List{Tables: tables}
	for i, text := range entries {
		if strings.HasPrefix(text, "list:") {
			return nil, i + 1, fmt.Errorf("%q: a list cannot name another list", text)
		}
		if err := l.add(&list.group, kind, text); err != nil {
			return nil, i + 1, err
		}
	}
	return list, 0, nil
}

func (l *Language) add(g *group, kind Kind, text string) error {
	read := [...]func(*group, string) error{l.addAddress, l.addClient, l.addHost, l.addName}[kind]
	if err := read(g, text); err != nil {
		return err
	}
	g.size++
	return nil
}

func (l *Language) addAddress(g *group, text string) error {
	p, err := parseAddress(text)
	switch {
	case err != nil:
		return err
	case p.word != "" && l.Local == nil:
		return fmt.Errorf("%q: no local domains are known", text)
	case p.word != "":
		g.locals = append(g.locals, p.user)
	case p.glob != nil:
		g.globs = append(g.globs, p.glob)
	case p.key != "":
		g.forms.Add(p.form)
		g.addKey(p.key)
	default:
		return l.addCommon(g, &p, Addresses)
	}
	return nil
}

// addCommon adds what patterns of every kind can be.
func (l *Language) addCommon(g *group, p *parsed, kind Kind) error {
	if p.expr != nil {
		g.exprs = append(g.exprs, p.expr)
		return nil
	}
	if l.List == nil {
		return fmt.Errorf("list:%s: lists are not known here", p.list)
	}
	list, err := l.List(p.list, kind)
	if err == nil {
		g.lists = append(g.lists, list)
	}
	return err
}

func (g *group) addKey(key string) {
	if g.keys == nil {
		g.keys = make(map[string]struct{})
	}
	g.keys[key] = struct{}{}
}

func (l *Language) addClient(g *group, text string) error {
	if text == "" || text[0] == '/' {
		return fmt.Errorf("%q: of a client, expected an address, a network, \"$trusted\", \"$own\", \"$backends\" or \"list:NAME\"", text)
	}
	if word, ok := strings.CutPrefix(text, "$"); ok {
		test := l.Clients[word]
		if test == nil {
			return fmt.Errorf("%q: of clients, only \"$trusted\", \"$own\" and \"$backends\" are known", text)
		}
		g.client = append(g.client, test)
		return nil
	}
	if p, done, err := common(text); done {
		if err != nil {
			return err
		}
		return l.addCommon(g, &p, Clients)
	}
	n, err := setting.ParseNetwork(text)
	if err == nil {
		g.nets = append(g.nets, n)
	}
	return err
}

func (l *Language) addHost(g *group, text string) error {
	if word, ok := strings.CutPrefix(text, "$"); ok {
		test := l.Hosts[word]
		if test == nil {
			return fmt.Errorf("%q: of host names, only \"$own\" is known", text)
		}
		g.host = append(g.host, test)
		return nil
	}
	return l.addText(g, Hosts, strings.TrimSuffix(text, "."))
}

func (l *Language) addName(g *group, text string) error { return l.addText(g, Names, text) }

// addText reads what is compared as it is: host names and names.
func (l *Language) addText(g *group, kind Kind, text string) error {
	p, done, err := common(text)
	switch {
	case err != nil:
		return err
	case done:
		return l.addCommon(g, &p, kind)
	case strings.ContainsAny(text, "*?"):
		if kind == Hosts {
			if text, err = globDomain(text, text); err != nil {
				return err
			}
		}
		g.wilds = append(g.wilds, fold(text))
	case kind == Hosts && strings.ContainsAny(text, "@ \t"):
		return fmt.Errorf("%q is not a host name: expected \"mx.example.org\", \".example.org\", a glob, \"/RE/\", \"$own\" or \"list:NAME\"", text)
	case kind == Hosts:
		g.addKey(hostKey(text))
	default:
		g.addKey(fold(text))
	}
	return nil
}

// hostKey is the form in which host names, and domains behind a dot, are compared: DNS and
// HELO have A-labels.
func hostKey(text string) string {
	if rest, below := strings.CutPrefix(text, "."); below {
		return "." + address.Domain(rest)
	}
	return address.Domain(text)
}

// Empty reports whether the set has no pattern at all.
func (s *Set) Empty() bool { return s.holds.size+s.excepts.size == 0 }

// Key is an exact key of an address, for an index. See [Address.Keys].
type Key struct {
	Form Form
	Text string
}

// Keys gives exact keys under one of which every address that the set matches is found, for
// an index; ok is false if there are none such: a table, a regular expression, "!" alone.
// An address that is found under one need not match.
func (s *Set) Keys() (keys []Key, ok bool) {
	if s.holds.size == 0 {
		return nil, false
	}
	if keys, ok = s.holds.indexed(nil); !ok {
		return nil, false
	}
	for _, l := range s.holds.lists {
		if len(l.Tables) > 0 {
			return nil, false
		}
		if keys, ok = l.indexed(keys); !ok {
			return nil, false
		}
	}
	return keys, true
}

// indexed adds the keys of a group, its lists apart.
func (g *group) indexed(keys []Key) (_ []Key, ok bool) {
	if len(g.exprs) > 0 || g.forms.Has(FormAny) {
		return nil, false
	}
	for key := range g.keys {
		keys = append(keys, Key{formOf(key), key})
	}
	for _, user := range g.locals {
		if user == "" {
			return nil, false
		}
		keys = append(keys, Key{FormUser, user + "@"})
	}
	for _, glob := range g.globs {
		key, ok := glob.key()
		if !ok {
			return nil, false
		}
		keys = append(keys, key)
	}
	return keys, true
}

// key is one under which everything that the glob matches is found.
func (g *glob) key() (Key, bool) {
	if g.local != "" && !strings.ContainsAny(g.local, "*?") {
		return Key{FormUser, g.local + "@"}, true
	}
	fixed := g.domain[strings.LastIndexAny(g.domain, "*?")+1:]
	if strings.HasSuffix(fixed, "]") { // a literal has no domains above it
		return Key{}, false
	}
	if fixed == g.domain && fixed != "" && !g.below {
		return Key{FormDomain, "@" + fixed}, true
	}
	if fixed == g.domain && fixed != "" {
		return Key{FormBelow, "." + fixed}, true
	}
	dot := strings.IndexByte(fixed, '.')
	if dot < 0 {
		return Key{}, false
	}
	return Key{FormBelow, fixed[dot:]}, true
}

// Names gives the names of which one is every name that the set matches; ok is false if
// something else may match.
func (s *Set) Names() (names []string, ok bool) {
	if s.holds.size == 0 {
		return nil, false
	}
	groups := []*group{&s.holds}
	for _, l := range s.holds.lists {
		if len(l.Tables) > 0 {
			return nil, false
		}
		groups = append(groups, &l.group)
	}
	for _, g := range groups {
		if len(g.wilds)+len(g.exprs)+len(g.host) > 0 {
			return nil, false
		}
		for name := range g.keys {
			names = append(names, name)
		}
	}
	return names, true
}

func formOf(key string) Form {
	switch {
	case key == keyNull:
		return FormNull
	case key == keyAny:
		return FormAny
	case key[0] == '.':
		return FormBelow
	case key[0] == '@':
		return FormDomain
	case key[len(key)-1] == '@':
		return FormUser
	case strings.Contains(key, "@."):
		return FormUserBelow
	}
	return FormAddress
}

// Networks gives the networks in one of which every client that the set matches is; ok is
// false if something else may match.
func (s *Set) Networks() (nets []setting.Network, ok bool) {
	g := &s.holds
	if g.size == 0 || len(g.client)+len(g.exprs) > 0 {
		return nil, false
	}
	nets = append(nets, g.nets...)
	for _, l := range g.lists {
		if len(l.Tables) > 0 || len(l.client) > 0 {
			return nil, false
		}
		nets = append(nets, l.nets...)
	}
	return nets, true
}

// MayBeNull reports whether the set may match the null reverse-path.
func (s *Set) MayBeNull() bool {
	if s.excepts.forms.Has(FormNull) {
		return false
	}
	if s.holds.size == 0 || s.holds.forms.Has(FormNull) {
		return true
	}
	for _, l := range s.holds.lists {
		if l.forms.Has(FormNull) {
			return true
		}
	}
	return false
}

// OnlyNull reports whether the set names the null reverse-path and nothing else: somebody
// who writes that means it.
func (s *Set) OnlyNull() bool { return s.holds.size == 1 && s.holds.forms.Has(FormNull) }
