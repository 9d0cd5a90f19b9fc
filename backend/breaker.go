// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// breaker keeps questions from a backend that does not answer. It is safe for concurrent
// use.
//
// It opens when MAIL, sent alone, is not answered by the time the asker stops waiting,
// and after tripAfter failures before MAIL in a row. Silence after commands in one write
// only makes it suspicious, since a server may keep its reply to MAIL until it has one
// to RCPT: then a trial decides. It closes when MAIL is answered: to a probe that was
// under way, or to a trial, which is a connection up to MAIL that names no recipient.
// docs/decisions/0101 has why it is not a library's.
type breaker struct {
	view breakerView
	tune *tuning
	life context.Context //nolint:containedctx // ends with the backend; owns trials
	wg   *sync.WaitGroup // of the backend: trials

	isOpen   atomic.Bool
	failures atomic.Int32 // before MAIL, in a row
	lastMail atomic.Int64 // of the last answer to MAIL, in UNIX nanoseconds

	mu     sync.Mutex // guards what follows
	since  time.Time  // when it last opened or closed
	cause  *Failure   // why it opened, then what the last trial met
	budget time.Duration
	healed chan struct{} // closed when the breaker closes
	wake   chan struct{} // of capacity 1: there is a question
	trials int           // under way
	// suspected is when a trial was last started on a suspicion.
	suspected time.Time
	closed    bool
}

// breakerView is what a breaker needs of its backend.
type breakerView interface {
	// trial connects and goes as far as MAIL, within budget. Nil means that MAIL was
	// answered. The breaker is not locked.
	trial(budget time.Duration) *Failure
	// turned is called when the breaker has opened, with the cause, or closed (nil). The
	// breaker is locked.
	turned(cause *Failure)
	// wasTurned is the same afterwards, for the log; after is how long the breaker was
	// in its former state.
	wasTurned(cause *Failure, after time.Duration)
	// lastAsked is when the last question was asked.
	lastAsked() time.Time
}

func newBreaker(life context.Context, wg *sync.WaitGroup, view breakerView, tune *tuning) *breaker {
	return &breaker{view: view, tune: tune, life: life, wg: wg, since: time.Now()}
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

// open reports whether nothing may be asked, and why. It brings the first pace of the
// trials back.
func (b *breaker) open() (cause *Failure, open bool) {
	if !b.isOpen.Load() {
		return nil, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default: // known already, or closed in this moment
	}
	return b.cause, true
}

// answered books an answer to MAIL, and closes the breaker.
func (b *breaker) answered() {
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
		b.view.turned(nil)
	}
	b.mu.Unlock()
	if wasOpen {
		b.view.wasTurned(nil, after)
	}
}

// answeredSince reports whether MAIL was answered after t.
func (b *breaker) answeredSince(t time.Time) bool { return b.lastMail.Load() > t.UnixNano() }

// failed books a failure of the backend. Several before MAIL in a row open the breaker.
func (b *breaker) failed(fail *Failure) {
	switch {
	case !fail.beforeMail() || fail.harmless():
	case fail.unclear:
		b.suspect(trialUsual)
	case b.failures.Add(1) >= tripAfter:
		b.trip(fail, trialUsual, b.tune.trialEvery)
	}
}

// silent books that the backend has not answered MAIL within the time given. The probe
// goes on.
func (b *breaker) silent(fail *Failure, within time.Duration) {
	if fail.unclear {
		b.suspect(within)
		return
	}
	b.trip(fail, within, 0)
}

// trip opens the breaker and starts trials, the first after wait.
func (b *breaker) trip(fail *Failure, budget, wait time.Duration) {
	b.mu.Lock()
	tripped := b.tripLocked(fail, budget, wait)
	after := time.Since(b.since)
	if tripped {
		b.since = time.Now()
	}
	b.mu.Unlock()
	if tripped {
		b.view.wasTurned(fail, after)
	}
}

func (b *breaker) tripLocked(fail *Failure, budget, wait time.Duration) bool {
	b.cause = fail
	if b.isOpen.Load() || b.closed {
		return false
	}
	b.isOpen.Store(true)
	b.budget = min(max(budget, trialMin), trialMax)
	b.healed = make(chan struct{})
	b.wake = make(chan struct{}, 1)
	b.view.turned(fail)
	healed, wake := b.healed, b.wake
	b.wg.Go(func() { b.runTrials(healed, wake, wait) })
	return true
}

// runTrials starts a trial now and then until the breaker closes. While there are
// questions they keep the first pace, so that the first question after the backend's
// recovery is right; after a long time without questions they slow down, and the first
// question brings the pace back.
func (b *breaker) runTrials(healed, wake chan struct{}, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	var last time.Time
	for {
		select {
		case <-healed:
			return
		case <-b.life.Done():
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
		if last.Sub(b.view.lastAsked()) > demandFor {
			every = b.tune.trialSlow
		}
		timer.Reset(every)
	}
}

func (b *breaker) startTrial() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || !b.isOpen.Load() || b.trials >= maxTrials {
		return
	}
	b.trials++
	budget := b.budget
	b.wg.Go(func() { b.tried(b.view.trial(budget)) })
}

// tried books the end of a trial.
func (b *breaker) tried(fail *Failure) {
	b.mu.Lock()
	b.trials--
	if fail != nil {
		b.cause = fail
	}
	b.mu.Unlock()
	if fail == nil {
		b.answered()
	}
}

// suspect starts a trial because the backend may be down, and opens the breaker if that
// fails and nothing else is answered meanwhile. Nothing is tried while the breaker is
// open or another trial runs, nor when the backend has answered, or was tried on a
// suspicion, within the time between two trials. It reports whether a trial has begun.
func (b *breaker) suspect(budget time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	switch {
	case b.closed || b.isOpen.Load() || b.trials > 0:
		return false
	case now.Sub(b.suspected) < b.tune.trialEvery || b.answeredSince(now.Add(-b.tune.trialEvery)):
		return false
	}
	b.suspected = now
	b.trials++
	b.wg.Go(func() {
		fail := b.view.trial(min(max(budget, trialMin), trialMax))
		b.tried(fail)
		if fail != nil && b.life.Err() == nil && !b.answeredSince(now) {
			b.trip(fail, trialUsual, b.tune.trialEvery)
		}
	})
	return true
}

// close ends trials; the backend's context ends those that run.
func (b *breaker) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
}

// health fills in what the breaker knows.
func (b *breaker) health(h *Health) {
	b.mu.Lock()
	h.Open, h.Since = b.isOpen.Load(), b.since
	b.mu.Unlock()
	if at := b.lastMail.Load(); at != 0 {
		h.LastAnswer = time.Unix(0, at)
	}
}
