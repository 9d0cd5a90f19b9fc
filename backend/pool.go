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
	case b.hasIdle():
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

// acquireFresh gives the caller a connection that was opened after the call. Where
// there is no room for another, the least recently used idle one makes room, or the
// one that the caller is given when its turn comes.
func (b *Backend) acquireFresh(ctx context.Context, due time.Time) (*conn, *Failure) {
	asked := time.Now()
	b.mu.Lock()
	var old *conn
	room := !b.closed && b.room() > 0
	if !b.closed && !room && len(b.idle) > 0 {
		old = b.idle[0]
		b.idle = slices.Delete(b.idle, 0, 1)
	}
	if room || old != nil {
		b.busy++
	}
	b.mu.Unlock()
	switch {
	case room:
		return b.openBusy(ctx, due, nil)
	case old != nil:
		return b.replace(ctx, old, due)
	}
	c, fail := b.acquire(ctx, due)
	if fail != nil || !c.began.Before(asked) {
		return c, fail
	}
	return b.replace(ctx, c, due)
}

// replace is renew for a connection that works: the server hears QUIT.
func (b *Backend) replace(ctx context.Context, c *conn, due time.Time) (*conn, *Failure) {
	c.bye()
	b.mu.Lock()
	b.forget(c)
	b.mu.Unlock()
	return b.openBusy(ctx, due, nil)
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
	now := time.Now()
	know := b.knowledge.Load().at(now)
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
	case c.worn(know, now), len(b.idle)+b.busy+b.opening+b.quits >= b.limit:
		b.retire(c)
		b.serveIdle()
		b.grow()
	default:
		b.place(c)
	}
	b.mu.Unlock()
}

// worn reports whether c has carried as much as the backend should see on one
// connection, or is too old.
func (c *conn) worn(know knownNow, now time.Time) bool {
	probes, errs := c.set.ProbesPerConnection, c.set.RefusalsPerConnection
	if know.maxProbes > 0 {
		probes = min(probes, know.maxProbes)
	}
	if know.maxErrors > 0 {
		errs = min(errs, know.maxErrors)
	}
	return c.probes >= probes || c.errors >= errs || c.makeshift || c.aged(now)
}

func (c *conn) aged(now time.Time) bool { return now.Sub(c.began) >= c.set.ConnectionAge.Std() }

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
		b.reapIn(c.set.unused())
	}
}

// hasIdle reports whether there is an idle connection, once those that are too old
// have been ended.
func (b *Backend) hasIdle() bool {
	now := time.Now()
	for last := len(b.idle) - 1; last >= 0; last-- {
		c := b.idle[last]
		if !c.aged(now) {
			return true
		}
		b.idle[last] = nil
		b.idle = b.idle[:last]
		b.retire(c)
	}
	return false
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
	if !b.hasIdle() {
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

// unused is the shortest time after which an idle connection may have to be ended.
func (s *settings) unused() time.Duration { return min(s.Idle, s.ConnectionAge).Std() }

// reap retires connections that have been idle too long, or are too old to be used.
func (b *Backend) reap() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	set := b.settings.Load()
	now := time.Now()
	next := set.unused()
	b.idle = slices.DeleteFunc(b.idle, func(c *conn) bool {
		left := min(set.Idle.Std()-now.Sub(c.used), set.ConnectionAge.Std()-now.Sub(c.began))
		if left <= 0 {
			b.retire(c)
			return true
		}
		next = min(next, left)
		return false
	})
	if b.reaping = len(b.idle) > 0; b.reaping {
		b.reapIn(max(next, time.Millisecond))
	}
}
