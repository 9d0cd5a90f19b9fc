// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"rcptgate"
)

// pool is a backend's connections and the probes that wait for one. It is safe for
// concurrent use.
//
// How many connections there are follows from waiting alone. One is opened at once
// when there is none; more only when probes have waited noticeably (see tick), so
// that eight askers share two connections to a fast backend, and sixty-four get one
// each to a slow one.
//
// A connection belongs to the caller of acquire or acquireFresh until release or renew.
type pool struct {
	view poolView
	tune *tuning
	life context.Context //nolint:containedctx // ends with the backend; owns dials
	wg   *sync.WaitGroup // of the backend: dials and QUITs

	free sync.Pool // waiters that can be used again

	mu      sync.Mutex // guards what follows
	set     *settings
	idle    []*conn            // the last is the most recently used
	conns   map[*conn]struct{} // idle and busy
	busy    int                // carrying a probe, or being renewed for one
	opening int                // being opened in the background
	quits   int                // saying QUIT
	barred  *Failure           // why no connections are given out; nil: they are
	closed  bool

	most     int       // Config.Connections
	limit    int       // most, unless the backend said 421 to more
	eased    time.Time // when limit was last changed
	pauseTo  time.Time // no growth before: the last attempt failed while others work
	overdue  []*conn   // carrying probes whose askers have left, oldest first
	queue    waiters   // in the order of arrival
	late     waiters   // of these, those whose asker has given up; served last
	latency  time.Duration
	ticking  bool
	ticker   *time.Timer
	lastHead *waiter // first in the queue at the last tick
	burst    int     // connections opened at the last tick

	reaping bool
	reaper  *time.Timer
}

// poolView is what a pool needs of its backend. The pool may be locked when it calls end
// without quit, or failure; it is not when it calls the others.
type poolView interface {
	// open makes a connection ready for MAIL. At due the backend counts as late.
	open(ctx context.Context, due time.Time) (*conn, *Failure)
	// end ends a connection: with QUIT, which may take a second, or at once.
	end(c *conn, quit bool)
	// notOpened is called when a connection could not be opened. With others, the backend
	// has other connections, so it is not down.
	notOpened(fail *Failure, others bool)
	// limited is called when the limit of connections was halved.
	limited(limit int, why *Failure)
	failure(stage Stage, kind Kind, err error) *Failure
}

func newPool(life context.Context, wg *sync.WaitGroup, view poolView, tune *tuning) *pool {
	return &pool{view: view, tune: tune, life: life, wg: wg, conns: make(map[*conn]struct{})}
}

// configure changes limits. Connections that are open keep the settings that they were
// opened with.
func (p *pool) configure(set *settings) {
	p.mu.Lock()
	p.set = set
	p.most, p.limit = set.Connections, set.Connections
	p.mu.Unlock()
}

// errGone: this Backend has made room for others; the Set has or makes a new one.
var errGone = errors.New("backend is closed")

func (p *pool) gone() *Failure { return p.view.failure(StageQueue, KindClosed, errGone) }

// acquire gives a connection to the caller, or queues until there is one.
func (p *pool) acquire(ctx context.Context, due time.Time) (*conn, *Failure) {
	p.mu.Lock()
	switch {
	case p.closed:
		p.mu.Unlock()
		return nil, p.gone()
	case p.barred != nil:
		fail := p.barred
		p.mu.Unlock()
		return nil, fail
	case p.hasIdle():
		c := p.takeIdle()
		p.mu.Unlock()
		return c, nil
	case p.queue.n+p.late.n >= p.set.Queue:
		p.mu.Unlock()
		return nil, p.view.failure(StageQueue, KindBusy, errors.New("too many probes wait for a connection"))
	}
	w := p.newWaiter(due)
	p.queue.push(w)
	p.grow()
	p.startTicking()
	p.mu.Unlock()
	g, ok := rcptgate.Await(ctx, w.ready)
	if !ok {
		return nil, p.leave(ctx, w)
	}
	p.freeWaiter(w)
	return g.c, g.fail
}

// acquireFresh gives the caller a connection that was opened after the call. Where
// there is no room for another, the least recently used idle one makes room, or the
// one that the caller is given when its turn comes.
func (p *pool) acquireFresh(ctx context.Context, due time.Time) (*conn, *Failure) {
	asked := time.Now()
	p.mu.Lock()
	var old *conn
	free := !p.closed && p.barred == nil
	room := free && p.room() > 0
	if free && !room && len(p.idle) > 0 {
		old = p.idle[0]
		p.idle = slices.Delete(p.idle, 0, 1)
	}
	if room || old != nil {
		p.busy++
	}
	p.mu.Unlock()
	switch {
	case room:
		return p.openBusy(ctx, due, nil)
	case old != nil:
		return p.replace(ctx, old, due)
	}
	c, fail := p.acquire(ctx, due)
	if fail != nil || !c.began.Before(asked) {
		return c, fail
	}
	return p.replace(ctx, c, due)
}

// replace is renew for a connection that works: the server hears QUIT.
func (p *pool) replace(ctx context.Context, c *conn, due time.Time) (*conn, *Failure) {
	c.bye()
	return p.renew(ctx, c, due, nil)
}

// renew puts a fresh connection in the place of c, which the caller had acquired, unless
// not says why that is of no use. The caller has no connection when it fails.
func (p *pool) renew(ctx context.Context, c *conn, due time.Time, not *Failure) (*conn, *Failure) {
	p.mu.Lock()
	p.forget(c)
	p.mu.Unlock()
	p.view.end(c, false)
	return p.openBusy(ctx, due, not)
}

// openBusy opens a connection for the caller, which has a place in busy.
func (p *pool) openBusy(ctx context.Context, due time.Time, fail *Failure) (*conn, *Failure) {
	var fresh *conn
	switch {
	case fail != nil:
	case p.life.Err() != nil:
		fail = p.gone()
	default:
		fresh, fail = p.view.open(ctx, p.tune.judgedAt(due, time.Now()))
	}
	p.mu.Lock()
	if fail == nil && p.closed {
		p.view.end(fresh, false)
		fail = p.gone()
	}
	if fail != nil {
		p.busy--
		p.grow()
		p.mu.Unlock()
		p.view.notOpened(fail, false)
		return nil, fail
	}
	p.conns[fresh] = struct{}{}
	p.mu.Unlock()
	return fresh, nil
}

// leave takes a waiter whose context ended out of the queue. What it was given in
// the same moment goes to the next.
func (p *pool) leave(ctx context.Context, w *waiter) *Failure {
	p.mu.Lock()
	if w.in != nil {
		w.in.remove(w)
		p.mu.Unlock()
		p.freeWaiter(w)
	} else {
		p.mu.Unlock()
		g := <-w.ready
		p.freeWaiter(w)
		if g.c == nil {
			return g.fail
		}
		p.release(g.c, 0, true, knownNow{})
	}
	kind := KindTimeout
	if errors.Is(ctx.Err(), context.Canceled) {
		kind = KindCancelled
	}
	return p.view.failure(StageQueue, kind, ctx.Err())
}

// release takes c back from the prober that had acquired it. Took is the time of its
// probe, 0 for none; keep says that the connection can carry another; know holds what
// limits its use.
func (p *pool) release(c *conn, took time.Duration, keep bool, know knownNow) {
	now := time.Now()
	p.mu.Lock()
	p.average(took)
	p.unmarkLate(c)
	p.busy--
	switch {
	case p.closed || !keep || c.aborted.Load():
		p.forget(c)
		p.serveIdle()
		p.grow()
		p.mu.Unlock()
		p.view.end(c, false)
		return
	case c.worn(know, now), len(p.idle)+p.busy+p.opening+p.quits >= p.limit:
		p.retire(c)
		p.serveIdle()
		p.grow()
	default:
		p.place(c, now)
	}
	p.mu.Unlock()
}

// average keeps the moving average of a probe's time.
func (p *pool) average(took time.Duration) {
	if took == 0 {
		return
	}
	if p.latency > 0 {
		// One stall (ours as likely as the backend's) must not look like slowness.
		took = p.latency + (min(took, 4*p.latency)-p.latency)/8
	}
	p.latency = max(took, time.Microsecond)
}

// place gives a free connection to the next waiter, or keeps it.
func (p *pool) place(c *conn, now time.Time) {
	c.kept = c.kept || c.dirty
	if w := p.nextWaiter(now); w != nil {
		p.busy++
		w.ready <- grant{c: c}
		return
	}
	c.kept = true
	c.used = now
	p.idle = append(p.idle, c)
	if !p.reaping {
		p.reaping = true
		p.reapIn(c.set.unused())
	}
}

// hasIdle reports whether there is an idle connection, once those that are too old
// have been ended.
func (p *pool) hasIdle() bool {
	if len(p.idle) == 0 {
		return false
	}
	now := time.Now()
	for last := len(p.idle) - 1; last >= 0; last-- {
		c := p.idle[last]
		if !c.aged(now) {
			return true
		}
		p.idle[last] = nil
		p.idle = p.idle[:last]
		p.retire(c)
	}
	return false
}

// takeIdle gives the most recently used idle connection; there is one.
func (p *pool) takeIdle() *conn {
	last := len(p.idle) - 1
	c := p.idle[last]
	p.idle[last] = nil
	p.idle = p.idle[:last]
	p.busy++
	return c
}

// serveIdle gives an idle connection to a waiter for whom too many overdue probes
// were under way until now.
func (p *pool) serveIdle() {
	if !p.hasIdle() {
		return
	}
	if w := p.nextWaiter(time.Now()); w != nil {
		w.ready <- grant{c: p.takeIdle()}
	}
}

// nextWaiter prefers those whose asker still waits; the others may hold at most half
// of the connections.
func (p *pool) nextWaiter(now time.Time) *waiter {
	for w := p.queue.first; w != nil && !w.due.IsZero() && now.After(w.due); w = p.queue.first {
		p.queue.remove(w)
		p.late.push(w)
	}
	if w := p.queue.pop(); w != nil {
		return w
	}
	if len(p.overdue) < p.half() {
		return p.late.pop()
	}
	return nil
}

func (p *pool) half() int { return max(1, p.limit/2) }

// forget takes c out of the books; its place in busy is the caller's.
func (p *pool) forget(c *conn) {
	delete(p.conns, c)
	p.unmarkLate(c)
}

// retire says QUIT on c in the background. The place is free when that is done.
func (p *pool) retire(c *conn) {
	p.forget(c)
	p.quits++
	p.wg.Go(func() {
		p.view.end(c, true)
		p.mu.Lock()
		p.quits--
		p.grow()
		p.mu.Unlock()
	})
}

// markLate books c among the overdue; the oldest makes room when they are too many.
func (p *pool) markLate(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !c.overdue {
		c.overdue = true
		p.overdue = append(p.overdue, c)
	}
	if len(p.overdue) > p.half() {
		p.dropOldestOverdue()
	}
}

func (p *pool) dropOldestOverdue() {
	if len(p.overdue) > 0 {
		oldest := p.overdue[0]
		p.unmarkLate(oldest)
		oldest.abort()
	}
}

// notLate is called when c begins anew, or has ended.
func (p *pool) notLate(c *conn) {
	if c.late {
		p.mu.Lock()
		p.unmarkLate(c)
		p.mu.Unlock()
	}
}

func (p *pool) unmarkLate(c *conn) {
	if c.overdue {
		c.overdue = false
		p.overdue = slices.DeleteFunc(p.overdue, func(o *conn) bool { return o == c })
	}
}

// reapIn looks after idle connections in d.
func (p *pool) reapIn(d time.Duration) {
	if p.reaper == nil {
		p.reaper = time.AfterFunc(d, p.reap)
	} else {
		p.reaper.Reset(d)
	}
}

// unused is the shortest time after which an idle connection may have to be ended.
func (s *settings) unused() time.Duration { return min(s.Idle, s.ConnectionAge).Std() }

// reap retires connections that have been idle too long, or are too old to be used.
func (p *pool) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	now := time.Now()
	next := p.set.unused()
	p.idle = slices.DeleteFunc(p.idle, func(c *conn) bool {
		left := min(p.set.Idle.Std()-now.Sub(c.used), p.set.ConnectionAge.Std()-now.Sub(c.began))
		if left <= 0 {
			p.retire(c)
			return true
		}
		next = min(next, left)
		return false
	})
	if p.reaping = len(p.idle) > 0; p.reaping {
		p.reapIn(max(next, time.Millisecond))
	}
}

// bar fails all requests for a connection: those that wait, and new ones until unbar.
func (p *pool) bar(fail *Failure) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.barred = fail
	p.failWaiters(fail)
}

func (p *pool) unbar() {
	p.mu.Lock()
	p.barred = nil
	p.grow()
	p.mu.Unlock()
}

func (p *pool) failWaiters(fail *Failure) {
	for _, q := range []*waiters{&p.queue, &p.late} {
		for w := q.pop(); w != nil; w = q.pop() {
			w.ready <- grant{fail: fail}
		}
	}
}

// close ends every connection; those that carry a probe end it. Unless forced it does
// so only when nothing is under way, and reports whether.
func (p *pool) close(force bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !force && p.busy+p.opening+p.queue.n+p.late.n > 0 {
		return false
	}
	p.closed = true
	for _, t := range []*time.Timer{p.ticker, p.reaper} {
		if t != nil {
			t.Stop()
		}
	}
	for c := range p.conns {
		c.abort()
	}
	for _, c := range p.idle {
		p.view.end(c, false)
		delete(p.conns, c)
	}
	p.idle = nil
	p.failWaiters(p.gone())
	return true
}

// health fills in what the pool knows.
func (p *pool) health(h *Health) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h.Idle, h.Busy, h.Opening, h.Closing = len(p.idle), p.busy, p.opening, p.quits
	h.Overdue, h.Limit, h.Waiting = len(p.overdue), p.limit, p.queue.n+p.late.n
	h.Latency = p.latency
}
