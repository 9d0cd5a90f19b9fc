// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"context"
	"fmt"
	"time"

	"rcptgate/backend"
	"rcptgate/kit/term"
	"rcptgate/route"
	"rcptgate/store"
	"rcptgate/view"
)

const (
	// oldSession is the age from which a session may have data that has been changed
	// since: Postfix looks for changed tables between sessions only.
	oldSession = 10 * time.Second
	// maxRounds bounds how often one question is put to one backend.
	maxRounds = 4
	// briefLife is how long an unknown user is remembered for which there is no other
	// evidence than words.
	briefLife = time.Minute
)

// trial is one question to one backend, until it is known what the answer means. A 5xx
// may be about the recipient, the gateway, its sender, or what the connection has
// carried before; see docs/decisions/0306-classes.md.
type trial struct {
	*question
	pair          pair
	b             route.Backend
	at            string // its address
	due           time.Time
	size          int64  // of the message; 0: it does not matter, or no longer
	first, second string // senders
	both          bool   // there is a second
	swapped       bool   // the second is in use
	renewed       bool   // a fresh connection is in use
	alone         bool   // no recipient is known to be good, so that there can be no control question
	story         []string
}

func (t *trial) run(ctx context.Context) outcome {
	out := t.find(ctx)
	if out.answer.Class != store.Full || t.size <= 0 {
		return out
	}
	// Is the mailbox full, or only too full for this message? Remembered, the second would
	// refuse small messages as well.
	size := t.size
	t.size = 0
	again := t.find(ctx)
	if again.answer.Class != store.Full {
		t.tell("no room for a message of %d octets; without a size: %v", size, again.answer.Class)
		refused := out.answer
		again.noRoom, again.story = &refused, t.story
	}
	return again
}

// find puts the question, and finds out what the answer means.
func (t *trial) find(ctx context.Context) outcome {
	out := t.ask(ctx, t.question.fresh)
	if out.senderRefused && t.both {
		if again := t.askOther(ctx); again.replied {
			t.swap()
			out = again
		}
	}
	for range maxRounds {
		if !out.refusedForGood() || out.words.class == store.Full || out.words.configured {
			return t.end(out)
		}
		next, again := t.judge(ctx, &out)
		if !again {
			return t.end(next)
		}
		out = next
	}
	out.unproven(t.at)
	return t.end(out)
}

// judge says what a 5xx means, or asks again.
func (t *trial) judge(ctx context.Context, out *outcome) (next outcome, again bool) {
	s := t.shape(out)
	if out.rep.ConnRefused == 0 && !t.alone {
		t.check.state.sawFresh(t.pair, &s)
	}
	if t.set.byWords || t.cautious() {
		next, again = t.byWords(ctx, out, &s)
	} else {
		next, again = t.byExperiment(ctx, out, &s)
	}
	if !again && next.answer.Class == store.Unknown && next.rep.ConnAge >= oldSession && !t.renewed {
		t.tell("unknown, but on a connection that is %s old: asked once more on a new one", view.Duration(next.rep.ConnAge))
		return t.askFresh(ctx), true
	}
	return next, again
}

// end completes what is known with the answer.
func (t *trial) end(out outcome) outcome {
	state := t.check.state
	class := out.answer.Class
	switch {
	case class == store.Valid && !t.alone:
		state.took(t.pair, t.key, t.mailbox, time.Now())
	case out.replied:
		state.refusedOne(t.pair)
	}
	if t.swapped && out.replied && class != store.None && (class != store.Refused || out.proven) {
		t.check.prefer(t.at, t.first)
	}
	out.story = t.story
	return out
}

// ask puts the question with the sender in use.
func (t *trial) ask(ctx context.Context, fresh bool) outcome {
	return t.check.put(ctx, t.b, backend.Probe{Sender: t.first, Recipient: t.mailbox, Size: t.size, Due: t.due, Fresh: fresh, Doubted: t.taught.doubt})
}

// askFresh puts it again on a connection of its own.
func (t *trial) askFresh(ctx context.Context) outcome {
	t.renewed = true
	return t.ask(ctx, true)
}

// askOther puts it with the other sender.
func (t *trial) askOther(ctx context.Context) outcome {
	t.check.state.count.fallback.Add(1)
	return t.check.put(ctx, t.b, backend.Probe{Sender: t.second, Recipient: t.mailbox, Size: t.size, Due: t.due, Fresh: t.question.fresh, Doubted: t.taught.doubt})
}

// swap goes on with the other sender.
func (t *trial) swap() { t.first, t.second, t.both, t.swapped = t.second, t.first, false, true }

func (t *trial) shape(out *outcome) shape {
	return shapeOf(&out.rep, t.mailbox, out.sender, t.check.hostname)
}

// byWords goes by the reply's code and words. Only the connection and the sender are
// tried: that costs nothing.
func (t *trial) byWords(ctx context.Context, out *outcome, s *shape) (next outcome, again bool) {
	now := time.Now()
	k := t.check.state.look(t.pair, s, t.key, now)
	if out.rep.ConnRefused > 0 && !out.words.clean() && !k.fresh && !t.renewed {
		t.tell("refused on a connection that had carried %s: asked once more on a new one", term.Count(out.rep.ConnRefused, "refusal"))
		return t.askFresh(ctx), true
	}
	if out.words.class == store.Refused && t.both {
		t.both = false
		other := t.askOther(ctx)
		if other.replied && other.words.class != store.Refused && other.words.class != store.None {
			t.swap()
			return other, true
		}
	}
	out.proven = out.words.class == store.Refused && t.check.state.tookAnother(t.pair, t.key, proofLife, now)
	return *out, false
}

// byExperiment finds out what a shape means, and judges by that.
func (t *trial) byExperiment(ctx context.Context, out *outcome, s *shape) (next outcome, again bool) {
	k := t.known(ctx, s)
	if k.means == aboutSender && t.both {
		other := t.askOther(ctx)
		t.swap()
		return other, true
	}
	if !t.settled(out, &k) {
		means, other, asked := t.investigate(ctx, out, s, &k)
		if asked {
			return other, true
		}
		k = t.known(ctx, s)
		k.means = means
	}
	t.explainShape(s, &k)
	switch k.means {
	case saysUnknown:
		out.means(store.Unknown, t.at)
	case aboutMailbox:
		out.proven = true
		if !out.words.clean() && (out.words.class != store.Unknown || k.unknownAs.id != 0) {
			out.means(store.Refused, t.at)
		}
	case aboutUs:
		out.unproven(t.at)
		out.refusesUs = true
	default:
		// Without a recipient to compare with, a clean "unknown" in the shape of the made-up
		// one's is all that can be known.
		believed := t.alone && out.words.clean() && s.is(k.unknownAs.id)
		if (k.others || k.anyGood) && !believed {
			out.unproven(t.at)
			break
		}
		out.brief = out.words.class == store.Unknown && out.words.bare()
	}
	return *out, false
}

// known is what is known of a shape, here or by other gateways.
func (t *trial) known(ctx context.Context, s *shape) knownShape {
	state := t.check.state
	k := state.look(t.pair, s, t.key, time.Now())
	if k.unknownAs.id != 0 {
		return k
	}
	found, _ := t.check.finding(ctx, t.at, t.mailbox.Domain)
	if n, ok := readShape(&found); ok {
		state.found(t.pair, &shape{id: n.id, text: n.text}, saysUnknown, n.at)
		return state.look(t.pair, s, t.key, time.Now())
	}
	return k
}

// settled reports whether what is known of a shape says enough about this reply.
func (t *trial) settled(out *outcome, k *knownShape) bool {
	switch k.means {
	case saysUnknown, aboutUs:
		return true
	case aboutMailbox:
		return out.words.clean() || time.Since(k.at) < controlApart
	case unproven:
		return !k.anyGood || time.Since(k.control) < controlApart
	}
	return out.words.clean() && !k.anyGood && !k.others
}

// experiment is what an investigation found out, for questions with the same shape.
type experiment struct{ means meaning }

// investigate finds out what a shape means: once for all that meet it at the same
// time. When it puts the question again, it gives the answer to that.
func (t *trial) investigate(ctx context.Context, out *outcome, s *shape, k *knownShape) (means meaning, next outcome, asked bool) {
	state := t.check.state
	call, isNew := state.experiments.Join(experimentKey{t.pair, s.id})
	switch {
	case call == nil:
		return unproven, next, false
	case isNew:
		defer state.experiments.End(call)
		call.Value.means, next, asked = t.experiment(ctx, out, s, k)
		return call.Value.means, next, asked
	}
	select {
	case <-call.Done():
	case <-ctx.Done():
		return unproven, next, false
	}
	switch means = call.Value.means; {
	case means == aboutSession && !t.renewed:
		return means, t.askFresh(ctx), true
	case means == aboutSender && t.both:
		next = t.askOther(ctx)
		t.swap()
		return means, next, true
	}
	return means, next, false
}

// experiment tries a fresh connection, the other sender, and a recipient that is known
// to be good.
func (t *trial) experiment(ctx context.Context, out *outcome, s *shape, k *knownShape) (means meaning, next outcome, asked bool) {
	state := t.check.state
	if state.spent(t.pair) && !out.words.clean() {
		t.tell("too many kinds of refusal to tell apart: nothing more is asked")
		return unproven, next, false
	}
	tested := false // how the server says unknown is looked for
	if k.unknownAs.id == 0 && (out.words.clean() || !t.both) {
		tested = true
		t.learnUnknown(ctx)
		if now := t.known(ctx, s); t.settled(out, &now) {
			return now.means, next, false
		}
	}
	if out.rep.ConnAsked > 0 && !t.renewed {
		next = t.askFresh(ctx)
		if !next.refusedForGood() {
			t.tell("refused on a connection that had carried %s, and not on a new one", term.Count(out.rep.ConnAsked, "question"))
			return aboutSession, next, true
		}
		if again := t.shape(&next); !again.is(s.id) {
			return aboutSession, next, true
		}
		*out = next
	}
	var other outcome
	otherwise := false // the other sender is refused in another shape
	if t.both && !out.words.clean() {
		t.both = false
		other = t.askOther(ctx)
		about, different := t.aboutSender(&other, s)
		if about {
			return t.goOn(s), other, true
		}
		otherwise = different
	}
	means = t.control(ctx, s, out)
	if means == aboutUs && otherwise {
		return t.goOn(s), other, true // perhaps about our sender: the other one has its own story
	}
	if means == aboutMailbox && !tested && k.unknownAs.id == 0 {
		t.learnUnknown(ctx)
		if now := t.known(ctx, s); s.is(now.unknownAs.id) {
			return saysUnknown, next, false
		}
	}
	state.found(t.pair, s, means, time.Now())
	return means, next, false
}

// goOn goes on with the other sender.
func (t *trial) goOn(s *shape) meaning {
	t.tell("refused with the sender <%s>, and not, or otherwise, with <%s>", t.first, t.second)
	t.swap()
	t.check.state.found(t.pair, s, aboutSender, time.Now())
	return aboutSender
}

// aboutSender reports whether the reply with the other sender shows that the one before,
// in the shape s, was about the sender. Different: it is a refusal in another shape.
func (t *trial) aboutSender(other *outcome, s *shape) (about, different bool) {
	switch {
	case !other.replied:
		return false, false
	case other.rep.Code < 500:
		return other.answer.Class != store.None, false
	}
	o, real := *other, t.shape(other)
	o.sender = t.first
	if here := t.shape(&o); here.is(s.id) {
		return false, false // whatever the sender
	}
	about = other.words.class == store.Full || other.words.clean() || t.check.state.look(t.pair, &real, t.key, time.Now()).means == saysUnknown
	return about, true
}

// control finds out whether a refusal in the shape s is about us, by a question about a
// recipient that is known to be good: once for all that need it at the same time.
func (t *trial) control(ctx context.Context, s *shape, out *outcome) meaning {
	state := t.check.state
	call, isNew := state.controls.Join(experimentKey{t.pair, s.id})
	switch {
	case call == nil:
		return unproven
	case isNew:
		defer state.controls.End(call)
		call.Value = t.controlNow(ctx, s, out)
		return call.Value
	}
	select {
	case <-call.Done():
		return call.Value
	case <-ctx.Done():
		return unproven
	}
}

// controlNow is control for the caller. Accepted, the refusal was about the other
// recipient; refused in the same shape, it was about us.
func (t *trial) controlNow(ctx context.Context, s *shape, out *outcome) meaning {
	state := t.check.state
	if k := state.look(t.pair, s, t.key, time.Now()); k.means > unproven && time.Since(k.at) < controlApart {
		return k.means // found out meanwhile
	}
	g, ok := t.candidate(ctx)
	if !ok {
		t.tell("no recipient is known to be good: nothing to compare with")
		t.alone = true
		return unproven
	}
	now := time.Now()
	may, spent := state.mayControl(t.pair, s, now)
	switch {
	case !may && spent && t.key != "" && out.words.clean() && state.tookAnother(t.pair, t.key, controlApart, now):
		return aboutMailbox
	case !may:
		t.tell("a control question was asked a moment ago, without a result")
		return unproven
	}
	means := t.askControl(ctx, s, &g)
	state.found(t.pair, s, means, time.Now())
	return means
}

func (t *trial) askControl(ctx context.Context, s *shape, g *knownGood) meaning {
	state := t.check.state
	state.count.controls.Add(1)
	reply := t.check.put(ctx, t.b, backend.Probe{Sender: t.first, Recipient: g.mailbox, Due: t.due, Fresh: true})
	switch {
	case !reply.replied:
		t.tell("control question about %s: %v", g.key, reply.err)
		return unproven
	case reply.rep.Code/100 == 2:
		t.tell("control question: %s is taken", g.key)
		state.took(t.pair, g.key, g.mailbox, time.Now())
		return aboutMailbox
	case !reply.refusedForGood():
		t.tell("control question: %s is deferred", g.key)
		return unproven
	}
	again := shapeOf(&reply.rep, g.mailbox, t.first, t.check.hostname)
	if again.is(s.id) {
		t.tell("control question: %s, which is known to be good, is refused in the same way", g.key)
		return aboutUs
	}
	if state.look(t.pair, &again, t.key, time.Now()).means == saysUnknown {
		state.notGood(t.pair, g.key) // it may have been deleted
	}
	t.tell("control question: %s is refused in another way", g.key)
	return unproven
}

// candidate gives the recipient that the backend took last, of those that memory calls
// valid and has no waiting caller.
func (t *trial) candidate(ctx context.Context) (knownGood, bool) {
	state := t.check.state
	for _, g := range state.goods(t.pair, t.key) {
		if state.asking(g.key) {
			continue
		}
		rec, _, ok := t.check.memory.Recall(ctx, g.key)
		if ok && rec.Standing.Class == store.Valid && rec.Standing.Alive(time.Now()) && rec.Standing.Backend == t.at {
			return g, true
		}
		state.notGood(t.pair, g.key)
	}
	return knownGood{}, false
}

// tell adds to what is explained to people.
func (t *trial) tell(format string, args ...any) {
	if t.explain {
		t.story = append(t.story, fmt.Sprintf(format, args...))
	}
}

func (t *trial) explainShape(s *shape, k *knownShape) {
	switch {
	case !t.explain:
	case k.unknownAs.id == 0:
		t.tell("it is not known how this server says unknown")
	case s.is(k.unknownAs.id):
		t.tell("this server says unknown as %q, learnt %s; this reply is the same", k.unknownAs.text, view.Ago(time.Now(), k.unknownAs.at))
	default:
		t.tell("this server says unknown as %q, learnt %s; this reply is another", k.unknownAs.text, view.Ago(time.Now(), k.unknownAs.at))
	}
}
