// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rcptgate"
	"rcptgate/backend"
	"rcptgate/route"
	"rcptgate/store"
)

const (
	// defaultDue is when an asker without a deadline stops waiting.
	defaultDue = 8 * time.Second
	// silence is how long a backend may say nothing before the next one is asked too.
	silence = 3 * time.Second
	// fallbackLife is for how long a backend that refuses the first sender is asked
	// with the fallback at once.
	fallbackLife = time.Hour
)

// question is what one flight asks. It holds nothing of the Query it came from.
type question struct {
	check   *Check
	set     *settings
	rt      *route.Route
	mailbox rcptgate.Mailbox
	key     string
	due     time.Time // when the asker stops waiting
	stands  bool      // a valid answer is remembered
	// looked is the backend of which it was just looked up that it is not known to
	// accept every recipient; empty for none.
	looked string
	// patience is how long it may wait for the others' place.
	patience time.Duration
	refresh  bool // nobody waits: the answer is due
}

func (qn *question) cautious() bool { return qn.rt.Origin == route.MTA }

// probe asks the route's backends, in order.
func (qn *question) probe(ctx context.Context) outcome {
	list, err := qn.rt.Backends(ctx, qn.mailbox.Domain)
	switch {
	case err != nil:
		return outcome{err: fmt.Errorf("no backend for %s: %w", qn.mailbox.Domain, err)}
	case len(list) == 1:
		return qn.askOne(ctx, list[0], qn.due)
	}
	return qn.askInOrder(ctx, list)
}

// askInOrder starts the next backend after an inconclusive answer, or beside the
// one before after some silence. The first conclusive answer wins; without one, an
// temporary answer beats none. Each backend but the last gets half of the time that is
// left. Whoever answers later goes on, unheard: cut off before its time was up, a
// mute backend would never open its breaker, and cost every question the same wait.
func (qn *question) askInOrder(ctx context.Context, list []route.Backend) outcome {
	results := make(chan outcome, len(list))
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	started, pending := 0, 0
	start := func() {
		b, due := list[started], qn.due
		started++
		pending++
		timer.Stop()
		if started < len(list) {
			half := max(time.Until(due)/2, 0)
			due = time.Now().Add(half)
			timer.Reset(min(silence, half))
		}
		ask := func() {
			alone, cancel := qn.check.probeContext(ctx)
			defer cancel()
			results <- qn.askOne(alone, b, due)
		}
		if !qn.check.state.run(ask) {
			results <- outcome{err: errClosed}
		}
	}
	best := outcome{err: errors.New("no backend has answered")}
	for start(); pending > 0; {
		select {
		case out := <-results:
			pending--
			if out.conclusive() {
				return out
			}
			if out.better(&best) || best.answer.Class == store.None {
				out.before5xx = out.before5xx || best.before5xx
				best = out
			}
			if started < len(list) {
				start()
			}
		case <-timer.C:
			if started < len(list) {
				start()
			}
		case <-ctx.Done():
			if best.answer.Class == store.None {
				best.err = ctx.Err()
			}
			return best
		}
	}
	return best
}

// probeContext is ctx without its cancellation: it ends at ctx's deadline, or with
// the state.
func (c *Check) probeContext(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(c.timeout)
	}
	return context.WithDeadline(c.state.ctx, deadline)
}

var errClosed = errors.New("shutting down")

// askOne asks one backend, with the other sender once more if it refuses.
func (qn *question) askOne(ctx context.Context, b route.Backend, due time.Time) outcome {
	c := qn.check
	at := b.Address().String()
	if at != qn.looked {
		if a, _ := c.finding(ctx, at, qn.mailbox.Domain); a.Class == store.AcceptAll {
			return outcome{answer: a}
		}
	}
	first, second, both := c.sender, c.fallback, c.fallback != "" && c.fallback != c.sender
	if both && time.Now().Before(c.state.fallbacks.Get(at)) {
		first, second = second, first
	}
	out, senderRefused := qn.ask(ctx, b, at, first, due)
	if both && (senderRefused || out.answer.Class == store.Refused) {
		c.state.count.fallback.Add(1)
		again, refusedToo := qn.ask(ctx, b, at, second, due)
		switch {
		case !refusedToo && again.answer.Class != store.Refused && again.answer.Class != store.None:
			qn.prefer(at, second)
			out = again
		case senderRefused && again.answer.Class == store.Refused:
			out = again // at least a reply to RCPT
		}
	}
	out.by = b
	qn.prove(&out, at)
	c.state.count.probes[out.answer.Class].Add(1)
	return out
}

// prefer remembers which sender a backend is asked with first.
func (qn *question) prefer(at, sender string) {
	if sender != qn.check.fallback {
		qn.check.state.fallbacks.Remove(at)
		return
	}
	until := time.Now().Add(fallbackLife)
	qn.check.state.fallbacks.Update(at, func(time.Time) time.Time { return until })
}

// prove keeps evidence that the backend takes mail from us, or looks for it.
func (qn *question) prove(out *outcome, at string) {
	p := pair{at, qn.mailbox.Domain}
	switch out.answer.Class {
	case store.Valid:
		qn.check.state.took(p, qn.key, time.Now())
	case store.Refused:
		out.proven = qn.check.state.tookAnother(p, qn.key, time.Now())
	}
}

// ask puts the question with one sender. SenderRefused: the backend said 5xx to
// MAIL.
func (qn *question) ask(ctx context.Context, b route.Backend, at, sender string, due time.Time) (out outcome, senderRefused bool) {
	rep, err := b.Ask(ctx, backend.Probe{Sender: sender, Recipient: qn.mailbox, Due: due})
	if err == nil {
		class := Classify(rep.Code, rep.Enhanced, rep.Text, qn.check.unknownCodes)
		out = outcome{elapsed: rep.Elapsed, answer: store.Answer{
			Class: class, Code: rep.Code, Enhanced: rep.Enhanced, Text: rcptgate.CleanText(rep.Text), Backend: at,
		}}
		if class == store.None {
			out.answer = store.Answer{}
			out.err = fmt.Errorf("%s said %d %s %s to RCPT, which is not about the recipient", at, rep.Code, rep.Enhanced, rep.Text)
		}
		return out, false
	}
	out.err = err
	var failed *backend.Failure
	if !errors.As(err, &failed) {
		return out, false
	}
	refused := failed.Reply != nil && failed.Reply.Code/100 == 5
	out.before5xx = refused && failed.Stage != backend.StageRcpt
	out.badPath = failed.Kind == backend.KindBadAddress
	out.noUTF8 = failed.Kind == backend.KindUnsupported
	if failed.Kind == backend.KindLoop {
		qn.check.sawLoop(at, qn.mailbox.Domain)
	}
	return out, refused && failed.Stage == backend.StageMail
}
