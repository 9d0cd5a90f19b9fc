// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"context"
	"errors"
	"fmt"
	"sync"
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
	size     int64 // of the message, as the client has declared it; 0: it does not matter
	refresh  bool  // no caller waits: the answer is due
	alone    bool  // not the canonical path: what comes of it is for its asker alone
	fresh    bool  // something about it was forgotten lately: old sessions may know old data
	explain  bool  // the asker wants to know how the answer came about
	taught   taught
}

func (qn *question) cautious() bool { return qn.rt.Origin == route.MTA }

// taught is what a question's answers have taught, until it is certain that they were
// answers to this question.
type taught struct {
	mu      sync.Mutex
	doubted bool
	undo    func() // takes back what was remembered; nil before that
}

// doubt is called when a reply turns out to have belonged to another command perhaps.
func (t *taught) doubt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.doubted && t.undo != nil {
		t.undo()
	}
	t.doubted = true
}

// keep calls remember, which gives what takes it back, unless there are doubts already.
func (t *taught) keep(remember func() (undo func())) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.doubted {
		t.undo = remember()
	}
	return !t.doubted
}

// probe asks the route's backends, in order.
func (qn *question) probe(ctx context.Context) outcome {
	list, err := qn.rt.Backends(ctx, qn.mailbox.Domain)
	switch {
	case err != nil:
		return outcome{err: fmt.Errorf("no server can be asked: %w", err)}
	case len(list) == 1:
		return qn.askOne(ctx, list[0], qn.due)
	}
	return qn.askInOrder(ctx, list)
}

// askInOrder starts the next backend after an inconclusive answer, or next to the
// one before after some silence. The first conclusive answer wins; without one, a
// temporary answer beats none. Each backend but the last gets half of the time that is
// left. A backend that answers later goes on, unheard: cut off before its time was up, a
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

// askOne asks one backend, until it is known what its answer means.
func (qn *question) askOne(ctx context.Context, b route.Backend, due time.Time) outcome {
	c := qn.check
	at := b.Name()
	if at != qn.looked {
		if a, _ := c.finding(ctx, at, qn.mailbox.Domain); a.Class == store.AcceptAll {
			return outcome{answer: a}
		}
	}
	t := trial{question: qn, b: b, at: at, pair: pair{at, qn.mailbox.Domain}, due: due, size: qn.size}
	t.first, t.second, t.both = c.senders(at)
	out := t.run(ctx)
	out.by = b
	c.state.count.probes[out.answer.Class].Add(1)
	return out
}

// senders gives the reverse-paths to ask a backend with, in order.
func (c *Check) senders(at string) (first, second string, both bool) {
	first, second, both = c.sender, c.fallback, c.fallback != "" && c.fallback != c.sender
	if both && time.Now().Before(c.state.fallbacks.Get(at)) {
		first, second = second, first
	}
	return first, second, both
}

// prefer remembers which sender a backend is asked with first.
func (c *Check) prefer(at, sender string) {
	if sender != c.fallback {
		c.state.fallbacks.Remove(at)
		return
	}
	until := time.Now().Add(fallbackLife)
	c.state.fallbacks.Update(at, func(time.Time) time.Time { return until })
}

// put asks b about a mailbox once. It does not begin after ctx has ended.
func (c *Check) put(ctx context.Context, b route.Backend, p backend.Probe) (out outcome) {
	at := b.Name()
	out.sender = p.Sender
	if out.err = ctx.Err(); out.err != nil {
		return out
	}
	rep, err := b.Ask(ctx, p)
	if err == nil {
		out.rep, out.replied, out.elapsed = rep, true, rep.Elapsed
		out.words = read(rep.Code, rep.Enhanced, rep.Text, c.unknownCodes)
		out.means(out.words.class, at)
		return out
	}
	out.err = err
	var failed *backend.Failure
	if !errors.As(err, &failed) {
		return out
	}
	refused := failed.Reply != nil && failed.Reply.Code/100 == 5
	out.senderRefused = refused && failed.Stage == backend.StageMail
	out.before5xx = refused && failed.Stage != backend.StageRcpt
	out.badPath = failed.Kind == backend.KindBadAddress
	out.noUTF8 = failed.Kind == backend.KindUnsupported
	if failed.Kind == backend.KindLoop {
		c.sawLoop(at, p.Recipient.Domain)
	}
	return out
}
