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
	learnt := c.find(ctx, f, qn, began)
	c.state.flights.End(f)
	if learnt != nil {
		c.afterValid(learnt)
	}
}

// find is fly as far as its end. It gives a valid answer that was learnt.
func (c *Check) find(ctx context.Context, f *flying, qn *question, began time.Time) (learnt *lesson) {
	defer func() {
		if p := recover(); p != nil { // no input ends the process
			f.Value.out = outcome{err: fmt.Errorf("probe panicked: %v", p)}
			c.panicked("probe", qn.mailbox.Domain, p)
			learnt = nil
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

// lesson is what a flight teaches the memory. It is large, so it is made once.
type lesson struct {
	check  *Check
	qn     *question
	change change
	effect effect
	kept   bool         // effect is what the memory has made of change
	found  store.Answer // of a valid answer: what was known of its backend just before
}

// learn remembers what a flight found out. It gives a valid answer that was learnt.
func (c *Check) learn(ctx context.Context, f *landing, qn *question, began time.Time) *lesson {
	class := f.out.answer.Class
	if class == store.None && !qn.stands {
		return nil // nothing was known, and nothing is
	}
	now := time.Now()
	l := &lesson{check: c, qn: qn, change: change{settings: qn.set, out: &f.out, began: began, now: now, cautious: qn.cautious()}}
	switch class {
	case store.Valid:
		l.found, _ = c.finding(ctx, f.out.answer.Backend, qn.mailbox.Domain)
		l.change.acceptAll = l.found.Class == store.AcceptAll
	case store.Unknown:
		l.change.held = c.state.held(qn.mailbox.Domain, now)
	}
	if certain := qn.taught.keep(l.remember); !certain {
		c.state.count.doubted.Add(1)
		f.out = outcome{err: errDoubted}
		return nil
	}
	f.rec = &l.effect.rec
	c.reportChange(&l.effect, qn, now, class)
	if class != store.Valid || l.change.acceptAll {
		return nil
	}
	return l
}

// remember changes what is remembered under the question's key.
func (l *lesson) remember() (undo func()) {
	l.check.memory.Learn(l.qn.key, l.change.began, func(old store.Record) store.Record {
		l.effect, l.kept = l.change.apply(old), true
		return l.effect.rec
	})
	if !l.kept {
		l.effect = l.change.apply(store.Record{})
	}
	return l.takeBack
}

// takeBack puts back what was known before an answer that may have been another
// question's, unless something newer is known.
func (l *lesson) takeBack() {
	c, e, was := l.check, &l.effect, store.Record{}
	if e.old != nil {
		was = *e.old
	}
	c.state.count.doubted.Add(1)
	again := func() {
		for _, a := range []*store.Answer{&e.rec.Standing, &e.rec.Transient} {
			c.state.notGood(pair{a.Backend, l.qn.mailbox.Domain}, l.qn.key)
		}
		c.memory.Learn(l.qn.key, l.change.began, func(now store.Record) store.Record {
			if same(&now.Standing, &e.rec.Standing) && same(&now.Transient, &e.rec.Transient) && now.Doubt.Count == e.rec.Doubt.Count {
				return was
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
