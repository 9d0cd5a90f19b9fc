// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"rcptgate"
	"rcptgate/config/setting"
	"rcptgate/kit/term"
	"rcptgate/pattern"
)

// source is what verdicts of rules come from.
const source = "rule"

// Check asks the rules of one configuration: access maps, pairs, then each [[rule]] in its
// order; the first that matches decides. It is safe for concurrent use.
type Check struct {
	language *pattern.Language
	tables   []*pairTable
	lists    []*pattern.Table // of all lists
	rules    []*rule
	index    index
	counters *counters
	spare    [64]spare // by Query.Lane
}

// spare is the question that a connection asked last: its next one is mostly about the same
// message. Nil while it is in use.
type spare struct {
	atomic.Pointer[question]
	_ [56]byte // a cache line each
}

// Check answers with the first rule that matches, and continues when none does. The error is
// that of a table that could not be read, when the answer depends on it. It does not
// allocate unless a pair matches.
func (c *Check) Check(ctx context.Context, query *rcptgate.Query) (rcptgate.Verdict, error) {
	q := c.take(query)
	f, err := c.decide(ctx, q)
	c.give(q)
	if f == nil || err != nil {
		return rcptgate.Verdict{}, err
	}
	return f.verdict, nil
}

func (c *Check) take(query *rcptgate.Query) *question {
	q := c.spareOf(query).Swap(nil)
	if q == nil {
		q = &question{message: message{pairs: make([]senderPairs, len(c.tables))}}
	}
	q.set(query, c.language.Delimiters)
	return q
}

func (c *Check) give(q *question) {
	spare := c.spareOf(q.Query)
	q.Query, q.trial, q.report = nil, false, nil
	spare.Store(q)
}

func (c *Check) spareOf(query *rcptgate.Query) *spare {
	return &c.spare[query.Lane()%uint32(len(c.spare))]
}

// found is what a pair or a rule says. It does not change.
type found struct {
	name      string // of the rule
	act       Action
	verdict   rcptgate.Verdict
	rehearsed bool
}

// decide asks the tables, then the rules. Nil means that none of them has anything to say.
func (c *Check) decide(ctx context.Context, q *question) (*found, error) {
	f, err := c.decideTables(ctx, q)
	if f == nil && err == nil {
		f, err = c.decideRules(ctx, q)
	}
	return f, err
}

// decideTables asks access maps and pairs.
func (c *Check) decideTables(ctx context.Context, q *question) (*found, error) {
	exempt := false // by an access map
	for i, t := range c.tables {
		if exempt && t.name == nameAccess {
			continue
		}
		value, ok, err := t.find(ctx, q, &q.message.pairs[i])
		switch {
		case err != nil:
			q.consider(t.name, "", "cannot be read: "+err.Error())
			return nil, fmt.Errorf("[rules] %s: %w", t.name, err)
		case !ok:
			if q.report != nil {
				q.consider(t.name, "", "no such pair in "+t.spec)
			}
			continue
		}
		if q.Trace.Explain {
			q.Trace.Note(fmt.Sprintf("%s %s has this pair: %s", t.name, t.spec, value))
		}
		o := t.read(value)
		q.consider(t.name, o.act.String(), "has this pair: "+value)
		if o.act != Pass || t.name != nameAccess {
			q.count(t.hitsOf(c.counters, o.act))
			return &found{t.name, o.act, o.verdict, false}, nil
		}
		exempt = true // OK is an exception to other entries of access maps, and no more
	}
	return nil, nil
}

// decideRules asks the rules that may match, in their order.
func (c *Check) decideRules(ctx context.Context, q *question) (*found, error) {
	var rehearsed *found // the first that would have done something: what is logged
	lists := c.index.find(q)
	for n := next(lists); n >= 0; n = next(lists) {
		r := c.rules[n]
		f, err := r.ask(ctx, q)
		switch {
		case err != nil:
			return nil, fmt.Errorf("rule %q: %w", r.name, err)
		case f == nil:
		case f.rehearsed:
			if rehearsed == nil && f.verdict.Would != rcptgate.Continue {
				rehearsed = f
			}
		case f.verdict.Action == rcptgate.Continue && rehearsed != nil:
			return rehearsed, nil
		default:
			return f, nil
		}
	}
	if q.Trace.Explain && rehearsed == nil {
		q.Trace.Note("no rule matches, of " + term.Count(len(c.rules), "rule"))
	}
	return rehearsed, nil
}

// ask asks one rule. Nil means that it leaves the decision to the rules after it.
func (r *rule) ask(ctx context.Context, q *question) (*found, error) {
	rehearsed := r.rehearsed() && !q.trial
	ok, _, err := r.matches(ctx, q)
	f := &r.says
	if rehearsed {
		f = &r.would
	}
	if ok && r.act == Call {
		f, err = r.askFunction(ctx, q, rehearsed)
	}
	switch {
	case err != nil && rehearsed:
		q.Trace.Note("a rehearsed rule could not be asked")
		return nil, nil
	case err != nil || !ok:
		return nil, err
	}
	q.count(r.hits)
	if q.Trace.Explain {
		q.Trace.Note(r.noteOf(f))
	}
	if r.act == Call && f.verdict.Action == rcptgate.Continue && !rehearsed {
		return nil, nil
	}
	return f, nil
}

// askFunction asks the function that a rule calls.
func (r *rule) askFunction(ctx context.Context, q *question, rehearsed bool) (*found, error) {
	v, err := r.call.Check(ctx, q.Query)
	if err != nil {
		return nil, err
	}
	f := found{r.name, r.act, v, false}
	f.verdict.Enforce = r.says.verdict.Enforce
	if rehearsed {
		f = f.rehearse()
	}
	return &f, nil
}

// rehearse is f when it is only logged.
func (f found) rehearse() found {
	f.rehearsed = true
	f.verdict.Would, f.verdict.Action = f.verdict.Action, rcptgate.Continue
	return f
}

// noteOf is what a trace says of a rule that matches.
func (r *rule) noteOf(f *found) string {
	switch {
	case f.rehearsed:
		return fmt.Sprintf("rule %q matches, rehearsed: would %s", r.name, r.act)
	case r.act == Call:
		return fmt.Sprintf("rule %q matches: %s() says %s", r.name, r.cfg.Call, f.verdict.Action)
	}
	return fmt.Sprintf("rule %q matches: %s", r.name, r.act)
}

// find finds the functions that rules call. The error names the setting.
func (c *Check) find(function func(name string) (rcptgate.Check, bool)) error {
	var errs []error
	for i, r := range c.rules {
		if r.act != Call {
			continue
		}
		key := fmt.Sprintf("rule[%d].call", i+1)
		if function == nil {
			errs = append(errs, setting.Keyf(key, "%q: no script is configured; set [script] file", r.cfg.Call))
		} else if f, ok := function(r.cfg.Call); ok {
			r.call = f
		} else {
			errs = append(errs, setting.Keyf(key, "the script has no function %s(), of one argument", r.cfg.Call))
		}
	}
	return errors.Join(errs...)
}
