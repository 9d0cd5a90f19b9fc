// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
	"context"
	"fmt"
	"sync/atomic"
)

// Asker is what a front puts its queries to: the gate.
type Asker interface {
	Ask(ctx context.Context, q *Query) Verdict
}

// Observer is told every decision: the log, the metrics, the dashboard. It runs on
// the answering goroutine, must not block, and must not keep q or v.
type Observer interface {
	Observe(q *Query, v *Verdict)
}

// Setup is one immutable configuration of the gate.
type Setup struct {
	Check Check
	// Rehearse reports whether verdicts for the query's domain are only logged
	// (enforce = false). Nil means never.
	Rehearse  func(q *Query) bool
	Observers []Observer
	// Close is called once, after the last query that began under this setup; may be nil.
	Close func()
}

// Gate answers queries under a setup that can be swapped while it is in use. The
// zero Gate has no setup and answers CouldNotFindOut.
type Gate struct {
	current atomic.Pointer[generation]
}

type generation struct {
	Setup
	users   atomic.Int64 // queries in progress, and those that find it retired and leave
	retired atomic.Bool
	closed  atomic.Bool
}

// Swap puts s in force for every query that begins from here on. The setup before
// it is closed after its last query.
func (g *Gate) Swap(s Setup) {
	old := g.current.Swap(&generation{Setup: s})
	if old != nil {
		old.retired.Store(true)
		old.closeIfIdle()
	}
}

// Close answers everything that begins from here on with CouldNotFindOut and
// closes the setup after its last query.
func (g *Gate) Close() {
	if old := g.current.Swap(nil); old != nil {
		old.retired.Store(true)
		old.closeIfIdle()
	}
}

// Ask answers one query. It never panics: a check that does is a tempfail, since
// no input may end the process.
func (g *Gate) Ask(ctx context.Context, q *Query) Verdict {
	gen := g.enter()
	if gen == nil {
		return CouldNotFindOut
	}
	defer gen.leave()
	q.verdict = gen.ask(ctx, q)
	for _, o := range gen.Observers {
		o.Observe(q, &q.verdict)
	}
	return q.verdict
}

func (gen *generation) ask(ctx context.Context, q *Query) (v Verdict) {
	defer func() {
		if p := recover(); p != nil {
			v = CouldNotFindOut
			q.Trace.add("panic", &v, fmt.Errorf("check panicked: %v", p), 0)
		}
	}()
	v, err := gen.Check.Check(ctx, q)
	if err != nil {
		return CouldNotFindOut
	}
	if v.Action != Continue && v.Action != Accept && gen.Rehearse != nil && gen.Rehearse(q) {
		v.Would, v.Action = v.Action, Continue
	}
	return v
}

// enter takes the current generation for one query. A generation that was retired
// between the load and the count is given back, so that a closed one is never used.
func (g *Gate) enter() *generation {
	for {
		gen := g.current.Load()
		if gen == nil {
			return nil
		}
		gen.users.Add(1)
		if !gen.retired.Load() {
			return gen
		}
		gen.leave()
	}
}

func (gen *generation) leave() {
	if gen.users.Add(-1) == 0 && gen.retired.Load() {
		gen.closeIfIdle()
	}
}

func (gen *generation) closeIfIdle() {
	if gen.users.Load() == 0 && gen.Close != nil && gen.closed.CompareAndSwap(false, true) {
		gen.Close()
	}
}
