// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"rcptgate"
	"rcptgate/config/setting"
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
	defer c.give(q)
	f, err := c.decide(ctx, q, false)
	if err != nil {
		return rcptgate.Verdict{}, err
	}
	if f.hits != nil {
		f.hits.add(query.Lane(), query.Now())
	}
	return f.verdict, nil
}

func (c *Check) take(query *rcptgate.Query) *question {
	q := c.spareOf(query).Swap(nil)
	if q == nil {
		q = new(question)
	}
	q.set(query, c.language.Delimiters)
	return q
}

func (c *Check) give(q *question) {
	spare := c.spareOf(q.Query)
	q.Query = nil
	spare.Store(q)
}

func (c *Check) spareOf(query *rcptgate.Query) *spare {
	return &c.spare[query.Lane()%uint32(len(c.spare))]
}

// found is what the rules say.
type found struct {
	name    string // of the rule; "" when none matched
	act     Action
	verdict rcptgate.Verdict
	hits    *hits
}

// decide asks tables, then rules. With all, rehearsed rules act like the others, and nothing
// is counted: so expectations are checked.
func (c *Check) decide(ctx context.Context, q *question, all bool) (found, error) {
	exempt := false // by an access map
	for _, t := range c.tables {
		if exempt && t.name == nameAccess {
			continue
		}
		value, ok, err := t.find(ctx, q)
		if err != nil {
			return found{}, fmt.Errorf("[rules] %s: %w", t.name, err)
		}
		if !ok {
			continue
		}
		if q.Trace.Explain {
			q.Trace.Note(fmt.Sprintf("%s %s has this pair: %s", t.name, t.spec, value))
		}
		if o := t.read(value); o.act != Pass || t.name != nameAccess {
			return found{t.name, o.act, o.verdict, t.hitsOf(c.counters, o.act)}, nil
		}
		exempt = true // OK is an exception to other entries of access maps, and no more
	}
	return c.decideRules(ctx, q, all)
}

func (c *Check) decideRules(ctx context.Context, q *question, all bool) (f found, err error) {
	lists := c.index.find(q)
	for n := next(lists); n >= 0; n = next(lists) {
		r := c.rules[n]
		rehearsed := r.rehearsed() && !all
		ok, _, err := r.matches(ctx, q)
		switch {
		case err != nil && rehearsed:
			q.Trace.Note("a rehearsed rule could not be asked")
		case err != nil:
			return found{}, fmt.Errorf("rule %q: %w", r.name, err)
		case ok && rehearsed:
			f.rehearse(ctx, q, r)
		case ok && r.act == Call:
			v, err := r.call.Check(ctx, q.Query)
			if err != nil {
				return found{}, fmt.Errorf("rule %q: %w", r.name, err)
			}
			if q.Trace.Explain {
				q.Trace.Note(fmt.Sprintf("rule %q matches: %s() says %s", r.name, r.cfg.Call, v.Action))
			}
			if v.Action != rcptgate.Continue {
				v.Enforce = r.verdict.Enforce
				return found{r.name, r.act, v, r.hits}, nil
			}
			r.hits.add(q.Lane(), q.Query.Now())
		case ok:
			if q.Trace.Explain {
				q.Trace.Note(fmt.Sprintf("rule %q matches: %s", r.name, r.act))
			}
			if r.verdict.Action == rcptgate.Continue && f.verdict.Would != rcptgate.Continue {
				r.hits.add(q.Lane(), q.Query.Now()) // what is logged is the rehearsal
				return f, nil
			}
			return found{r.name, r.act, r.verdict, r.hits}, nil
		}
	}
	if q.Trace.Explain && f.name == "" {
		q.Trace.Note(fmt.Sprintf("none of the %d rules matches", len(c.rules)))
	}
	return f, nil
}

// rehearse notes what a rehearsed rule would have done. The first one is logged.
func (f *found) rehearse(ctx context.Context, q *question, r *rule) {
	r.hits.add(q.Lane(), q.Query.Now())
	if q.Trace.Explain {
		q.Trace.Note(fmt.Sprintf("rule %q matches, rehearsed: would %s", r.name, r.act))
	}
	verdict := r.verdict
	if f.name == "" && r.act == Call {
		verdict, _ = r.call.Check(ctx, q.Query) // a failure is logged there
	}
	if f.name != "" || verdict.Action == rcptgate.Continue {
		return
	}
	f.name, f.act, f.verdict = r.name, r.act, verdict
	f.verdict.Would, f.verdict.Action = verdict.Action, rcptgate.Continue
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
			errs = append(errs, setting.Keyf(key, "%q: there is no script: [script] file names none", r.cfg.Call))
		} else if f, ok := function(r.cfg.Call); ok {
			r.call = f
		} else {
			errs = append(errs, setting.Keyf(key, "the script has no function %s(), of one argument", r.cfg.Call))
		}
	}
	return errors.Join(errs...)
}
