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

// fly asks a question to its end, remembers the answer, and releases those that wait. It
// never panics.
func (c *Check) fly(f *flying, qn *question, began time.Time) {
	ctx, stop := rcptgate.LazyDeadline(c.state.ctx, began.Add(c.timeout))
	defer stop()
	after := c.find(ctx, f, qn, began)
	c.state.flights.End(f)
	if after != nil {
		after()
	}
}

// find is fly as far as its end. It gives what is to be done after that.
func (c *Check) find(ctx context.Context, f *flying, qn *question, began time.Time) (after func()) {
	defer func() {
		if p := recover(); p != nil { // no input ends the process
			f.Value.out = outcome{err: fmt.Errorf("probe panicked: %v", p)}
			c.panicked("probe", qn.mailbox.Domain, p)
			after = nil
		}
	}()
	if c.shared != nil {
		ctx = rcptgate.WithBudget(ctx, qn.patience)
	}
	release, elsewhere := c.askedElsewhere(ctx, f, qn)
	defer release() // behind what is learnt
	if elsewhere {
		return nil
	}
	f.Value.out = qn.probe(ctx)
	if qn.alone {
		return nil
	}
	return c.learn(ctx, &f.Value, qn, began)
}

var errDoubted = errors.New("the server has sent more replies than it was asked for: this one may belong to another question")

// learn remembers what a flight found out.
func (c *Check) learn(ctx context.Context, f *landing, qn *question, began time.Time) (after func()) {
	class := f.out.answer.Class
	var found store.Answer
	if class == store.None && !qn.stands {
		return nil // nothing was known, and nothing is
	}
	now := time.Now()
	ch := change{settings: qn.set, out: &f.out, began: began, now: now, cautious: qn.cautious()}
	switch class {
	case store.Valid:
		found, _ = c.finding(ctx, f.out.answer.Backend, qn.mailbox.Domain)
		ch.acceptAll = found.Class == store.AcceptAll
	case store.Unknown:
		ch.held = c.state.held(qn.mailbox.Domain, now)
	}
	var e effect
	certain := qn.taught.keep(func() (undo func()) {
		e = c.change(&ch, qn.key)
		return func() { c.takeBackAll(qn, &ch, e) }
	})
	if !certain {
		c.state.count.doubted.Add(1)
		f.out = outcome{err: errDoubted}
		return nil
	}
	f.rec = e.rec
	c.reportChange(&e, qn, now, class)
	if class != store.Valid || ch.acceptAll {
		return nil
	}
	by := f.out.by
	return func() {
		c.afterValid(qn, by, &found, tentative{key: qn.key, began: began, learnt: now, before: e.before})
	}
}

// change changes what is remembered under key.
func (c *Check) change(ch *change, key string) (e effect) {
	applied := false
	c.memory.Learn(key, ch.began, func(old store.Record) store.Record {
		e, applied = ch.apply(old), true
		return e.rec
	})
	if !applied {
		e = ch.apply(store.Record{})
	}
	return e
}

// takeBackAll puts back what was known before an answer that may have been another
// question's, unless something newer is known.
func (c *Check) takeBackAll(qn *question, ch *change, e effect) {
	c.state.count.doubted.Add(1)
	again := func() {
		for _, a := range []*store.Answer{&e.rec.Standing, &e.rec.Transient} {
			c.state.notGood(pair{a.Backend, qn.mailbox.Domain}, qn.key)
		}
		c.memory.Learn(qn.key, ch.began, func(now store.Record) store.Record {
			if same(&now.Standing, &e.rec.Standing) && same(&now.Transient, &e.rec.Transient) && now.Doubt.Count == e.rec.Doubt.Count {
				return e.old
			}
			return now
		})
	}
	_ = c.state.run(again) // the connection is busy with its end; a closed state has no use for it
}

// same compares answers as places keep them: times to the second.
func same(a, b *store.Answer) bool {
	return a.Class == b.Class && a.Code == b.Code && a.Backend == b.Backend && store.Seconds(a.Learnt) == store.Seconds(b.Learnt)
}

// reportChange counts what a change did, and reports what the postmaster should know.
func (c *Check) reportChange(e *effect, qn *question, now time.Time, class store.Class) {
	begins := false // reported at once: the first answer that is kept for it is hours away
	if e.refreshed && class != store.None && class != store.AcceptAll {
		begins = c.state.countRefresh(qn.mailbox.Domain, qn.key, e.doubted, now)
	}
	switch {
	case e.demoted:
		c.state.count.demotions.Add(1)
		c.log.Warn("recipient no longer exists: the backend has said so repeatedly", "recipient", qn.key, "backend", e.rec.Standing.Backend)
	case e.held:
		c.state.count.demotionsHeld.Add(1)
		begins = true
	}
	if begins {
		c.hintHeld(qn)
	}
}
