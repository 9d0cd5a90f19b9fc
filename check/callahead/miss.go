// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"context"
	"time"

	"rcptgate"
	"rcptgate/kit/flight"
	"rcptgate/store"
)

// flying is one probe in progress. Equal questions wait for its end.
type flying = flight.Call[flightKey, landing]

// landing is what a probe found out.
type landing struct {
	out    outcome
	rec    *store.Record // what is known after it; nil: nothing was remembered
	source string        // where rec is from when another gateway asked; out is then zero
}

// times gives the life of the answer that was remembered, zero when none was.
func (l *landing) times() (learnt, expire time.Time) {
	if l.rec != nil {
		for _, a := range []*store.Answer{&l.rec.Standing, &l.rec.Transient} {
			if a.Class == l.out.answer.Class && a.Class != store.None {
				return a.Learnt, a.Expire
			}
		}
	}
	return l.out.answer.Learnt, l.out.answer.Expire
}

// own gives the target and its key in memory of their own: the front uses its query
// again while the probe goes on.
func (a *asking) own() (m rcptgate.Mailbox, key string) {
	m = a.q.Target.Clone()
	return m, m.Key(a.foldLocal)
}

// question is what a probe about m, whose key is key, needs of the query.
func (a *asking) question(m rcptgate.Mailbox, key string, due time.Time, stands bool) *question {
	qn := &question{
		check: a.check, set: a.settings, rt: a.rt, mailbox: m, key: key, due: due, stands: stands,
		fresh: a.check.state.forgotten.has(key, time.Now()), explain: a.q.Trace.Explain,
	}
	if s := a.check.shared; s != nil {
		qn.patience = s.Patience()
	}
	return qn
}

// refresh has the answer asked again in the background, with the canonical path.
func (a *asking) refresh() {
	m, key := a.own()
	if !m.IsCanonical() {
		m.Path = m.Canonical()
	}
	a.check.state.enqueueRefresh(a.question(m, key, time.Time{}, true))
}

// remembered takes note of a valid answer that came from another place than RAM, for control
// questions after a restart.
func (a *asking) remembered(answer *store.Answer) {
	if answer.Class != store.Valid || a.cautious {
		return
	}
	if m, key := a.own(); m.IsCanonical() {
		a.check.state.remembers(answer, key, m)
	}
}

// miss asks, and waits as long as the asker does. Net is the valid answer that
// serves if no server can be asked, nil if there is none.
func (a *asking) miss(ctx context.Context, net *store.Answer, source string) rcptgate.Verdict {
	looked := ""
	if first := a.rt.First(); first != "" && !a.exempt {
		looked = first
		if found, from := a.check.finding(ctx, first, a.q.Target.Domain); found.Class == store.AcceptAll {
			a.q.Trace.Note("memory: the backend accepts every recipient of the domain, so it is not asked")
			return a.verdict(&found, from)
		}
	}
	if a.veiled() {
		a.q.Trace.Note("probe: none for this client")
		if net != nil {
			return a.verdict(net, source)
		}
		return *a.q.Veil
	}
	f, ok := a.takeOff(ctx, looked, net != nil)
	if !ok {
		a.check.state.count.busy.Add(1)
		a.q.Trace.Note("probe: too many in progress")
		return a.nobody(net, source)
	}
	if _, landed := rcptgate.Await(ctx, f.Done()); !landed {
		a.q.Trace.Note("probe: no answer within the deadline; it continues in the background")
		return a.nobody(net, source)
	}
	return a.landed(&f.Value, net, source)
}

// takeOff joins the probe for the same recipient, or begins one.
func (a *asking) takeOff(ctx context.Context, looked string, stands bool) (f *flying, ok bool) {
	state := a.check.state
	// A server may take another spelling for another mailbox, or for none. What it says of
	// that is for the asker alone.
	m, key := a.own()
	canonical := m.IsCanonical()
	k := flightKey{key: key, route: a.rt.String()}
	if a.room > 0 {
		k.size = a.q.Size
	}
	if !canonical {
		k.key = m.Path
	}
	f, isNew := state.flights.Join(k)
	switch {
	case f == nil:
		return nil, false
	case !isNew:
		state.count.joined.Add(1)
		a.q.Trace.Note("probe: one for the same recipient is in progress")
		return f, true
	}
	now := time.Now()
	due, limited := ctx.Deadline()
	if !limited {
		due = now.Add(defaultDue)
	}
	qn := a.question(m, key, due, stands)
	qn.looked, qn.patience, qn.alone, qn.size = looked, a.check.patience(ctx), !canonical, k.size
	check := a.check // a shall not leave the stack: most queries end in memory
	if !state.run(func() { check.fly(f, qn, now) }) {
		f.Value.out.err = errClosed
		state.flights.End(f)
	}
	return f, true
}

// landed says what a probe's end means for this query.
func (a *asking) landed(f *landing, net *store.Answer, source string) rcptgate.Verdict {
	if f.source != "" {
		return a.fromElsewhere(f, net, source)
	}
	out := &f.out
	if a.q.Trace.Explain {
		explainProbe(a.q, out)
	}
	answer := out.answer
	switch {
	case out.badPath:
		return badAddress(textBadPath)
	case out.noUTF8:
		// The MTA could not deliver it there either: taken, it would be bounced.
		v := badAddress(textNoUTF8)
		v.Code, v.Enhanced, v.Source = 553, "5.6.7", rcptgate.SourceProbe
		return v
	case out.noRoom != nil:
		return a.say(out.noRoom, rcptgate.SourceProbe)
	case answer.Class == store.None && net == nil && a.cautious && out.before5xx:
		a.hintCautious(a.rt.String())
		return rcptgate.Verdict{Reason: rcptgate.ReasonRefused, Source: rcptgate.SourceProbe}
	case answer.Class == store.None:
		return a.nobody(net, source)
	case answer.Class == store.Unknown && f.rec != nil && f.rec.Standing.Class == store.Valid:
		a.q.Trace.Note("probe: unknown, but a valid answer stands until that is confirmed")
		if source == "" {
			source = rcptgate.SourceRAM
		}
		return a.verdict(&f.rec.Standing, source)
	case answer.Class == store.Refused && !out.proven && !a.cautious:
		a.hintUnproven(out)
		if net != nil {
			return a.verdict(net, source)
		}
	}
	a.proven = out.proven
	answer.Learnt, answer.Expire = f.times()
	return a.say(&answer, rcptgate.SourceProbe)
}

// nobody is the verdict when no server could be asked in time.
func (a *asking) nobody(net *store.Answer, source string) rcptgate.Verdict {
	if net != nil {
		return a.verdict(net, source)
	}
	return a.unreachable()
}
