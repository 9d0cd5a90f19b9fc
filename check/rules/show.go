// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"rcptgate/kit/term"
	"rcptgate/view"
)

// showMax bounds the rules on the status page.
const showMax = 50

// has reports whether a configuration counts for a rule.
func (c *Check) has(key counted) bool {
	if key.name == nameAccess || key.name == namePairs {
		return slices.ContainsFunc(c.tables, func(t *pairTable) bool { return t.name == key.name })
	}
	return slices.ContainsFunc(c.rules, func(r *rule) bool { return r.name == key.name && r.act == key.act })
}

// show lists the rules with their hits; limit 0 is all.
func (u *live) show(limit int) []view.Table {
	t := statusTable()
	c := u.active.Load()
	if c == nil {
		return []view.Table{t}
	}
	never := fmt.Sprintf("never since %s", u.since.Format(time.DateOnly))
	add := func(number any, name, act, mode, filed string, h *hits) {
		n, last := h.read()
		when := any(never)
		if !last.IsZero() {
			when = last
		}
		t.Add("", number, name, act, mode, n, when, filed)
	}
	for _, key := range u.counters.ofTables() {
		if c.has(key) {
			add(nil, key.name, key.act.String(), "", "the pair", u.counters.of(key.name, key.act))
		}
	}
	for i, r := range c.rules {
		add(i+1, r.name, r.act.String(), r.mode(), r.filed, r.hits)
	}
	if limit > 0 {
		t.Limit(limit)
	}
	return []view.Table{t}
}

// mode says whether a rule acts.
func (r *rule) mode() string {
	switch {
	case r.enforce == nil:
		return "as the gate"
	case *r.enforce:
		return "enforced"
	}
	return "rehearsed"
}

// ofTables are the counters of pairs, in a stable order.
func (c *counters) ofTables() (list []counted) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.all {
		if key.name == nameAccess || key.name == namePairs {
			list = append(list, key)
		}
	}
	slices.SortFunc(list, func(a, b counted) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.act, b.act)) })
	return list
}

// warnings are what a postmaster would hardly want.
func (c *Check) warnings() (list []string) {
	if c == nil {
		return nil
	}
	ctx := context.Background()
	for _, t := range c.tables {
		for _, note := range t.notes(ctx) {
			list = append(list, fmt.Sprintf("[rules] %s: %s: %s", t.name, t.spec, note))
		}
	}
	seen := make(map[string]bool)
	for _, t := range c.lists {
		if n, first := t.Ignored(ctx); n > 0 && !seen[t.Name] {
			seen[t.Name] = true
			list = append(list, fmt.Sprintf("[[list]] %s: left out %s, not a pattern; the first is %q", t.Name, term.Count(n, "key"), first))
		}
	}
	for i, r := range c.rules {
		list = append(list, r.warnings()...)
		if n := c.coveredBy(i); n >= 0 {
			list = append(list, fmt.Sprintf("rule %q never matches: rule %q before it has no other conditions and always decides first", r.name, c.rules[n].name))
		}
	}
	return list
}

func (r *rule) warnings() (list []string) {
	refuses := r.act != Pass && r.act != Accept
	if refuses && r.sender != nil && r.sender.MayBeNull() && !r.sender.OnlyNull() {
		list = append(list, fmt.Sprintf("rule %q: sender also matches <>, the sender of bounces and receipts; add \"!<>\" to let them pass", r.name))
	}
	conditions := r.conditions()
	if len(conditions) == 0 {
		list = append(list, fmt.Sprintf("rule %q has no condition: it decides for every recipient", r.name))
	}
	if r.act == Accept && len(conditions) == 1 && r.sender != nil {
		list = append(list, fmt.Sprintf("rule %q accepts all mail that claims to come from these senders, and anybody can claim that", r.name))
	}
	return list
}

// maxCompared bounds the rules that are compared with each other.
const maxCompared = 1000

// coveredBy gives an earlier rule that matches whatever rule i does, -1 if none is known:
// one each of whose conditions rule i has too, word for word.
func (c *Check) coveredBy(i int) int {
	if len(c.rules) > maxCompared {
		return -1
	}
	mine := c.rules[i].conditions()
	for n, r := range c.rules[:i] {
		if r.rehearsed() {
			continue
		}
		covers := true
		for key, value := range r.conditions() {
			covers = covers && mine[key] == value
		}
		if covers {
			return n
		}
	}
	return -1
}

// foldPattern gives a pattern in the case in which equal ones are equal. A regular expression has
// \s and \S, and lists are found by their exact names.
func foldPattern(text string) string {
	if bare := strings.TrimPrefix(text, "!"); strings.HasPrefix(bare, "/") || strings.HasPrefix(bare, "list:") {
		return text
	}
	return lower(text)
}

// conditions are the conditions that are set, written so that equal ones are equal.
func (r *rule) conditions() map[condition]string {
	cfg, out := r.cfg, make(map[condition]string)
	for c, list := range map[condition][]string{
		condSender: cfg.Sender, condRecipient: cfg.Recipient, condTarget: cfg.Target, condClient: cfg.Client,
		condClientName: cfg.ClientName, condHelo: cfg.Helo, condAuthUser: cfg.AuthUser, condMailer: cfg.Mailer,
	} {
		if len(list) > 0 {
			folded := make([]string, len(list))
			for i, text := range list {
				folded[i] = foldPattern(text)
			}
			slices.Sort(folded)
			out[c] = strings.Join(folded, "\x00")
		}
	}
	if cfg.Auth != nil {
		out[condAuth] = fmt.Sprint(*cfg.Auth)
	}
	if cfg.TLS != nil {
		out[condTLS] = fmt.Sprint(*cfg.TLS)
	}
	if cfg.Size != nil {
		out[condSize] = cfg.Size.text
	}
	if cfg.Rcpts != nil {
		out[condRcpts] = cfg.Rcpts.text
	}
	for _, w := range cfg.At {
		out[condAt] += w.text + "\x00"
	}
	return out
}

// statusTable is the table "rule" without rows.
func statusTable() view.Table {
	return view.Table{
		Name: "rule", Title: "Rules", Empty: "no rules are configured",
		Doc: "the rules and pairs of [rules] and [[rule]]",
		Columns: view.Explained(
			"number", "No", "place in the file; the first rule that matches decides",
			"name", "Rule", "its name",
			"action", "Action", "what it does",
			"mode", "Mode", "as the gate (enforce of [[domain]] and of the whole configuration holds), enforced or rehearsed",
			"hits", "Hits", "how often it has decided since its counters began",
			"last", "Last hit", "when it last decided",
			"found", "Found by", "how the rule is looked up: by the recipient, sender, client or auth_user that it names, or tried on every question",
		),
	}
}
