// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"context"
	"errors"
	"slices"
	"time"
)

// pool is a backend's connections and the probes that wait for one. Backend.mu
// guards it.
//
// How many connections there are follows from waiting alone. One is opened at once
// when there is none; more only when probes have waited noticeably (see tick), so
// that eight askers share two connections to a fast backend, and sixty-four get one
// each to a slow one.
type pool struct {
	idle    []*conn            // the last is the most recently used
	conns   map[*conn]struct{} // idle and busy
	busy    int                // carrying a probe, or being renewed for one
	opening int                // being opened in the background
	quits   int                // saying QUIT

	most     int       // Config.Connections
	limit    int       // most, unless the backend said 421 to more
	eased    time.Time // when limit was last changed
	pauseTo  time.Time // no growth before: the last attempt failed while others work
	overdue  []*conn   // carrying probes that nobody waits for any more, oldest first
	queue    waiters   // in the order of arrival
	late     waiters   // of these, those whose asker has given up; served last
	ticking  bool
	ticker   *time.Timer
	lastHead *waiter // first in the queue at the last tick
	burst    int     // connections opened at the last tick

	reaping bool
	reaper  *time.Timer
}

// acquire gives a connection to the caller, or queues until there is one.
func (b *Backend) acquire(ctx context.Context, due time.Time) (*conn, *Failure) {
	b.mu.Lock()
	switch {
	case b.closed:
		b.mu.Unlock()
		return nil, b.failure(StageQueue, KindClosed, errGone)
	case len(b.idle) > 0:
		c := b.takeIdle()
		b.mu.Unlock()
		return c, nil
	case b.queue.n+b.late.n >= b.settings.Load().Queue:
		b.mu.Unlock()
		b.count(StageQueue)
		return nil, b.failure(StageQueue, KindBusy, errors.New("too many probes wait for a connection"))
	}
	w := newWaiter(due)
	b.queue.push(w)
	b.grow()
	b.startTicking()
	b.mu.Unlock()
	select {
	case g := <-w.ready:
		freeWaiter(w)
		return g.c, g.fail
	case <-ctx.Done():
		return nil, b.leave(ctx, w)
	}
}

// leave takes a waiter whose context ended out of the queue. What it was given in
// the same moment goes to the next.
func (b *Backend) leave(ctx context.Context, w *waiter) *Failure {
	b.mu.Lock()
	if w.in != nil {
		w.in.remove(w)
		b.mu.Unlock()
		freeWaiter(w)
	} else {
		b.mu.Unlock()
		g := <-w.ready
		freeWaiter(w)
		if g.c != nil {
			b.release(g.c, &outcome{keep: true})
		} else {
			return g.fail
		}
	}
	kind := KindTimeout
	if errors.Is(ctx.Err(), context.Canceled) {
		kind = KindCancelled
	}
	b.count(StageQueue)
	return b.failure(StageQueue, kind, ctx.Err())
}

// release takes c back from the prober that had acquired it.
func (b *Backend) release(c *conn, out *outcome) {
	know := b.known()
	b.mu.Lock()
	b.counts.add(out)
	b.unmarkLate(c)
	b.busy--
	switch {
	case b.closed || !out.keep || c.aborted.Load():
		b.forget(c)
		b.serveIdle()
		b.grow()
		b.mu.Unlock()
		c.close()
		return
	case c.worn(know), len(b.idle)+b.busy+b.opening+b.quits >= b.limit:
		b.retire(c)
		b.serveIdle()
		b.grow()
	default:
		b.place(c)
	}
	b.mu.Unlock()
}

// worn: c has carried as much as the backend should see on one connection.
func (c *conn) worn(know knownNow) bool {
	probes, errs := c.set.ProbesPerConnection, c.set.RefusalsPerConnection
	if know.maxProbes > 0 {
		probes = min(probes, know.maxProbes)
	}
	if know.maxErrors > 0 {
		errs = min(errs, know.maxErrors)
	}
	return c.probes >= probes || c.errors >= errs
}

// place gives a free connection to the next waiter, or keeps it.
func (b *Backend) place(c *conn) {
	c.kept = c.kept || c.dirty
	if w := b.nextWaiter(); w != nil {
		b.busy++
		w.ready <- grant{c: c}
		return
	}
	c.kept = true
	c.used = time.Now()
	b.idle = append(b.idle, c)
	if !b.reaping {
		b.reaping = true
		b.reapIn(c.set.Idle.Std())
	}
}

// takeIdle gives the most recently used idle connection; there is one.
func (b *Backend) takeIdle() *conn {
	last := len(b.idle) - 1
	c := b.idle[last]
	b.idle[last] = nil
	b.idle = b.idle[:last]
	b.busy++
	return c
}

// serveIdle gives an idle connection to a waiter for whom too many overdue probes
// were under way until now.
func (b *Backend) serveIdle() {
	if len(b.idle) == 0 {
		return
	}
	if w := b.nextWaiter(); w != nil {
		w.ready <- grant{c: b.takeIdle()}
	}
}

// nextWaiter prefers those whose asker still waits; the others may hold at most half
// of the connections.
func (b *Backend) nextWaiter() *waiter {
	now := time.Now()
	for w := b.queue.first; w != nil && !w.due.IsZero() && now.After(w.due); w = b.queue.first {
		b.queue.remove(w)
		b.late.push(w)
	}
	if w := b.queue.pop(); w != nil {
		return w
	}
	if len(b.overdue) < b.half() {
		return b.late.pop()
	}
	return nil
}

func (b *Backend) half() int { return max(1, b.limit/2) }

// forget takes c out of the books; its place in busy is the caller's.
func (b *Backend) forget(c *conn) {
	delete(b.conns, c)
	b.unmarkLate(c)
}

// retire says QUIT on c in the background. The place is free when that is done.
func (b *Backend) retire(c *conn) {
	b.forget(c)
	b.quits++
	b.wg.Go(func() {
		c.quit()
		b.mu.Lock()
		b.quits--
		b.grow()
		b.mu.Unlock()
	})
}

// markLate books c among the overdue; the oldest makes room when they are too many.
func (b *Backend) markLate(c *conn) {
	if !c.overdue {
		c.overdue = true
		b.overdue = append(b.overdue, c)
	}
	if len(b.overdue) > b.half() {
		b.dropOldestOverdue()
	}
}

func (b *Backend) dropOldestOverdue() bool {
	if len(b.overdue) == 0 {
		return false
	}
	oldest := b.overdue[0]
	b.unmarkLate(oldest)
	oldest.abort()
	return true
}

// notLate: c begins anew, or has ended.
func (b *Backend) notLate(c *conn) {
	if c.late {
		b.mu.Lock()
		b.unmarkLate(c)
		b.mu.Unlock()
	}
}

func (b *Backend) unmarkLate(c *conn) {
	if c.overdue {
		c.overdue = false
		b.overdue = slices.DeleteFunc(b.overdue, func(o *conn) bool { return o == c })
	}
}

// reapIn looks after idle connections in d.
func (b *Backend) reapIn(d time.Duration) {
	if b.reaper == nil {
		b.reaper = time.AfterFunc(d, b.reap)
	} else {
		b.reaper.Reset(d)
	}
}

// reap retires connections that have been idle too long.
func (b *Backend) reap() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	idle := b.settings.Load().Idle.Std()
	now := time.Now()
	n := 0
	for n < len(b.idle) && now.Sub(b.idle[n].used) >= idle {
		b.retire(b.idle[n])
		n++
	}
	b.idle = slices.Delete(b.idle, 0, n)
	if b.reaping = len(b.idle) > 0; b.reaping {
		b.reapIn(max(idle-now.Sub(b.idle[0].used), time.Millisecond))
	}
}
