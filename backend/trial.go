// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"rcptgate/view"
)

// What the breaker sees of a backend: see breakerView.

// trial connects and goes as far as MAIL, with the sender that was last asked with.
func (b *Backend) trial(budget time.Duration) *Failure {
	if !b.pool.reserve(true) {
		return b.pool.gone()
	}
	c, fail := b.tryOut(budget)
	if fail != nil {
		b.stats.fail(fail)
	}
	b.pool.fill(c)
	return fail
}

func (b *Backend) tryOut(budget time.Duration) (*conn, *Failure) {
	ctx, cancel := context.WithTimeout(b.life, budget)
	defer cancel()
	until, _ := ctx.Deadline()
	c, fail := b.open(ctx, until)
	if fail != nil {
		return nil, fail
	}
	q := question{}
	if s := b.lastSender.Load(); s != nil {
		if wire, utf8, err := wireSender(*s); err == nil && !utf8 {
			q.sender = wire
		}
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

// turned shuts the pool, or opens it again, and passes the change on.
func (b *Backend) turned(cause *Failure) {
	if cause != nil {
		b.pool.bar(cause)
	} else {
		b.pool.unbar()
	}
	if f := b.tune.onBreaker; f != nil {
		f(b.addr, cause != nil)
	}
}

func (b *Backend) wasTurned(cause *Failure, after time.Duration) {
	if cause != nil {
		b.set.notices.Raise(slog.LevelWarn, b.downKey(), "mail server does not answer; it is not asked until it does",
			"backend", b.name, "error", cause.Why())
		if !b.breaker.isOpen.Load() { // it has closed again meanwhile, and that was reported first
			b.set.notices.Clear(b.downKey(), "mail server answers again", "backend", b.name)
		}
		return
	}
	if b.breaker.isOpen.Load() {
		return // opened again meanwhile
	}
	b.set.notices.Clear(b.downKey(), "mail server answers again", "backend", b.name, "after", after.Round(time.Millisecond))
}

// downKey names the matter of this backend's breaker on the board of notices.
func (b *Backend) downKey() string { return downKey(b.name) }

func downKey(name string) string { return "backend-down " + name }

func (b *Backend) lastAsked() time.Time { return time.Unix(0, b.lastUse.Load()) }

// becameLate is called when c's time is up while its probe, or its opening, goes on.
func (b *Backend) becameLate(c *conn) {
	b.pool.markLate(c)
	if c.mailAnswered {
		return
	}
	waited := c.due.Sub(c.clockSet)
	fail := b.failure(c.stage, KindTimeout, fmt.Errorf("no answer within %s", view.Duration(waited)))
	if !c.ready && b.breaker.answeredSince(c.began) {
		// Others work: the backend has put this one on hold, as Postfix does beyond
		// its process limit.
		b.pool.pause(fail, true)
		c.abort()
		return
	}
	fail.unclear = c.together
	b.breaker.silent(fail, waited)
}
