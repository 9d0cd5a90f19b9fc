// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
	"context"
	"sync"
	"time"
)

// Check is whoever can answer. An error means "could not find out", never "no".
// Implementations are safe for concurrent use, honour ctx's deadline, and may
// write to q.Trace.
type Check interface {
	Check(ctx context.Context, q *Query) (Verdict, error)
}

// CheckFunc makes a function a Check.
type CheckFunc func(ctx context.Context, q *Query) (Verdict, error)

// Check calls f.
func (f CheckFunc) Check(ctx context.Context, q *Query) (Verdict, error) { return f(ctx, q) }

// Step is a check's place in a chain.
type Step struct {
	Name  string // the word in traces: "existence"
	Check Check
	// OnError gives the verdict for a check that could not find out. Nil means
	// 451 4.3.0.
	OnError func(q *Query, err error) Verdict
}

// Chain is checks in order, itself a Check. It is the only place that times,
// traces, applies the deadline, follows targets (see [Query.Follow]) and turns errors
// into the configured verdict. A chain does not change once it is in use.
type Chain struct {
	Steps []Step
	// Deadline bounds one query; 0 means none of the chain's own.
	Deadline time.Duration
	// Rehearse reports whether verdicts for a target's domain are only logged: such a
	// target keeps nobody out. Nil means never. It is asked about targets alone; what
	// holds for the recipient itself is the gate's (Setup).
	Rehearse func(q *Query) bool
}

// Check asks one step after the other until one does not continue. The verdict of
// a chain that continues to its end is that of the last step that gave a reason.
// The error is always nil: it became a verdict.
func (c *Chain) Check(ctx context.Context, q *Query) (Verdict, error) {
	start := time.Now()
	if q.Trace.Started.IsZero() {
		q.Trace.Started = start
	}
	if c.Deadline <= 0 {
		return c.run(ctx, q, 0, start, Verdict{}), nil
	}
	lazy := q.deadline
	if lazy == nil {
		lazy = new(lazyDeadline)
	}
	q.deadline = nil
	lazy.Context, lazy.at = ctx, start.Add(c.Deadline)
	v := c.run(lazy, q, 0, start, Verdict{})
	if lazy.stop() {
		q.deadline = lazy
	}
	return v, nil
}

// run asks the steps from the one given on. Last is what the steps before had to say.
func (c *Chain) run(ctx context.Context, q *Query, from int, start time.Time, last Verdict) Verdict {
	for i := from; i < len(c.Steps); i++ {
		step := &c.Steps[i]
		q.now = start
		v, err := step.Check.Check(ctx, q)
		if err != nil {
			v = step.failed(q, err)
			q.targets = nil
		}
		elapsed := time.Since(start)
		q.Trace.add(step.Name, &v, err, elapsed)
		start = start.Add(elapsed)
		if v.Reason != "" || v.Action != Continue {
			last = v
		}
		if v.Action != Continue {
			q.targets = nil
			return last
		}
		if q.targets != nil {
			return c.follow(ctx, q, i+1, last)
		}
	}
	return last
}

func (s *Step) failed(q *Query, err error) Verdict {
	if s.OnError != nil {
		return s.OnError(q, err)
	}
	return CouldNotFindOut
}

// CouldNotFindOut is the verdict for a failure that nothing else was configured
// for: the sender tries again later.
var CouldNotFindOut = Verdict{
	Action: Tempfail, Code: 451, Enhanced: "4.3.0",
	Text: "Recipient cannot be verified at the moment", Reason: ReasonError,
}

// LazyDeadline is context.WithDeadline for work that mostly ends without waiting:
// its timer starts only when somebody asks for Done. The caller must call stop.
func LazyDeadline(ctx context.Context, at time.Time) (lazy context.Context, stop func()) {
	d := &lazyDeadline{Context: ctx, at: at}
	return d, func() { d.stop() }
}

// lazyDeadline is a context whose timer starts only when somebody waits for it: a
// remembered answer never does, and a timer would cost more than the answer.
type lazyDeadline struct {
	context.Context
	at time.Time

	mu     sync.Mutex
	ctx    context.Context
	cancel context.CancelFunc
}

func (d *lazyDeadline) Deadline() (time.Time, bool) {
	if at, ok := d.Context.Deadline(); ok && at.Before(d.at) {
		return at, true
	}
	return d.at, true
}

func (d *lazyDeadline) real() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx == nil {
		d.ctx, d.cancel = context.WithDeadline(d.Context, d.at)
	}
	return d.ctx
}

func (d *lazyDeadline) Done() <-chan struct{} { return d.real().Done() }

func (d *lazyDeadline) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx != nil {
		return d.ctx.Err()
	}
	if err := d.Context.Err(); err != nil {
		return err
	}
	if !time.Now().Before(d.at) {
		return context.DeadlineExceeded
	}
	return nil
}

// stop ends the wait of whoever asked for Done, and reports whether nobody ever did:
// then nobody can be waiting for d, and it may be used again.
func (d *lazyDeadline) stop() (unused bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cancel != nil {
		d.cancel()
	}
	return d.ctx == nil
}
