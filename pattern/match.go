// SPDX-License-Identifier: BSD-2-Clause

package pattern

import (
	"context"
	"net/netip"
	"strings"

	"rcptgate/address"
)

// matching asks the two groups of a set. An error counts only if what can be found out
// decides nothing.
func (s *Set) matching(match func(g *group) (bool, error)) (bool, error) {
	var errOut error
	if s.excepts.size > 0 {
		var out bool
		if out, errOut = match(&s.excepts); out {
			return false, nil
		}
	}
	if s.holds.size == 0 {
		return errOut == nil, errOut
	}
	in, errIn := match(&s.holds)
	switch {
	case errIn != nil:
		return false, errIn
	case !in:
		return false, nil
	}
	return errOut == nil, errOut
}

// Address reports whether the set matches an address. An error, from a table or the local
// domains, means that it could not be found out.
func (s *Set) Address(ctx context.Context, a *Address) (bool, error) {
	return s.matching(func(g *group) (bool, error) { return g.address(ctx, s.lang, a) })
}

// Client reports whether the set matches a client. One without an address, on this
// machine, is matched by nothing.
func (s *Set) Client(ctx context.Context, client netip.Addr) (bool, error) {
	client = client.Unmap()
	return s.matching(func(g *group) (bool, error) { return g.clientOf(ctx, client) })
}

// Host reports whether the set matches a host name.
func (s *Set) Host(ctx context.Context, name string) (bool, error) {
	name = address.Domain(name)
	return s.matching(func(g *group) (bool, error) { return g.name(ctx, name, true) })
}

// Name reports whether the set matches the name of a user or a mailer.
func (s *Set) Name(ctx context.Context, name string) (bool, error) {
	name = fold(name)
	return s.matching(func(g *group) (bool, error) { return g.name(ctx, name, false) })
}

func (g *group) address(ctx context.Context, l *Language, a *Address) (bool, error) {
	if g.size == 0 {
		return false, nil
	}
	if g.hasKey(a) || g.hasGlob(a) {
		return true, nil
	}
	var failed error
	if len(g.locals) > 0 && a.full != "" && g.hasUser(a) {
		local, err := l.Local(ctx, a.domain())
		if local {
			return true, nil
		}
		failed = err
	}
	for _, list := range g.lists {
		in, err := list.address(ctx, l, a)
		for i := 0; !in && err == nil && i < len(list.Tables); i++ {
			in, err = list.Tables[i].address(ctx, a)
		}
		if in {
			return true, nil
		}
		if err != nil {
			failed = err
		}
	}
	return false, failed
}

func (g *group) hasKey(a *Address) bool {
	return g.forms != 0 && !a.Keys(g.forms, false, func(_ Form, key string) bool {
		_, found := g.keys[key]
		return !found
	})
}

func (g *group) hasGlob(a *Address) bool {
	for _, glob := range g.globs {
		if glob.matches(a) {
			return true
		}
	}
	for _, e := range g.exprs {
		if a.full != "" && e.MatchString(a.String()) {
			return true
		}
	}
	return false
}

// hasUser reports whether the local part is one that stands before @$local.
func (g *group) hasUser(a *Address) bool {
	for _, user := range g.locals {
		if user == "" || user == a.full[:a.at] || a.base != "" && user == a.base[:a.user] {
			return true
		}
	}
	return false
}

func (g *group) clientOf(ctx context.Context, client netip.Addr) (bool, error) {
	if !client.IsValid() {
		return false, nil
	}
	for _, n := range g.nets {
		if n.Contains(client) {
			return true, nil
		}
	}
	for _, test := range g.client {
		if test(client) {
			return true, nil
		}
	}
	var failed error
	for _, list := range g.lists {
		in, err := list.clientOf(ctx, client)
		for i := 0; !in && err == nil && i < len(list.Tables); i++ {
			in, err = list.Tables[i].exact(ctx, client.String())
		}
		if in {
			return true, nil
		}
		if err != nil {
			failed = err
		}
	}
	return false, failed
}

// name matches a host name or another name, in lower case.
func (g *group) name(ctx context.Context, name string, host bool) (bool, error) {
	if name == "" {
		return false, nil
	}
	if _, found := g.keys[name]; found || host && g.above(name) {
		return true, nil
	}
	for _, w := range g.wilds {
		if wild(w, name) {
			return true, nil
		}
	}
	for _, e := range g.exprs {
		if e.MatchString(name) {
			return true, nil
		}
	}
	for _, test := range g.host {
		if test(name) {
			return true, nil
		}
	}
	var failed error
	for _, list := range g.lists {
		in, err := list.name(ctx, name, host)
		for i := 0; !in && err == nil && i < len(list.Tables); i++ {
			in, err = list.Tables[i].name(ctx, name, host)
		}
		if in {
			return true, nil
		}
		if err != nil {
			failed = err
		}
	}
	return false, failed
}

// above reports whether a key ".example.org" names a host below it.
func (g *group) above(name string) bool {
	if len(g.keys) == 0 {
		return false
	}
	for dot := strings.IndexByte(name, '.'); dot >= 0; dot = strings.IndexByte(name, '.') {
		if _, found := g.keys[name[dot:]]; found {
			return true
		}
		name = name[dot+1:]
	}
	return false
}
