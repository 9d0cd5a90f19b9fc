// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rcptgate"
	"rcptgate/store"
)

// Shared is what a memory can do in addition when other gateways write to it too
// (store/tiers). With one, equal questions on several gateways at the same time make one
// probe: the one that asks holds a lease, the others wait for the answer to appear.
type Shared interface {
	Memory
	// Sharing reports whether there is such a place at all.
	Sharing() bool
	// Fresh gives what is known under key if that needs no I/O.
	Fresh(key string) (store.Record, bool)
	// Look is Recall that asks the others' place whatever is known here.
	Look(ctx context.Context, key string) (rec store.Record, source string, ok bool)
	// Lease asks to be the one that finds out what is under key by route; store.ErrLeased:
	// another gateway is; any other error: unknown.
	Lease(ctx context.Context, key, route string) (release func(), err error)
	// Await is one look at the record under key and at the lease.
	Await(ctx context.Context, key, route string) (rec store.Record, leased bool, err error)
	// Patience is how long one answer may wait for that place, all in all.
	Patience() time.Duration
	// Server names the server responsible for key, for people.
	Server(key string) string
}

const (
	// Between two looks at what another gateway is finding out.
	awaitFirst, awaitMost = 20 * time.Millisecond, 100 * time.Millisecond
	// testRoute is whom the lease on an accept-all test says is asked.
	testRoute = "accept-all test"
)

// sharing gives the memory as one that others write to, nil if it is ours alone.
func sharing(m Memory) Shared {
	if s, ok := m.(Shared); ok && s.Sharing() {
		return s
	}
	return nil
}

// recallShared is Recall that does no I/O for what is fresh in RAM.
func (a *asking) recallShared(ctx context.Context) (rec store.Record, source string, ok bool) {
	s := a.check.shared
	if rec, ok = s.Fresh(a.key); ok {
		return rec, rcptgate.SourceRAM, true
	}
	return s.Recall(ctx, a.key)
}

// patience is what a probe that ctx's query begins may wait for the others' place: what
// the query has left.
func (c *Check) patience(ctx context.Context) time.Duration {
	if c.shared == nil {
		return 0
	}
	return rcptgate.BudgetOf(ctx).Left(c.shared.Patience())
}

// forAll sees to it that one gateway finds out for all what is under key by route. It
// gives what another has found out meanwhile, if that serves, and the place that knew
// it; otherwise the caller is to ask, also if that is unknown, and must call release in the end.
func (c *Check) forAll(ctx context.Context, key, route string, serves func(rec *store.Record) bool) (rec store.Record, source string, release func()) {
	nothing := func() {}
	if c.shared == nil {
		return rec, "", nothing
	}
	budgeted := ctx
	if rcptgate.BudgetOf(ctx) == nil {
		budgeted = rcptgate.WithBudget(ctx, c.shared.Patience())
	}
	for {
		release, err := c.shared.Lease(budgeted, key, route)
		switch {
		case errors.Is(err, store.ErrLeased):
		case err != nil:
			return rec, "", nothing
		default:
			rec, source, ok := c.shared.Look(budgeted, key) // another may have put it before it let go
			if ok && serves(&rec) {
				release()
				return rec, source, nothing
			}
			return rec, "", release
		}
		if rec, known := c.await(ctx, key, route, serves); known {
			return rec, rcptgate.SourceMemcached, nothing
		}
		if ctx.Err() != nil {
			return rec, "", nothing
		}
	}
}

// await waits until what another gateway is finding out appears, the lease is gone, or
// ctx has ended. Waiting is not counted against the budget: it is for the backend.
func (c *Check) await(ctx context.Context, key, route string, serves func(rec *store.Record) bool) (rec store.Record, known bool) {
	unbudgeted := context.WithoutCancel(ctx)
	timer := time.NewTimer(awaitFirst)
	defer timer.Stop()
	for pause := awaitFirst; ; {
		select {
		case <-ctx.Done():
			return rec, false
		case <-timer.C:
		}
		rec, leased, err := c.shared.Await(rcptgate.WithBudget(unbudgeted, c.shared.Patience()), key, route)
		switch {
		case err == nil && !rec.IsZero() && serves(&rec):
			return rec, true
		case err != nil || !leased:
			return rec, false // Lease finds out which
		}
		pause = min(pause*2, awaitMost)
		timer.Reset(pause)
	}
}

// serves reports whether what another gateway has found out answers the question.
func (qn *question) serves(rec *store.Record) bool {
	now := time.Now()
	what, answer := qn.set.judge(rec, qn.rt, qn.mailbox.Domain, now)
	switch {
	case what != serve && (what != serveAsk || qn.refresh):
		return false
	case answer.Class == store.Refused && !qn.cautious():
		return qn.check.state.tookAnother(pair{answer.Backend, qn.mailbox.Domain}, qn.key, proofLife, now)
	}
	return true
}

// askedElsewhere asks whether another gateway finds out what f is to. If it has, f knows.
func (c *Check) askedElsewhere(ctx context.Context, f *flying, qn *question) (release func(), known bool) {
	if c.shared == nil || qn.alone {
		return func() {}, false
	}
	rec, source, release := c.forAll(ctx, f.Key.key, f.Key.route, qn.serves)
	if source != "" {
		known := rec
		f.Value.rec, f.Value.source = &known, source
		c.state.count.elsewhere.Add(1)
	}
	return release, source != ""
}

// fromElsewhere is the verdict on what another gateway has found out.
func (a *asking) fromElsewhere(f *landing, net *store.Answer, source string) rcptgate.Verdict {
	a.q.Trace.Note("probe: another gateway has asked")
	what, answer := a.judged(f.rec, time.Now())
	if a.q.Trace.Explain {
		explainMemory(a, f.rec, what, answer, f.source)
	}
	if what == serve || what == serveAsk {
		return a.say(answer, f.source)
	}
	return a.nobody(net, source)
}

// knownBy says for people which place, and which of its servers, knows what is under key.
func (c *Check) knownBy(source, key string) string {
	if source == rcptgate.SourceRAM || c.shared == nil {
		return source
	}
	if server := c.shared.Server(key); server != "" {
		return fmt.Sprintf("%s %s", source, server)
	}
	return source
}
