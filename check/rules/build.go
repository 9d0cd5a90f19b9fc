// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"errors"
	"fmt"
	"strconv"

	"rcptgate/config/setting"
	"rcptgate/pattern"
	"rcptgate/table"
)

// options are what a Check is made of.
type options struct {
	config   *Config
	lists    []ListConfig
	rules    []RuleConfig
	language pattern.Language // without lists
	// open gives a table that is read as patterns of a kind; openPairs one of pairs.
	open      func(kind pattern.Kind, spec table.Spec) (table.Table, error)
	openPairs func(name string, spec table.Spec) (table.Table, error)
	counters  *counters
}

// builder makes a Check.
type builder struct {
	options
	check *Check
	made  map[madeList]*pattern.List
	used  map[string]bool // lists
	bad   map[madeList]bool
	errs  []error
}

type madeList struct {
	name string
	kind pattern.Kind
}

// newCheck makes a Check. The error joins those of all sections, each a setting.KeyError.
func newCheck(o options) (*Check, error) {
	b := &builder{options: o, check: &Check{counters: o.counters}, made: make(map[madeList]*pattern.List), used: make(map[string]bool), bad: make(map[madeList]bool)}
	b.check.language = &b.language
	b.language.List = b.list
	b.names()
	b.tables()
	for i := range o.rules {
		b.rule(i)
	}
	for i := range o.lists { // also those that no rule names: a mistake is a mistake
		if l := &o.lists[i]; !b.used[l.Name] {
			_, _ = b.list(l.Name, pattern.Addresses)
		}
	}
	b.language.List = b.later
	return b.check, errors.Join(b.errs...)
}

// tables opens access maps and files of pairs.
func (b *builder) tables() {
	for _, t := range []struct {
		name    string
		specs   []table.Spec
		literal bool
		read    func(string) outcome
	}{{nameAccess, b.config.Access, true, parseCompat}, {namePairs, b.config.Pairs, false, pairValue}} {
		for i, spec := range t.specs {
			opened, err := b.openPairs(t.name, spec)
			if err != nil {
				b.fail(fmt.Sprintf("rules.%s[%d]", t.name, i+1), err)
				continue
			}
			b.check.tables = append(b.check.tables, &pairTable{
				Table: opened, name: t.name, spec: spec.String(), literal: t.literal, read: t.read, Summary: pattern.NewSummary(opened),
			})
		}
	}
}

func (b *builder) fail(key string, err error) {
	b.errs = append(b.errs, &setting.KeyError{Key: key, Err: err})
}

// names reports rules and lists that have the same name.
func (b *builder) names() {
	lists := make(map[string]bool)
	for i := range b.lists {
		if name := b.lists[i].Name; lists[name] {
			b.fail(fmt.Sprintf("list[%d].name", i+1), fmt.Errorf("another list is called %q", name))
		} else {
			lists[name] = true
		}
	}
	rules := make(map[string]bool)
	for i := range b.rules {
		if name := ruleName(b.rules, i); rules[name] {
			b.fail(fmt.Sprintf("rule[%d].name", i+1), fmt.Errorf("another rule is called %q", name))
		} else {
			rules[name] = true
		}
	}
}

// ruleName is what a rule is called.
func ruleName(rules []RuleConfig, i int) string {
	if name := rules[i].Name; name != "" {
		return name
	}
	return strconv.Itoa(i + 1)
}

func (b *builder) rule(i int) {
	cfg := &b.rules[i]
	name := ruleName(b.rules, i)
	r := &rule{
		cfg: cfg, name: name, act: cfg.Action, enforce: cfg.Enforce, hits: b.counters.of(name, cfg.Action),
		says: found{name, cfg.Action, verdictOf(name, cfg.Action, cfg.Code, cfg.Enhanced, cfg.Text), false},
	}
	r.says.verdict.Enforce = cfg.Enforce != nil && *cfg.Enforce
	r.would = r.says.rehearse()
	b.sets(i, r)
	for n, text := range cfg.Expect {
		e, err := parseExpect(text)
		if err != nil {
			b.fail(fmt.Sprintf("rule[%d].expect[%d]", i+1, n+1), err)
			continue
		}
		r.expect = append(r.expect, e)
	}
	for c := range r.conditions() {
		r.conds |= 1 << c
	}
	b.check.rules = append(b.check.rules, r)
	b.check.index.add(int32(i), r) // #nosec G115 -- few
}

// sets reads the patterns of rule i.
func (b *builder) sets(i int, r *rule) {
	cfg := r.cfg
	for _, c := range []struct {
		key  string
		kind pattern.Kind
		list []string
		to   **pattern.Set
	}{
		{"sender", pattern.Addresses, cfg.Sender, &r.sender}, {"recipient", pattern.Addresses, cfg.Recipient, &r.recipient},
		{"target", pattern.Addresses, cfg.Target, &r.target}, {"client", pattern.Clients, cfg.Client, &r.client},
		{"client_name", pattern.Hosts, cfg.ClientName, &r.clientName}, {"helo", pattern.Hosts, cfg.Helo, &r.helo},
		{"auth_user", pattern.Names, cfg.AuthUser, &r.authUser}, {"mailer", pattern.Names, cfg.Mailer, &r.mailer},
	} {
		if len(c.list) == 0 {
			continue
		}
		set := b.language.NewSet(c.kind)
		for n, text := range c.list {
			if err := set.Add(text); err != nil {
				b.fail(fmt.Sprintf("rule[%d].%s[%d]", i+1, c.key, n+1), err)
			}
		}
		*c.to = set
	}
}

// later is list for those who ask once the rules are made: the script.
func (b *builder) later(name string, kind pattern.Kind) (*pattern.List, error) {
	known := len(b.errs)
	l, err := b.list(name, kind)
	if err == nil && len(b.errs) > known {
		err = b.errs[known]
	}
	return l, err
}

// list makes the list of a name, once for each kind.
func (b *builder) list(name string, kind pattern.Kind) (*pattern.List, error) {
	b.used[name] = true
	made := madeList{name, kind}
	if l := b.made[made]; l != nil {
		return l, nil
	}
	for i := range b.lists {
		cfg := &b.lists[i]
		if cfg.Name != name {
			continue
		}
		var tables []*pattern.Table
		for n, spec := range cfg.Table {
			t, err := b.open(kind, spec)
			if err != nil {
				b.fail(fmt.Sprintf("list[%d].table[%d]", i+1, n+1), err)
				continue
			}
			tables = append(tables, pattern.NewTable(t, spec.String()))
		}
		b.check.lists = append(b.check.lists, tables...)
		l, at, err := b.language.NewList(kind, cfg.Entries, tables)
		if err != nil {
			if !b.bad[made] {
				b.fail(fmt.Sprintf("list[%d].entries[%d]", i+1, at), err)
			}
			b.bad[made] = true
			l = new(pattern.List)
		}
		b.made[made] = l
		return l, nil
	}
	return nil, fmt.Errorf("list:%s: no [[list]] has this name", name)
}
