// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"
)

// Asker is what a front puts its queries to: the gate.
type Asker interface {
	// Ask answers the query by the chain of its stage.
	Ask(ctx context.Context, q *Query) Verdict
	// Wants says what the chains need from the MTA. A front asks when it agrees with an MTA
	// on what that will send, and holds to it until they agree anew.
	Wants() Wants
}

// Wants says what the chains need from the MTA besides recipients, which are always
// wanted. A front negotiates these and nothing else.
type Wants uint32

// What a step can want.
const (
	WantConnect    Wants = 1 << iota // to be asked when a client connects
	WantMail                         // to be asked about MAIL
	WantMessage                      // to be asked at the end of the message
	WantHeader                       // the header with it
	WantBody                         // the body with it
	EditHeader                       // to change the header
	EditBody                         // to change the body
	EditSender                       // to change the reverse-path
	EditRecipients                   // to add and remove recipients; DiscardRecipient needs it
	Quarantine                       // to have the MTA hold the message (Hold)
	WantSession                      // what kind of MTA it is, and the client's TLS (Session)
	WantHelo                         // to be asked when a client says HELO or EHLO
)

// Recipients reports whether the recipients of a transaction are recorded in its
// [Transaction]: where a step wants the message, or to discard a recipient.
func (w Wants) Recipients() bool { return w&(WantMessage|EditRecipients) != 0 }

// Observer sees every decision: the log, the metrics, the dashboard. It runs on the
// answering goroutine, must not block, and must not keep q or v.
type Observer interface {
	Observe(q *Query, v *Verdict)
}

// Setup is one immutable configuration of the gate.
type Setup struct {
	// Chains are the checks of each stage. A stage without one continues.
	Chains [StageCount]Check
	Wants  Wants
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
	lanes   atomic.Uint32 // given out, see Query.Lane
}

type generation struct {
	Setup
	retired atomic.Bool
	closed  atomic.Bool
	// users are the queries in progress, plus late arrivals about to back out, by lane:
	// one count for all would be what all processors wait for.
	users [64]struct {
		atomic.Int64
		_ [56]byte // a cache line each
	}
}

// Swap makes s answer every query that begins from here on. The setup before it is
// closed after its last query.
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

// Ask answers one query. A check that panics is a tempfail, since no input may end the
// process. The panic of an observer is left to the front, which ends that connection alone.
func (g *Gate) Ask(ctx context.Context, q *Query) Verdict {
	if q.lane == 0 {
		q.lane = max(g.lanes.Add(1), 1)
	}
	lane := q.lane // a check that resets the query keeps it, one that replaces it does not
	gen := g.enter(lane)
	if gen == nil {
		return couldNotFindOut(q.Stage)
	}
	defer gen.leave(lane)
	q.verdict = gen.ask(ctx, q)
	for _, o := range gen.Observers {
		o.Observe(q, &q.verdict)
	}
	return q.verdict
}

// Wants says what the chains of the current setup need; nothing without a setup.
func (g *Gate) Wants() Wants {
	if gen := g.current.Load(); gen != nil {
		return gen.Setup.Wants
	}
	return 0
}

// PanicError is what a trace has of a check that panicked.
type PanicError struct {
	Value any
	Stack []byte // as runtime/debug.Stack writes it
}

// Error gives the value alone; the stack has many lines.
func (e *PanicError) Error() string { return fmt.Sprintf("check panicked: %v", e.Value) }

func (gen *generation) ask(ctx context.Context, q *Query) (v Verdict) {
	defer func() {
		if p := recover(); p != nil {
			v = couldNotFindOut(q.Stage)
			q.Trace.add("panic", &v, &PanicError{p, debug.Stack()}, 0)
		}
	}()
	chain := gen.Chains[q.Stage]
	if chain == nil {
		return Verdict{}
	}
	v, err := chain.Check(ctx, q)
	if err != nil {
		return couldNotFindOut(q.Stage)
	}
	if (v.Action != Continue && v.Action != Accept || q.Message != nil) && !v.Enforce && gen.Rehearse != nil && gen.Rehearse(q) {
		if v.Action != Continue && v.Action != Accept {
			v.Would, v.Action = v.Action, Continue
		}
		if q.Message != nil {
			q.Message.rehearsed = true
		}
	}
	return v
}

// enter takes the current generation for one query. A generation that was retired
// between the load and the count is given back, so that a closed one is never used.
func (g *Gate) enter(lane uint32) *generation {
	for {
		gen := g.current.Load()
		if gen == nil {
			return nil
		}
		gen.count(lane).Add(1)
		if !gen.retired.Load() {
			return gen
		}
		gen.leave(lane)
	}
}

func (gen *generation) count(lane uint32) *atomic.Int64 {
	return &gen.users[lane%uint32(len(gen.users))].Int64
}

func (gen *generation) leave(lane uint32) {
	if gen.count(lane).Add(-1) == 0 && gen.retired.Load() {
		gen.closeIfIdle()
	}
}

// closeIfIdle is called after the generation was retired. A query that entered before
// has its lane above 0 until it leaves, and then calls this again; one that comes later
// backs out. So all lanes at 0, one after the other, mean that nobody uses it.
func (gen *generation) closeIfIdle() {
	for lane := range gen.users {
		if gen.users[lane].Load() != 0 {
			return
		}
	}
	if gen.Close != nil && gen.closed.CompareAndSwap(false, true) {
		gen.Close()
	}
}
