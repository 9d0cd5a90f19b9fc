// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"context"
	"time"
)

const (
	// tickEvery is the patience of a waiting probe: an interval in which the first in
	// the queue was not served, or more waiting than would be served in one, opens
	// connections: one at the first such tick, twice as many at each that follows.
	tickEvery = 5 * time.Millisecond
	// pairFrom is how many must wait at a tick for a lone connection to get a second
	// one, however fast it is: while we look at the reply on one, the backend has
	// something to do on the other.
	pairFrom = 4
	// firstDials is the most connections that are opened at once while none is open,
	// dialsMin while some are (or twice as many as are open).
	firstDials = 4
	dialsMin   = 8
	// growPause is how long nothing is opened after an attempt failed while other
	// connections work.
	growPause = time.Second
	// After easeEvery without a 421 at the banner the limit grows by a sixteenth.
	easeEvery = time.Minute
)

// grow opens a connection when probes wait and there is none. The pool is locked.
func (p *pool) grow() {
	if p.queue.n+p.late.n > 0 && len(p.idle)+p.busy+p.opening == 0 && !p.closed && p.barred == nil && p.room() > 0 {
		p.startDial()
	}
}

// room is how many connections more there may be. The pool is locked.
func (p *pool) room() int {
	if p.limit < p.most {
		if now := time.Now(); now.Sub(p.eased) >= easeEvery {
			p.limit = min(p.most, p.limit+max(1, p.most/16))
			p.eased = now
		}
	}
	return p.limit - (len(p.idle) + p.busy + p.opening + p.quits)
}

func (p *pool) hasRoom() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.room() > 0
}

func (p *pool) startTicking() {
	if p.ticking {
		return
	}
	p.ticking = true
	p.lastHead, p.burst = nil, 0
	if p.ticker == nil {
		p.ticker = time.AfterFunc(tickEvery, p.tick)
	} else {
		p.ticker.Reset(tickEvery)
	}
}

// tick looks at the queue every few milliseconds while there is one.
func (p *pool) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.queue.n == 0 {
		p.ticking = false
		return
	}
	open := len(p.idle) + p.busy + p.opening
	// No probe was served for an interval; or that was so, and the first is still an old one.
	starved := p.queue.first == p.lastHead || p.burst > 0 && time.Since(p.queue.first.since) > 2*tickEvery
	slow := time.Duration(p.queue.n)*p.latency > tickEvery*time.Duration(open)
	alone := open == 1 && p.queue.n >= pairFrom
	p.lastHead = p.queue.first
	if starved || slow || alone {
		p.burst = max(1, 2*p.burst)
		for range p.growBy(p.burst) {
			p.startDial()
		}
	} else {
		p.burst = 0
	}
	p.grow()
	p.ticker.Reset(tickEvery)
}

// growBy cuts down the number of connections that a tick wants to open.
func (p *pool) growBy(n int) int {
	if time.Now().Before(p.pauseTo) {
		return 0
	}
	atOnce := firstDials
	if ready := len(p.idle) + p.busy; ready > 0 {
		atOnce = max(dialsMin, 2*ready)
	}
	return max(0, min(n, p.queue.n-p.opening, p.room(), atOnce-p.opening))
}

// startDial opens a connection in the background for the first in the queue at the time
// when it is ready. The pool is locked.
func (p *pool) startDial() {
	late := p.lateAt(p.queue.first, time.Now())
	timeout := p.set.Timeout.Std()
	p.opening++
	p.wg.Go(func() {
		ctx, cancel := context.WithTimeout(p.life, timeout)
		defer cancel()
		c, fail := p.view.open(ctx, late)
		p.dialed(c, fail)
	})
}

// lateAt is when a connection that is opened at now for w counts as late: it has all
// the patience that w began with, though w has waited already. A server that greets
// after five seconds (Sendmail's greet_pause) is slow, not down, and must not look
// worse the longer its queue is.
func (p *pool) lateAt(w *waiter, now time.Time) time.Time {
	if w == nil || w.due.IsZero() {
		return p.tune.judgedAt(time.Time{}, now)
	}
	return p.tune.judgedAt(now.Add(w.due.Sub(w.since)), now)
}

// dialed books the end of a dial.
func (p *pool) dialed(c *conn, fail *Failure) {
	if fail == nil {
		p.fill(c)
		return
	}
	p.mu.Lock()
	p.opening--
	switch {
	case p.closed:
		p.mu.Unlock()
		return
	case len(p.idle)+p.busy > 0:
		p.mu.Unlock()
		p.view.notOpened(fail, true)
		p.pause(fail, fail.Reply != nil && fail.Reply.Code == 421)
		return
	}
	w := p.nextWaiter(time.Now())
	p.mu.Unlock()
	p.view.notOpened(fail, false) // first: a waiter that hears of it may ask again at once
	p.mu.Lock()
	if w != nil {
		w.ready <- grant{fail: fail}
	}
	p.grow()
	p.mu.Unlock()
}

// pause stops growth for a moment, because an attempt failed while others work. With cut
// the backend wants fewer connections: the limit is halved, once for all connections
// that are refused in one go.
func (p *pool) pause(fail *Failure, cut bool) {
	p.mu.Lock()
	now := time.Now()
	p.pauseTo = now.Add(growPause)
	cut = cut && now.Sub(p.eased) >= growPause
	if cut {
		p.limit, p.eased = max(1, p.limit/2), now
	}
	limit := p.limit
	p.mu.Unlock()
	if cut {
		p.view.limited(limit, fail)
	}
}

// reserve takes a place for a connection that the caller opens itself and hands over with
// fill. With force there is always one: the oldest overdue probe makes room, and until it
// is gone there is one connection too many.
func (p *pool) reserve(force bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || !force && p.room() <= 0 {
		return false
	}
	if p.room() <= 0 {
		p.dropOldestOverdue()
	}
	p.opening++
	return true
}

// fill hands over the connection that belongs into a reserved place; nil gives the place
// back.
func (p *pool) fill(c *conn) {
	p.mu.Lock()
	p.opening--
	if c == nil {
		p.grow()
		p.mu.Unlock()
		return
	}
	if p.closed {
		p.mu.Unlock()
		p.view.end(c, false)
		return
	}
	if p.room() > 0 {
		p.conns[c] = struct{}{}
		p.place(c, time.Now())
	} else {
		p.retire(c)
	}
	p.mu.Unlock()
}
