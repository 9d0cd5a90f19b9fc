// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
	"context"
	"time"
)

// Check is anything that can answer a query. An error means "could not find out", never
// "no". Implementations are safe for concurrent use, return by ctx's deadline, do not
// keep q, and may write to q.Trace.
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
// traces, applies the deadline, follows targets (see [Targets]) and turns errors into the
// configured verdict. A chain does not change once it is in use.
type Chain struct {
	Steps []Step
	// Deadline bounds one query; 0 means none of the chain's own.
	Deadline time.Duration
	// Patience is how long one query may wait for memory that other gateways share, all
	// its steps together: see [Budget]. 0 means that each step waits as long as it sees
	// fit. It needs a Deadline.
	Patience time.Duration
	// Rehearse reports whether verdicts for a target's domain are only logged: such a
	// target keeps nobody out. Nil means never. It is asked about targets alone; what
	// holds for the recipient itself is the gate's (Setup).
	Rehearse func(q *Query) bool
}

// Check asks one step after the other until one does not continue. The verdict of
// a chain that continues to its end is that of the last step that gave a reason. A step
// that holds the message, or whose verdict is rehearsed, does not end the chain: its
// verdict is the chain's if no later step refuses or discards. The error is always nil: it
// became a verdict.
func (c *Chain) Check(ctx context.Context, q *Query) (Verdict, error) {
	start := time.Now()
	if q.Trace.Started.IsZero() {
		q.Trace.Started = start
	}
	if c.Deadline <= 0 {
		v := c.run(ctx, q, 0, start, nil)
		q.guard(&v)
		q.chain.stand(&v)
		return v, nil
	}
	lazy := q.chain.takeDeadline()
	lazy.begin(ctx, start.Add(c.Deadline), c.Patience)
	v := c.run(lazy, q, 0, start, nil)
	if lazy.stop() {
		q.chain.spare = lazy
	}
	q.guard(&v)
	q.chain.stand(&v)
	return v, nil
}

// chainState is what a chain keeps in a query while it answers.
type chainState struct {
	now      time.Time     // when the step that is running began
	followed int           // targets that this question and those above it have led to
	standing *Verdict      // of a step that stands unless a later one refuses or discards
	spare    *lazyDeadline // the last question's, to be used again
}

// note keeps the verdict of a step that does not end the chain and yet must not be lost:
// one that holds the message, or that would have done something if it were not rehearsed.
func (s *chainState) note(v *Verdict) {
	if s.standing == nil || v.Action == Hold && s.standing.Action != Hold {
		s.standing = v
	}
}

// stand puts the standing verdict in the place of one that takes the recipient.
func (s *chainState) stand(v *Verdict) {
	if s.standing != nil && (v.Action == Continue && v.Would == Continue || v.Action == Accept) {
		*v = *s.standing
	}
}

func (s *chainState) takeDeadline() *lazyDeadline {
	lazy := s.spare
	s.spare = nil
	if lazy == nil {
		lazy = new(lazyDeadline)
	}
	return lazy
}

// run asks the steps from the one given on. Said is what the steps before had to say; nil
// is nothing.
func (c *Chain) run(ctx context.Context, q *Query, from int, start time.Time, said *Verdict) Verdict {
	for i := from; i < len(c.Steps); i++ {
		step := &c.Steps[i]
		q.chain.now = start
		v, err := step.Check.Check(ctx, q)
		if err != nil {
			v = step.failed(q, err)
		}
		targets := v.Follow
		v.Follow = nil
		stops := v.Action != Continue && v.Action != Hold
		ends := stops || targets.count() > 0 || i == len(c.Steps)-1
		var elapsed time.Duration
		if ends || q.Trace.Explain || mayHaveWaited(ctx) {
			elapsed = time.Since(start)
			start = start.Add(elapsed)
		}
		kept := q.Trace.add(step.Name, &v, err, elapsed)
		if v.Reason != "" || v.Action != Continue {
			said = kept
		}
		if stops {
			return v
		}
		if v.Action == Hold || v.Would != Continue {
			q.chain.note(kept)
		}
		if targets.count() > 0 {
			return c.follow(ctx, q, targets, i+1, said)
		}
	}
	return said.orNothing()
}

func (v *Verdict) orNothing() Verdict {
	if v == nil {
		return Verdict{}
	}
	return *v
}

// mayHaveWaited reports whether a step that was given ctx can have waited for something.
func mayHaveWaited(ctx context.Context) bool {
	lazy, ok := ctx.(*lazyDeadline)
	return !ok || lazy.waited.Load() != nil
}

func (s *Step) failed(q *Query, err error) Verdict {
	if s.OnError != nil {
		return s.OnError(q, err)
	}
	return couldNotFindOut(q.Stage)
}

// couldNotFindOut is CouldNotFindOut with the words that are right at a stage.
func couldNotFindOut(at Stage) Verdict {
	v := CouldNotFindOut
	switch at {
	case StageConnect, StageHelo, StageMail:
		v.Text = TextUncheckedMail
	case StageMessage:
		v.Text = TextUncheckedMessage
	case StageRcpt:
	}
	return v
}

// CouldNotFindOut is the verdict for a failure that nothing else was configured
// for: the sender tries again later. At other stages than RCPT a chain gives it with
// another text.
var CouldNotFindOut = Verdict{
	Action: Tempfail, Code: 451, Enhanced: "4.3.0",
	Text: TextUnverified, Reason: ReasonError,
}
