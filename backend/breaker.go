// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// breaker keeps questions from a backend that does not answer. Backend.mu guards it,
// isOpen apart.
//
// It opens when a backend has not answered MAIL by the time the asker stops waiting,
// or after tripAfter failures before MAIL in a row. It closes when MAIL is answered:
// to a probe that was under way, or to a trial, which is a connection up to MAIL that
// names no recipient. docs/decisions has why it is not a library's.
type breaker struct {
	isOpen   atomic.Bool
	failures atomic.Int32 // before MAIL, in a row
	since    time.Time    // when it last opened or closed
	cause    *Failure     // why it opened, then what the last trial met
	budget   time.Duration
	healed   chan struct{} // closed when the breaker closes
	wake     chan struct{} // of capacity 1: somebody asks
	trials   int           // under way
	// suspected is when it was last tried because another gateway found it down.
	suspected time.Time
}

const (
	tripAfter = 3
	// demandFor is how long after the last question trials keep their first pace.
	demandFor = 10 * time.Minute
	// maxTrials bounds trials that hang: trialMax over the pace, and one that begins
	// when another ends.
	maxTrials = 3
	// A trial has as long as the asker had that opened the breaker, within bounds.
	trialMin, trialMax = time.Second, 10 * time.Second
	trialUsual         = 8 * time.Second
)

// refuse is the answer while the breaker is open.
func (b *Backend) refuse() *Failure {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts.stage(StageBreaker)
	select {
	case b.wake <- struct{}{}:
	default: // told already, or closed in this moment
	}
	return b.openFailure()
}

func (b *Backend) openFailure() *Failure {
	f := b.failure(StageBreaker, KindOpen, nil)
	if b.cause != nil {
		f.Err = fmt.Errorf("not asked, since the backend failed: %w", b.cause)
	}
	return f
}

// answered is told that the backend has answered MAIL.
func (b *Backend) answered() {
	b.lastMail.Store(time.Now().UnixNano())
	if !b.isOpen.Load() && b.failures.Load() == 0 {
		return
	}
	b.mu.Lock()
	b.failures.Store(0)
	wasOpen := b.isOpen.Load()
	after := time.Since(b.since)
	if wasOpen {
		b.isOpen.Store(false)
		b.since = time.Now()
		close(b.healed)
		b.told(false)
	}
	b.mu.Unlock()
	if wasOpen {
		b.say(slog.LevelInfo, "backend answers again: breaker closed", "after", after.Round(time.Millisecond))
	}
}

// failed counts a failure, and opens the breaker after several before MAIL.
func (b *Backend) failed(fail *Failure) {
	b.mu.Lock()
	b.counts.fail(fail)
	if !fail.beforeMail() || fail.harmless() {
		b.mu.Unlock()
		return
	}
	tripped := b.failures.Add(1) >= tripAfter && b.trip(fail, trialUsual, b.tune.trialEvery)
	b.mu.Unlock()
	b.sayTripped(tripped, fail)
}

func (b *Backend) sayTripped(tripped bool, fail *Failure) {
	if tripped {
		b.say(slog.LevelWarn, "backend does not answer: breaker opened", "error", fail)
	}
}

// becameLate is told that c's time is up while its probe, or its opening, goes on.
func (b *Backend) becameLate(c *conn) {
	b.mu.Lock()
	b.markLate(c)
	if c.mailAnswered {
		b.mu.Unlock()
		return
	}
	if !c.ready && b.lastMail.Load() > c.began.UnixNano() {
		// Others work: the backend has put this one on hold, as Postfix does beyond
		// its process limit.
		cut := b.cutLimit()
		b.pauseTo = time.Now().Add(growPause)
		limit := b.limit
		b.mu.Unlock()
		c.abort()
		if cut {
			b.say(slog.LevelWarn, "backend keeps further connections waiting: limit halved", "limit", limit)
		}
		return
	}
	fail := b.failure(c.stage, KindTimeout, fmt.Errorf("no answer within %v", c.due.Sub(c.clockSet).Round(time.Millisecond)))
	tripped := b.trip(fail, c.due.Sub(c.clockSet), 0)
	b.mu.Unlock()
	b.sayTripped(tripped, fail)
}

// trip opens the breaker and starts trials, the first after wait. Those who wait for
// a connection are told. Backend.mu is held.
func (b *Backend) trip(fail *Failure, budget, wait time.Duration) bool {
	b.cause = fail
	if b.isOpen.Load() || b.closed {
		return false
	}
	b.isOpen.Store(true)
	b.since = time.Now()
	b.budget = min(max(budget, trialMin), trialMax)
	b.healed = make(chan struct{})
	b.wake = make(chan struct{}, 1)
	b.told(true)
	for _, q := range []*waiters{&b.queue, &b.late} {
		for w := q.pop(); w != nil; w = q.pop() {
			w.ready <- grant{fail: fail}
		}
	}
	healed, wake := b.healed, b.wake
	b.wg.Go(func() { b.runTrials(healed, wake, wait) })
	return true
}

// runTrials starts a trial now and then until the breaker closes. While there are
// questions they keep the first pace, so that the first question after the backend's
// recovery is right; when nobody has asked for long they slow down, and the first
// question brings the pace back.
func (b *Backend) runTrials(healed, wake chan struct{}, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	var last time.Time
	for {
		select {
		case <-healed:
			return
		case <-b.base.Done():
			return
		case <-wake:
			if time.Since(last) < b.tune.trialEvery || last.IsZero() {
				continue
			}
		case <-timer.C:
		}
		last = time.Now()
		b.startTrial()
		every := b.tune.trialEvery
		if last.Sub(time.Unix(0, b.lastUse.Load())) > demandFor {
			every = b.tune.trialSlow
		}
		timer.Reset(every)
	}
}

func (b *Backend) startTrial() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || !b.isOpen.Load() || b.trials >= maxTrials {
		return
	}
	if b.room() <= 0 {
		b.dropOldestOverdue() // its place is free in a moment; until then there is one connection too many
	}
	b.trials++
	b.opening++
	budget := b.budget
	b.wg.Go(func() {
		c, fail := b.trial(budget)
		b.tried(c, fail)
	})
}

// trial goes as far as MAIL with the sender that was last asked with.
func (b *Backend) trial(budget time.Duration) (*conn, *Failure) {
	ctx, cancel := context.WithTimeout(b.base, budget)
	defer cancel()
	until, _ := ctx.Deadline()
	c, fail := b.open(ctx, until)
	if fail != nil {
		return nil, fail
	}
	q := question{}
	if s := b.lastSender.Load(); s != nil && writable(*s) == nil && isASCII(*s) {
		q.sender = *s
	}
	c.clock(until, until)
	rep, err := c.exchange(&q, cmdMail, cmdMail, false)
	c.dirty = true
	switch {
	case err != nil:
		fail = c.failure(StageMail, err)
	case rep.Code == 421 || rep.Code/100 == 3:
		fail = c.refused(StageMail, rep)
	case c.in.pending():
		fail = b.failure(StageMail, KindGarbage, errGarbage)
	}
	if fail != nil {
		c.close()
		return nil, fail
	}
	if rep.Code >= 400 {
		c.errors++
	}
	return c, nil
}

// tried books the end of a trial.
func (b *Backend) tried(c *conn, fail *Failure) {
	b.mu.Lock()
	b.trials--
	if fail != nil {
		b.cause = fail
		b.counts.fail(fail)
	}
	b.mu.Unlock()
	if fail == nil {
		b.answered()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opening--
	switch {
	case fail != nil:
	case b.closed:
		c.close()
	case b.room() > 0:
		b.conns[c] = struct{}{}
		b.place(c)
	default:
		b.retire(c)
	}
}
