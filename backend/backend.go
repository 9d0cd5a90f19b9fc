// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"rcptgate"
	"rcptgate/kit/neterr"
)

// Backend is one server behind the gateway and what is known of its health. It is
// made by [Set.Get] and safe for concurrent use.
type Backend struct {
	addr Address
	name string
	set  *Set
	tune *tuning

	life   context.Context //nolint:containedctx // ends with Close; owns dials and trials
	cancel context.CancelFunc
	wg     sync.WaitGroup // every goroutine of this backend

	settings atomic.Pointer[settings]
	limiter  atomic.Pointer[rate.Limiter] // nil: no limit
	names    names
	pool     *pool
	breaker  *breaker
	habits   habits
	stats    stats

	lastUse    atomic.Int64 // UNIX nanoseconds of the last Get or Ask
	lastSender atomic.Pointer[string]
	// unavailableTo is in UNIX nanoseconds, see unavailableFor.
	unavailableTo atomic.Int64
}

func newBackend(s *Set, a Address, set *settings) *Backend {
	b := &Backend{addr: a, name: a.String(), set: s, tune: &s.tune}
	b.life, b.cancel = context.WithCancel(context.Background())
	b.habits.say = func(what string, last time.Duration) {
		b.set.notices.Warn("backend-habit "+b.name+" "+what, "adapted to a mail server", "backend", b.name, "what", what, "for", last)
	}
	b.pool = newPool(b.life, &b.wg, b, b.tune)
	b.breaker = newBreaker(b.life, &b.wg, b, b.tune)
	b.configure(set)
	b.lastUse.Store(time.Now().UnixNano())
	return b
}

// Address says where the backend is.
func (b *Backend) Address() Address { return b.addr }

// Name is its address as text, which is made once.
func (b *Backend) Name() string { return b.name }

// configure changes limits; connections and knowledge stay.
func (b *Backend) configure(set *settings) {
	b.settings.Store(set)
	b.pool.configure(set)
	if set.ProbesPerSecond == 0 {
		b.limiter.Store(nil)
		return
	}
	if l := b.limiter.Load(); l != nil && l.Burst() == set.ProbesPerSecond {
		return
	}
	b.limiter.Store(rate.NewLimiter(rate.Limit(set.ProbesPerSecond), set.ProbesPerSecond))
}

func (b *Backend) failure(stage Stage, kind Kind, err error) *Failure {
	return &Failure{Backend: b.name, Stage: stage, Kind: kind, Err: err}
}

// Ask puts one question and waits for the reply to RCPT, until ctx ends. Anything else
// that happens is returned as a *Failure. Ask goes on waiting when p.Due has passed; to
// leave earlier, run it in a goroutine.
func (b *Backend) Ask(ctx context.Context, p Probe) (Reply, error) {
	for try := 0; ; try++ {
		rep, fail := b.tryAsk(ctx, &p)
		if fail == nil {
			return rep, nil
		}
		if !errors.Is(fail.Err, errGone) || try == 2 {
			return Reply{}, fail
		}
		b = b.set.Get(b.addr)
	}
}

func (b *Backend) tryAsk(ctx context.Context, p *Probe) (Reply, *Failure) {
	b.lastUse.Store(time.Now().UnixNano())
	if b.addr.IsMX || b.addr.IsZero() {
		return Reply{}, b.failure(StageAddress, KindClosed, errors.New("not one server: its MX has to be looked up first"))
	}
	q, kind, err := newQuestion(p)
	if err != nil {
		b.stats.stage(StageAddress)
		return Reply{}, b.failure(StageAddress, kind, err)
	}
	if s := b.lastSender.Load(); s == nil || *s != p.Sender {
		sender := p.Sender
		b.lastSender.Store(&sender)
	}
	if cause, open := b.breaker.open(); open {
		return Reply{}, b.refuse(cause)
	}
	if fail := b.throttle(ctx); fail != nil {
		return Reply{}, fail
	}
	acquire := b.pool.acquire
	if p.Fresh {
		acquire = b.pool.acquireFresh
	}
	c, fail := acquire(ctx, p.Due)
	if fail != nil {
		if fail.Stage == StageQueue && fail.Kind != KindClosed {
			b.stats.stage(StageQueue)
		}
		return Reply{}, fail
	}
	return b.carry(ctx, c, &q, p.Due)
}

// refuse is the answer while the breaker is open.
func (b *Backend) refuse(cause *Failure) *Failure {
	b.stats.stage(StageBreaker)
	f := b.failure(StageBreaker, KindOpen, nil)
	if cause != nil {
		f.Err = neterr.Say("not asked since it failed: "+cause.Why(), cause)
	}
	return f
}

// failed counts a failure and lets the breaker know.
func (b *Backend) failed(fail *Failure) {
	b.stats.fail(fail)
	b.breaker.failed(fail)
}

// throttle waits until the limit of probes a second leaves room for one.
func (b *Backend) throttle(ctx context.Context) *Failure {
	l := b.limiter.Load()
	if l == nil {
		return nil
	}
	if err := l.Wait(ctx); err != nil {
		kind := KindBusy
		if errors.Is(ctx.Err(), context.Canceled) {
			kind = KindCancelled
		}
		b.stats.stage(StageQueue)
		return b.failure(StageQueue, kind, err)
	}
	return nil
}

// The time that a backend gets on a connection before it counts as late: until the
// asker's deadline, but waiting for the connection is not its fault.
const (
	graceNoDue = 10 * time.Second
	graceMin   = 3 * time.Second
)

func (t *tuning) judgedAt(due, now time.Time) time.Time {
	if due.IsZero() {
		return now.Add(graceNoDue)
	}
	if least := now.Add(t.grace); due.Before(least) {
		return least
	}
	return due
}

// retries are the reasons for which one question is asked again, once each, on a
// fresh connection in the place of the old one.
type retries struct {
	kept    bool // a kept connection turned out to be of no use
	reply   bool // the reply to RCPT concerned the connection, see ofConnection
	step    bool // perhaps PIPELINING does not work
	stalled bool // the reason for step was silence
}

// carry asks q on c, which belongs to the caller, and gives the connection back.
func (b *Backend) carry(ctx context.Context, c *conn, q *question, due time.Time) (Reply, *Failure) {
	var tried retries
	for {
		before := cut{c.probes, c.errors, c.used}
		out := b.once(ctx, c, q, due, tried.step)
		if ctx.Err() != nil || !b.again(c, &out, before, &tried) {
			b.stats.add(&out.reply)
			b.pool.release(c, out.took(), out.keep, b.habits.known())
			if out.fail != nil {
				b.failed(out.fail)
			}
			return out.reply, out.fail
		}
		if out.fail == nil && out.reply.Code != 421 {
			c.quit() // postscreen(8) lets a client through only once this session has ended
		}
		fresh, fail := b.pool.renew(ctx, c, due, b.throttle(ctx))
		if fail != nil {
			return Reply{}, fail
		}
		c = fresh
	}
}

func (b *Backend) once(ctx context.Context, c *conn, q *question, due time.Time, step bool) outcome {
	now := time.Now()
	until := now.Add(c.set.Timeout.Std())
	if d, ok := ctx.Deadline(); ok {
		until = d
	}
	c.clock(b.tune.judgedAt(due, now), until)
	know := b.habits.at(now)
	stop := rcptgate.AfterCancel(ctx, c.aborter) // the deadline is the socket's
	out := c.ask(q, c.pipelining && !know.noPipelining && !step, know.proven)
	if !stop() {
		out.keep = false
		if out.fail != nil && errors.Is(ctx.Err(), context.Canceled) {
			out.fail = b.failure(out.fail.Stage, KindCancelled, ctx.Err())
		}
	}
	if f := out.fail; f != nil && f.Kind == KindTimeout {
		f.unclear = c.together && !c.mailAnswered
	}
	return out
}

// again decides whether the question is put once more, and learns from how it went.
func (b *Backend) again(c *conn, out *outcome, before cut, tried *retries) bool {
	unproven := out.pipelined && !b.habits.known().proven
	switch {
	case c.kept && out.endedKept():
		b.habits.wasCut(before)
		if tried.kept {
			return false
		}
		tried.kept = true
		return true
	case unproven && !tried.step && out.looksUnpipelined():
		tried.step = true
		tried.stalled = out.fail != nil && errors.Is(out.fail.Err, errStalled)
		return true
	case out.fail != nil:
		return false
	case out.reply.unavailable():
		return b.unavailable(tried)
	case out.reply.ofConnection():
		out.keep = false
		if tried.reply {
			out.fail = c.refused(StageRcpt, out.reply)
			out.reply = Reply{}
			return false
		}
		if c.kept {
			if out.reply.Code == 452 {
				before.errors = 0 // it says itself that recipients are what it counts
			}
			b.habits.wasCut(before)
		}
		tried.reply = true
		return true
	}
	switch {
	case tried.step:
		// Slow without pipelining too: then silence was no sign.
		b.habits.learnPipelining(tried.stalled && out.reply.Elapsed >= b.tune.stall)
	case unproven:
		b.habits.learnPipelining(true)
	}
	return false
}

// ofConnection reports whether the reply to RCPT is about the connection and not about
// the recipient.
func (r *Reply) ofConnection() bool {
	return r.Code == 421 || r.Code == 452 && r.Enhanced == "4.5.3"
}

// unavailable reports the reply with which postscreen(8) defers all recipients of a
// client's first session. The client's next session is let through.
func (r *Reply) unavailable() bool { return r.Code/100 == 4 && r.Code != 421 && r.Enhanced == "4.3.2" }

// unavailableFor is how long no fresh connection is tried after 450 4.3.2, once one has
// got the same reply: then that is the answer.
const unavailableFor = 10 * time.Second

// unavailable decides whether a fresh connection is tried after 450 4.3.2.
func (b *Backend) unavailable(tried *retries) bool {
	now := time.Now()
	if tried.reply {
		b.unavailableTo.Store(now.Add(unavailableFor).UnixNano())
	}
	if tried.reply || now.UnixNano() < b.unavailableTo.Load() {
		return false
	}
	tried.reply = true
	return true
}

// endedKept: a kept connection went the way kept connections go. A fresh one decides.
func (o *outcome) endedKept() bool {
	if o.fail == nil {
		return false
	}
	return o.fail.Kind == KindDropped || o.notQuiet || o.rsetNo || o.fail.Stage == StageMail && o.fail.Reply != nil &&
		(o.fail.Reply.Code == 421 || o.fail.Reply.Code == 503)
}

// looksUnpipelined: replies are missing, or the backend complains of the order.
func (o *outcome) looksUnpipelined() bool {
	if o.fail == nil {
		return o.reply.Code == 503
	}
	return errors.Is(o.fail.Err, errStalled) || o.fail.Kind == KindDropped ||
		o.fail.Reply != nil && o.fail.Reply.Code == 503
}

// What the pool sees of a backend: see poolView.

func (b *Backend) end(c *conn, quit bool) {
	if quit {
		c.quit()
	} else {
		c.close()
	}
}

func (b *Backend) notOpened(fail *Failure, others bool) {
	if others {
		b.stats.fail(fail)
		return
	}
	b.failed(fail)
}

func (b *Backend) limited(limit int, why *Failure) {
	b.set.notices.Warn("backend-limit "+b.name, "mail server accepts no more connections; limit halved",
		"backend", b.name, "limit", limit, "error", why.Why())
}
