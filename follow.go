// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
	"context"
	"strconv"
	"time"
)

// MaxTargets bounds the targets that one question leads to. A recipient that stands
// for more is a list whose every member cannot be waited for: it continues.
const MaxTargets = 16

// Targets are the mailboxes that a recipient stands for (an alias, a virtual user). A
// step that gives them, with Continue, has the chain put its remaining steps to these,
// one after the other, and not to the recipient. It stops at the first that is not
// refused. If every one is refused, so is the recipient; if one of them was only deferred,
// or could not be found out, temporarily.
type Targets struct {
	// Known are proven to exist (see Query.Known). They are asked about first: the others
	// only if every one of these is refused.
	Known  []Mailbox
	Others []Mailbox
}

// FollowTo is the verdict of a step that continues with targets. The verdict keeps the
// slices. Without any it is v itself.
func (v Verdict) FollowTo(known, others []Mailbox) Verdict {
	if len(known)+len(others) > 0 {
		v.Follow = &Targets{Known: known, Others: others}
	}
	return v
}

func (t *Targets) count() int {
	if t == nil {
		return 0
	}
	return len(t.Known) + len(t.Others)
}

func (t *Targets) at(i int) (m Mailbox, known bool) {
	if i < len(t.Known) {
		return t.Known[i], true
	}
	return t.Others[i-len(t.Known)], false
}

// follow puts the steps from next on to every target. Said is what the steps before
// had to say, and the answer when there are too many.
func (c *Chain) follow(ctx context.Context, q *Query, targets *Targets, next int, said *Verdict) Verdict {
	n := targets.count()
	if q.chain.followed += n; q.chain.followed > MaxTargets {
		q.Trace.addNote("more than " + strconv.Itoa(MaxTargets) + " targets: accepted without asking")
		return said.orNothing()
	}
	var refusal Verdict
	var refused Mailbox
	rehearsed := false
	for i := range n {
		target, known := targets.at(i)
		v, onlyLogged := c.ask(ctx, q, target, known, next, n-i, said)
		if v.Would.Refuses() {
			v.Action, v.Would, onlyLogged = v.Would, Continue, true
		}
		if !v.Action.Refuses() {
			q.Target = target
			return v
		}
		rehearsed = rehearsed || onlyLogged
		if i == 0 || (refusal.Action == Reject && v.Action == Tempfail) {
			refusal, refused = v, target
		}
	}
	q.Target = refused
	refusal.Withhold()
	if rehearsed {
		refusal.Would, refusal.Action = refusal.Action, Continue
	}
	return refusal
}

// ask puts the steps from next on to one target, the first of left that remain, and
// reports whether a refusal of it is only logged. The next hop is left out: it belongs
// to the address that the MTA was given.
//
// Each target but the last waits for its equal share of what is left until the
// deadline, so that a server that says nothing does not use up the time of those that
// would answer. The deadline itself stays as it is: it says how soon the server
// should have answered, and a probe goes on after its asker has gone.
func (c *Chain) ask(ctx context.Context, q *Query, target Mailbox, known bool, next, left int, said *Verdict) (v Verdict, rehearsed bool) {
	sub := *q
	sub.Target, sub.Known, sub.NextHop = target, known, NextHop{}
	sub.Trace = Trace{Explain: q.Trace.Explain, Started: q.Trace.Started}
	start := time.Now()
	if at, ok := ctx.Deadline(); ok && left > 1 {
		share, cancel := context.WithCancel(ctx)
		timer := time.AfterFunc(at.Sub(start)/time.Duration(left), cancel)
		defer cancel()
		defer timer.Stop()
		ctx = share
	}
	v = c.run(ctx, &sub, next, start, said)
	q.Trace.merge(target.Path, &sub.Trace)
	q.chain.followed, q.chain.standing = sub.chain.followed, sub.chain.standing
	return v, v.Action.Refuses() && !v.Enforce && c.Rehearse != nil && c.Rehearse(&sub)
}

// Withhold replaces the text of a refusal with the gate's own. It is for refusals of
// another mailbox than the one that the sender named: a server's words name the mailbox
// in ways that cannot be told apart from the rest (an address, a user's number, a new
// address to try), and what an address stands for is not the sender's business. Code and
// enhanced code stay.
func (v *Verdict) Withhold() {
	switch {
	case v.Reason == ReasonUnknownUser:
		v.Text = TextUnknownUser
	case v.Reason == ReasonMailboxFull:
		v.Text = TextFull
	case v.Reason == ReasonTooLarge:
		v.Text = TextTooLarge
	case v.Reason == ReasonUnreachable, v.Reason == ReasonError, v.Reason == ReasonLoop:
		v.Text = TextUnverified
	case v.Action == Tempfail:
		v.Text = TextDeferred
	default:
		v.Text = TextRefused
	}
}
