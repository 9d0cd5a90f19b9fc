// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"context"
	"log/slog"
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

// grow opens a connection when probes wait and there is none. Backend.mu is held.
func (b *Backend) grow() {
	if b.queue.n+b.late.n > 0 && len(b.idle)+b.busy+b.opening == 0 && !b.closed && !b.isOpen.Load() && b.room() > 0 {
		b.startDial()
	}
}

// room is how many connections more there may be.
func (b *Backend) room() int {
	now := time.Now()
	if b.limit < b.most && now.Sub(b.eased) >= easeEvery {
		b.limit = min(b.most, b.limit+max(1, b.most/16))
		b.eased = now
	}
	return b.limit - (len(b.idle) + b.busy + b.opening + b.quits)
}

func (b *Backend) startTicking() {
	if b.ticking {
		return
	}
	b.ticking = true
	b.lastHead, b.burst = nil, 0
	if b.ticker == nil {
		b.ticker = time.AfterFunc(tickEvery, b.tick)
	} else {
		b.ticker.Reset(tickEvery)
	}
}

// tick looks at the queue every few milliseconds while there is one.
func (b *Backend) tick() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.queue.n == 0 {
		b.ticking = false
		return
	}
	open := len(b.idle) + b.busy + b.opening
	// Nobody was served for an interval; or that was so, and the first still is an old one.
	starved := b.queue.first == b.lastHead || b.burst > 0 && time.Since(b.queue.first.since) > 2*tickEvery
	slow := time.Duration(b.queue.n)*b.counts.latency > tickEvery*time.Duration(open)
	alone := open == 1 && b.queue.n >= pairFrom
	b.lastHead = b.queue.first
	if starved || slow || alone {
		b.burst = max(1, 2*b.burst)
		for range b.growBy(b.burst) {
			b.startDial()
		}
	} else {
		b.burst = 0
	}
	b.grow()
	b.ticker.Reset(tickEvery)
}

// growBy cuts down the number of connections that a tick wants to open.
func (b *Backend) growBy(n int) int {
	if time.Now().Before(b.pauseTo) {
		return 0
	}
	atOnce := firstDials
	if ready := len(b.idle) + b.busy; ready > 0 {
		atOnce = max(dialsMin, 2*ready)
	}
	return max(0, min(n, b.queue.n-b.opening, b.room(), atOnce-b.opening))
}

// startDial opens a connection in the background for whoever is first in the queue
// when it is ready. Backend.mu is held.
func (b *Backend) startDial() {
	late := b.lateAt(b.queue.first, time.Now())
	b.opening++
	b.wg.Go(func() {
		ctx, cancel := context.WithTimeout(b.base, b.settings.Load().Timeout.Std())
		defer cancel()
		c, fail := b.open(ctx, late)
		b.dialed(c, fail)
	})
}

// lateAt is when a connection that is opened at now for w counts as late: it has all
// the patience that w began with, though w has waited already. A server that greets
// after five seconds (Sendmail's greet_pause) is slow, not down, and must not look
// worse the longer its queue is.
func (b *Backend) lateAt(w *waiter, now time.Time) time.Time {
	if w == nil || w.due.IsZero() {
		return b.tune.judgedAt(time.Time{}, now)
	}
	return b.tune.judgedAt(now.Add(w.due.Sub(w.since)), now)
}

// dialed books the end of a dial.
func (b *Backend) dialed(c *conn, fail *Failure) {
	b.mu.Lock()
	b.opening--
	switch {
	case b.closed:
		b.mu.Unlock()
		if c != nil {
			c.close()
		}
		return
	case fail == nil:
		b.conns[c] = struct{}{}
		b.place(c)
		b.mu.Unlock()
		return
	case len(b.idle)+b.busy > 0:
		b.pauseTo = time.Now().Add(growPause)
		cut := fail.Reply != nil && fail.Reply.Code == 421 && b.cutLimit()
		b.counts.fail(fail)
		limit := b.limit
		b.mu.Unlock()
		if cut {
			b.say(slog.LevelWarn, "backend takes no more connections: limit halved", "limit", limit, "error", fail)
		}
		return
	}
	w := b.nextWaiter()
	b.mu.Unlock()
	b.failed(fail) // first: who is told may ask again at once
	b.mu.Lock()
	if w != nil {
		w.ready <- grant{fail: fail}
	}
	b.grow()
	b.mu.Unlock()
}

// cutLimit halves the limit, once for all connections that are refused in one go.
func (b *Backend) cutLimit() bool {
	now := time.Now()
	if now.Sub(b.eased) < growPause {
		return false
	}
	b.limit, b.eased = max(1, b.limit/2), now
	return true
}
