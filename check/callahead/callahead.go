// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/config/setting"
	"rcptgate/route"
	"rcptgate/store"
)

// maxPath bounds a recipient, in octets. RFC 5321 section 4.5.3.1 allows 64 for the
// local part and 256 for the path; longer ones are real, beyond this they are not.
const maxPath = 512

// Memory is what remembers answers: store/tiers.
type Memory interface {
	// Recall gives what is known under key, and from where.
	Recall(ctx context.Context, key string) (rec store.Record, source string, ok bool)
	// Learn changes what is known under key, unless it was forgotten after began.
	Learn(key string, began time.Time, change func(old store.Record) store.Record)
}

// Router finds the route of a query: a *route.Router.
type Router interface {
	Route(q *rcptgate.Query) *route.Route
	IsSelf(addr netip.Addr) bool
}

// Options are what a Check is made of. All but Log are needed.
type Options struct {
	Config   Config
	Lives    Lives
	Domains  []DomainConfig // in the order of the router's sections
	Hostname string         // our own name, as in EHLO
	Router   Router
	Memory   Memory
	State    *State
	Log      *slog.Logger
}

// Check answers whether a recipient exists. It does not change once made, owns
// nothing, and is safe for concurrent use.
type Check struct {
	router       Router
	memory       Memory
	shared       Shared // the memory, if other gateways write to it too
	state        *State
	log          *slog.Logger
	settings     []*settings // by section, the defaults first
	hostname     string
	sender       string
	fallback     string // "" when there is none
	unknownCodes UnknownCodes
	timeout      time.Duration
}

// New makes a Check. An error in a section is a [setting.KeyError] that names its key
// ("domain[2].valid"); those of all sections are joined.
func New(opt Options) (*Check, error) {
	if opt.Router == nil || opt.Memory == nil || opt.State == nil {
		return nil, errors.New("call-ahead: router, memory and state are needed")
	}
	if err := opt.Config.Validate(); err != nil {
		return nil, fmt.Errorf("[callahead]: %w", err)
	}
	if err := opt.Lives.Validate(); err != nil {
		return nil, fmt.Errorf("[cache]: %w", err)
	}
	c := &Check{
		router: opt.Router, memory: opt.Memory, shared: sharing(opt.Memory), state: opt.State, log: opt.Log,
		hostname: address.Domain(opt.Hostname), unknownCodes: opt.Config.UnknownCodes, timeout: opt.Config.Timeout.Std(),
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.timeout <= 0 {
		c.timeout = DefaultConfig().Timeout.Std()
	}
	c.sender, _ = readSender(opt.Config.Sender)
	c.fallback = opt.Config.Fallback(opt.Hostname)
	defaults, bad := newSettings(&opt.Config, &opt.Lives, nil)
	if bad != nil {
		return nil, bad
	}
	c.settings = []*settings{defaults}
	var wrong []error
	for i := range opt.Domains {
		s, bad := newSettings(&opt.Config, &opt.Lives, &opt.Domains[i])
		if bad != nil {
			wrong = append(wrong, setting.Keyf(fmt.Sprintf("domain[%d].%s", i+1, bad.Key), "%w", bad.Err))
		}
		c.settings = append(c.settings, s)
	}
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	return c, nil
}

// Check answers from memory if it can, else from a probe, within ctx. The error is
// always nil: what could not be found out has its own verdict here, the domain's.
func (c *Check) Check(ctx context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
	if q.Known {
		explain(q, "exists; nobody is asked")
		return rcptgate.Verdict{}, nil
	}
	rt := c.router.Route(q)
	switch {
	case rt == nil:
		explain(q, "route: none; nobody is asked")
		return rcptgate.Verdict{Reason: rcptgate.ReasonNotRouted}, nil
	case rt.Delivered:
		explain(q, "route: the MTA delivers it itself; no server is asked")
		return rcptgate.Verdict{Reason: rcptgate.ReasonNotRouted}, nil
	case rt.Unchecked:
		explain(q, "route: the domain has check = false")
		return rcptgate.Verdict{Reason: rcptgate.ReasonUnchecked, Source: rcptgate.SourceConfig}, nil
	case rt.IsClient(q.Target.Domain, q.Client):
		explain(q, "route: the client is itself the backend")
		return rcptgate.Verdict{Reason: rcptgate.ReasonBackendClient, Source: rcptgate.SourceConfig}, nil
	case len(q.Target.Path) > maxPath:
		return badAddress(textTooLong), nil
	case address.HasControl(q.Target.Path):
		return badAddress(textBadPath), nil
	}
	if q.Trace.Explain {
		explainRoute(q, rt)
	}
	a := asking{check: c, q: q, rt: rt, now: q.Now()}
	a.settings = c.settings[0]
	if i := rt.Section + 1; i < len(c.settings) {
		a.settings = c.settings[i]
	}
	a.cautious = rt.Origin == route.MTA
	a.exempt = exempt(q.Target.Local)
	a.key = q.Target.Key(a.foldLocal)
	return a.answer(ctx), nil
}

// asking is one query on its way through the check.
type asking struct {
	situation
	check *Check
	q     *rcptgate.Query
	rt    *route.Route
	key   string
	now   time.Time
}

// answer is the path of every query: memory, then a probe.
func (a *asking) answer(ctx context.Context) rcptgate.Verdict {
	if a.looped() {
		return a.loop()
	}
	var rec store.Record
	var source string
	var known bool
	if a.check.shared == nil {
		rec, source, known = a.check.memory.Recall(ctx, a.key)
	} else {
		rec, source, known = a.recallShared(ctx)
	}
	if !known {
		explain(a.q, "memory: nothing")
		return a.miss(ctx, nil, "")
	}
	what, answer := a.judge(&rec, a.rt, a.q.Target.Domain, a.now)
	if answer != nil && answer.Class == store.Refused && !a.cautious {
		a.proven = a.check.state.tookAnother(pair{answer.Backend, a.q.Target.Domain}, a.key, a.now)
		if !a.proven {
			what, answer = a.withoutPassing(&rec)
		}
	}
	if a.q.Trace.Explain {
		explainMemory(a, &rec, what, answer, source)
	}
	switch what {
	case serve:
		return a.say(answer, source)
	case serveAsk:
		if !a.check.state.refresh.waiting(a.key) {
			a.check.state.enqueueRefresh(a.question(time.Time{}, true))
		}
		return a.say(answer, source)
	}
	if answer == nil {
		return a.miss(ctx, nil, "")
	}
	net := *answer // a copy: rec shall not leave the stack for the queries that need no net
	return a.miss(ctx, &net, source)
}

// withoutPassing judges a record whose remembered refusal may no longer be passed
// on: nothing proves at the moment that it is about the recipient.
func (a *asking) withoutPassing(rec *store.Record) (use, *store.Answer) {
	if rec.Standing.Class == store.Valid && rec.Standing.Alive(a.now) {
		return askWithNet, &rec.Standing
	}
	return askNow, nil
}

// say gives the verdict on an answer, and a hint where the route's origin changed it.
func (a *asking) say(answer *store.Answer, source string) rcptgate.Verdict {
	v := a.verdict(answer, source)
	if a.cautious && answer.Class == store.Refused {
		a.hintCautious(answer.Backend)
	}
	return v
}

// looped reports whether the query is a call-ahead of our own that came back: it
// says our name and has a sender that we use. What comes from this very machine may
// as well be our MTA's own bounce; it is a loop only if we are asking at the moment.
func (a *asking) looped() bool {
	q, c := a.q, a.check
	if (q.Sender != "" && q.Sender != c.sender && q.Sender != c.fallback) || c.hostname == "" || !strings.EqualFold(strings.TrimSuffix(q.Helo, "."), c.hostname) {
		return false
	}
	if !q.Client.IsValid() || c.router.IsSelf(q.Client) {
		return c.state.asking(a.key)
	}
	return true
}

func (a *asking) loop() rcptgate.Verdict {
	a.check.sawLoop(a.q.Client.String(), a.q.Target.Domain)
	explain(a.q, "loop: the client says our own name and our probes' sender")
	return rcptgate.Verdict{
		Action: rcptgate.Tempfail, Code: 451, Enhanced: "4.4.6", Text: textLoop,
		Reason: rcptgate.ReasonLoop, Source: rcptgate.SourceConfig,
	}
}

// question is what a probe needs of the query, copied: the front uses its query
// again while the probe goes on.
func (a *asking) question(due time.Time, stands bool) *question {
	m := a.q.Target
	m.Path, m.Local, m.Domain = strings.Clone(m.Path), strings.Clone(m.Local), strings.Clone(m.Domain)
	qn := &question{check: a.check, set: a.settings, rt: a.rt, mailbox: m, key: strings.Clone(a.key), due: due, stands: stands}
	if s := a.check.shared; s != nil {
		qn.patience = s.Patience()
	}
	return qn
}

// miss asks, and waits as long as the asker does. Net is the valid answer that
// serves if nobody can be asked, nil if there is none.
func (a *asking) miss(ctx context.Context, net *store.Answer, source string) rcptgate.Verdict {
	looked := ""
	if first := a.rt.First(); first != "" && !a.exempt {
		looked = first
		if found, from := a.check.finding(ctx, first, a.q.Target.Domain); found.Class == store.AcceptAll {
			explain(a.q, "memory: the backend accepts every recipient of the domain, it is not asked")
			return a.verdict(&found, from)
		}
	}
	state := a.check.state
	a.key = strings.Clone(a.key) // it goes into a map, and may lie in the front's buffer
	f, isNew := state.join(flightKey{a.key, a.rt.String()}, time.Now())
	switch {
	case f == nil:
		state.count.busy.Add(1)
		explain(a.q, "probe: too many in progress")
		return a.nobody(net, source)
	case isNew:
		due, ok := ctx.Deadline()
		if !ok {
			due = f.began.Add(defaultDue)
		}
		qn := a.question(due, net != nil)
		qn.looked, qn.patience = looked, a.check.patience(ctx)
		check := a.check // a shall not leave the stack: most queries end in memory
		if !state.run(func() { check.fly(f, qn) }) {
			f.out.err = errClosed
			state.end(f)
		}
	default:
		state.count.joined.Add(1)
		explain(a.q, "probe: one for the same recipient is in progress")
	}
	select {
	case <-f.done:
		return a.landed(f, net, source)
	case <-ctx.Done():
		explain(a.q, "probe: no answer within the deadline; it goes on in the background")
		return a.nobody(net, source)
	}
}

// landed says what a probe's end means for this query.
func (a *asking) landed(f *flight, net *store.Answer, source string) rcptgate.Verdict {
	if f.source != "" {
		return a.told(f, net, source)
	}
	out := &f.out
	if a.q.Trace.Explain {
		explainProbe(a.q, out)
	}
	answer := out.answer
	switch {
	case out.badPath:
		return badAddress(textBadPath)
	case out.noUTF8 && !a.cautious:
		// The MTA could not deliver it there either: taken, it would be bounced.
		v := badAddress(textNoUTF8)
		v.Code, v.Enhanced, v.Source = 553, "5.6.7", rcptgate.SourceProbe
		return v
	case answer.Class == store.None && net == nil && a.cautious && out.before5xx:
		a.hintCautious(a.rt.String())
		return rcptgate.Verdict{Reason: rcptgate.ReasonRefused, Source: rcptgate.SourceProbe}
	case answer.Class == store.None:
		return a.nobody(net, source)
	case answer.Class == store.Unknown && f.rec.Standing.Class == store.Valid:
		explain(a.q, "probe: unknown, but a valid answer stands until that is confirmed")
		if source == "" {
			source = rcptgate.SourceRAM
		}
		return a.verdict(&f.rec.Standing, source)
	case answer.Class == store.Refused && !out.proven && !a.cautious:
		a.tellUnproven(&answer)
		if net != nil {
			return a.verdict(net, source)
		}
	}
	a.proven = out.proven
	answer.Learnt, answer.Expire = f.times()
	return a.say(&answer, rcptgate.SourceProbe)
}

// nobody is the verdict when nobody could be asked in time.
func (a *asking) nobody(net *store.Answer, source string) rcptgate.Verdict {
	if net != nil {
		return a.verdict(net, source)
	}
	return a.unreachable()
}
