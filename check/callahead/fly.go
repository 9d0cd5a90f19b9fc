// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rcptgate"
	"rcptgate/store"
)

// fly asks a question to its end, remembers the answer, and tells those who wait. It
// never panics.
func (c *Check) fly(f *flight, qn *question) {
	defer c.state.end(f)
	defer func() {
		if p := recover(); p != nil { // no input ends the process
			f.out = outcome{err: fmt.Errorf("probe panicked: %v", p)}
			c.log.Error("probe panicked", "recipient", qn.mailbox.Path, "panic", fmt.Sprint(p))
		}
	}()
	ctx, cancel := context.WithDeadline(c.state.ctx, f.began.Add(c.timeout))
	defer cancel()
	if c.shared != nil {
		ctx = rcptgate.WithBudget(ctx, qn.patience)
	}
	release, known := c.askedElsewhere(ctx, f, qn)
	defer release() // behind what is learnt
	if known {
		return
	}
	f.out = qn.probe(ctx)
	c.learn(ctx, f, qn)
}

// learn remembers what a flight found out.
func (c *Check) learn(ctx context.Context, f *flight, qn *question) {
	class := f.out.answer.Class
	var found store.Answer
	if class == store.None && !qn.stands {
		return // nothing was known, and nothing is
	}
	now := time.Now()
	ch := change{settings: qn.set, out: &f.out, began: f.began, now: now, cautious: qn.cautious()}
	switch class {
	case store.Valid:
		found, _ = c.finding(ctx, f.out.answer.Backend, qn.mailbox.Domain)
		ch.acceptAll = found.Class == store.AcceptAll
	case store.Unknown:
		ch.held = c.state.held(qn.mailbox.Domain, now)
	}
	var e effect
	applied := false
	c.memory.Learn(qn.key, f.began, func(old store.Record) store.Record {
		e, applied = ch.apply(old), true
		return e.rec
	})
	if !applied {
		e = ch.apply(store.Record{})
	}
	f.rec = e.rec
	c.follow(&e, qn, now, class)
	if class == store.Valid && !ch.acceptAll {
		c.afterValid(qn, f.out.by, &found, tentative{key: qn.key, began: f.began, learnt: now, before: e.before})
	}
}

// follow counts what a change did, and tells the postmaster.
func (c *Check) follow(e *effect, qn *question, now time.Time, class store.Class) {
	begins := false // said at once: the first answer that is kept for it is hours away
	if e.refreshed && class != store.None && class != store.AcceptAll {
		begins = c.state.countRefresh(qn.mailbox.Domain, qn.key, e.doubted, now)
	}
	switch {
	case e.demoted:
		c.state.count.demotions.Add(1)
		c.log.Warn("recipient no longer exists: the backend has said so repeatedly", "recipient", qn.key, "backend", e.rec.Standing.Backend)
	case e.held:
		c.state.count.demotionsHeld.Add(1)
		begins = true
	}
	if begins && c.state.once("held "+qn.mailbox.Domain, windowSpan, now) {
		c.log.Error("known recipients are kept although the backend calls them unknown: too many of the domain at once, is its directory complete?",
			"domain", qn.mailbox.Domain, "route", qn.rt.String())
	}
}

// times gives the life of the answer that was remembered, zero when none was.
func (f *flight) times() (learnt, expire time.Time) {
	for _, a := range []*store.Answer{&f.rec.Standing, &f.rec.Transient} {
		if a.Class == f.out.answer.Class && a.Class != store.None {
			return a.Learnt, a.Expire
		}
	}
	return f.out.answer.Learnt, f.out.answer.Expire
}

// hintEvery is the least time between two equal hints to the postmaster.
const hintEvery = time.Hour

// hintCautious says that a refusal was passed over, and what to write to have it
// count or not be asked.
func (a *asking) hintCautious(at string) {
	c := a.check
	c.state.count.cautious.Add(1)
	if c.state.once("cautious "+a.q.Target.Domain, hintEvery, a.now) {
		c.log.Warn("the next hop refuses our question, the mail was let through: name the domain in a [[domain]] section, or the client's network in trusted if this is outgoing mail",
			"domain", a.q.Target.Domain, "network", network(a), "backend", at)
	}
}

// network is the client's, as trusted would name it.
func network(a *asking) string {
	client := a.q.Client.Unmap()
	bits := 24
	if client.Is6() {
		bits = 64
	}
	p, err := client.Prefix(bits)
	if err != nil {
		return ""
	}
	return p.String()
}

// tellUnproven says that a backend refuses us, as far as one can tell.
func (a *asking) tellUnproven(answer *store.Answer) {
	c := a.check
	c.state.count.unproven.Add(1)
	if c.state.once("unproven "+answer.Backend+" "+a.q.Target.Domain, hintEvery, a.now) {
		c.log.Error("backend refuses a recipient for a reason that may be about this gateway, and has taken no other of the domain lately: mail is put off",
			"domain", a.q.Target.Domain, "backend", answer.Backend, "code", answer.Code, "enhanced", answer.Enhanced, "text", answer.Text)
	}
}

// sawLoop says that a question came back to us.
func (c *Check) sawLoop(at, domain string) {
	c.state.count.loops.Add(1)
	if c.state.once("loop "+at+" "+domain, hintEvery, time.Now()) {
		c.log.Error("call-ahead loop: the backend is this gateway itself, or asks it back", "peer", at, "domain", domain)
	}
}

// explain adds a note for people.
func explain(q *rcptgate.Query, note string) { q.Trace.Note(note) }

func explainRoute(q *rcptgate.Query, rt fmt.Stringer) {
	explain(q, "route: "+rt.String())
	if q.Target.Path != q.Recipient.Path {
		explain(q, "target: "+q.Target.Path)
	}
}

func explainMemory(a *asking, rec *store.Record, what use, answer *store.Answer, source string) {
	if answer == nil {
		explain(a.q, "memory: what "+a.check.knownBy(source, a.key)+" knows no longer serves")
		return
	}
	now := time.Now() // later than a.now by what another gateway took to find out
	learnt := ""      // a script's record need not say when
	if !answer.Learnt.IsZero() {
		learnt = ", learnt " + age(now.Sub(answer.Learnt)) + " ago"
	}
	note := fmt.Sprintf("memory: %v%s from %s, known by %s", answer.Class, learnt, answer.Backend, a.check.knownBy(source, a.key))
	switch {
	case what == askWithNet:
		note += fmt.Sprintf("; asked again because %v has passed", rec.Transient.Class)
	case what == serveAsk:
		note += "; due, refreshed in the background"
	case answer.Class == store.Valid && answer.Due(now):
		note += "; due, refreshed a short while ago"
	case answer.Class == store.Valid:
		note += ", refresh due in " + age(answer.Refresh.Sub(now))
	default:
		note += ", ends in " + age(answer.Expire.Sub(now))
	}
	if rec.Doubt.Count > 0 {
		note += fmt.Sprintf("; %d times said to be unknown since", rec.Doubt.Count)
	}
	explain(a.q, note)
}

func explainProbe(q *rcptgate.Query, out *outcome) {
	if out.answer.Class == store.None {
		err := out.err
		if err == nil {
			err = errors.New("nobody could be asked")
		}
		explain(q, "probe: "+err.Error())
		return
	}
	a := &out.answer
	explain(q, fmt.Sprintf("probe: %s said %d %s %s: %v, after %v", a.Backend, a.Code, a.Enhanced, a.Text, a.Class, out.elapsed.Round(time.Microsecond)))
}

// age writes a duration for people, without false precision. Clocks of gateways differ:
// what is in the future by ours is of this moment.
func age(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return d.Round(time.Minute).String()
	}
	return fmt.Sprintf("%.0f d", d.Hours()/24)
}
