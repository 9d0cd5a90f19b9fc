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

// Follow says that the recipient stands for other mailboxes (an alias, a virtual
// user): if the check that calls it continues, the chain puts its remaining steps to
// these, one after the other, and not to the recipient. It stops at the first that
// is not refused. Every one refused is a refusal, and if one of them was only put off,
// or could not be found out, a temporary one.
//
// No targets are no alias. The query keeps the slice.
func (q *Query) Follow(targets []Mailbox) {
	if len(targets) > 0 {
		q.targets, q.known = targets, 0
	}
}

// FollowKnown is Follow for a recipient that stands for mailboxes of which some are known
// to exist (see Query.Known): these come first, and the others are put to the remaining
// steps only if every one of these is refused.
func (q *Query) FollowKnown(known, others []Mailbox) {
	q.Follow(append(known[:len(known):len(known)], others...))
	q.known = len(known)
}

// Targets gives what was handed to Follow and not been followed yet, and how many of
// these, the first ones, are known to exist, for tests.
func (q *Query) Targets() (targets []Mailbox, known int) { return q.targets, q.known }

// follow puts the steps from next on to every target. Said is what the steps before
// had to say, and the answer when there are too many.
func (c *Chain) follow(ctx context.Context, q *Query, next int, said Verdict) Verdict {
	targets, known := q.targets, q.known
	q.targets, q.known = nil, 0
	if q.followed += len(targets); q.followed > MaxTargets {
		q.Trace.addNote("more than " + strconv.Itoa(MaxTargets) + " targets: taken, nobody is asked")
		return said
	}
	var refusal Verdict
	var refused Mailbox
	rehearsed := false
	for i, target := range targets {
		v, onlyLogged := c.ask(ctx, q, target, i < known, next, len(targets)-i, said)
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
	withhold(&refusal)
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
func (c *Chain) ask(ctx context.Context, q *Query, target Mailbox, known bool, next, left int, said Verdict) (v Verdict, rehearsed bool) {
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
	q.followed = sub.followed
	return v, v.Action.Refuses() && c.Rehearse != nil && c.Rehearse(&sub)
}

// withhold replaces the text of a refusal of a target. A server's words name the
// mailbox in ways that cannot be told apart from the rest (an address, a user's
// number, a new address to try), and what an alias stands for is no business of the
// sender's. Code and enhanced code stay; the server's own words are in the trace.
func withhold(v *Verdict) {
	switch {
	case v.Reason == ReasonUnknownUser:
		v.Text = "No such mailbox here"
	case v.Reason == ReasonMailboxFull:
		v.Text = "Mailbox is full"
	case v.Reason == ReasonUnreachable, v.Reason == ReasonError, v.Reason == ReasonLoop:
		v.Text = CouldNotFindOut.Text
	case v.Action == Tempfail:
		v.Text = "Recipient cannot take mail at the moment"
	default:
		v.Text = "Recipient refused"
	}
}

// merge takes over what was said about a target.
func (t *Trace) merge(target string, sub *Trace) {
	t.Elapsed += sub.Elapsed
	for _, step := range sub.Steps {
		if step.Target == "" {
			step.Target = target
		}
		t.Steps = append(t.Steps, step)
	}
}

// addNote adds a remark to the step that has just ended.
func (t *Trace) addNote(text string) {
	if t.Explain && len(t.Steps) > 0 {
		last := &t.Steps[len(t.Steps)-1]
		last.Notes = append(last.Notes, text)
	}
}
