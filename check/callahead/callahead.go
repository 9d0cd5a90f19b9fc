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

// nowhere is a memory that keeps nothing.
type nowhere struct{}

func (nowhere) Recall(context.Context, string) (store.Record, string, bool) {
	return store.Record{}, "", false
}

func (nowhere) Learn(string, time.Time, func(store.Record) store.Record) {}

// Router finds the route of a query: a *route.Router.
type Router interface {
	Route(q *rcptgate.Query) *route.Route
	IsSelf(addr netip.Addr) bool
}

// Options are what a Check is made of. Router and State are needed.
type Options struct {
	Config  Config
	Lives   Lives
	Domains []DomainConfig // in the order of the router's sections
	// RejectFull says of each section whether a full mailbox is refused for good; nil: of none.
	RejectFull []bool
	Hostname   string // our own name, as in EHLO
	Router     Router
	Memory     Memory // nil remembers nothing
	State      *State
	Log        *slog.Logger
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
	if opt.Router == nil || opt.State == nil {
		return nil, errors.New("call-ahead: router and state are needed")
	}
	if opt.Memory == nil {
		opt.Memory = nowhere{}
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
		} else {
			s.rejectFull = i < len(opt.RejectFull) && opt.RejectFull[i]
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
		q.Trace.Note("exists; no server is asked")
		return rcptgate.Verdict{}, nil
	}
	rt := c.router.Route(q)
	switch {
	case rt == nil:
		q.Trace.Note("route: none; no server is asked")
		return rcptgate.Verdict{Reason: rcptgate.ReasonNotRouted}, nil
	case rt.Delivered:
		q.Trace.Note("route: the MTA delivers it itself; no server is asked, unless mailers in the section names its mailer")
		return rcptgate.Verdict{Reason: rcptgate.ReasonNotRouted}, nil
	case rt.Unchecked:
		q.Trace.Note("route: the domain has check = false")
		return rcptgate.Verdict{Reason: rcptgate.ReasonUnchecked, Source: rcptgate.SourceConfig}, nil
	case rt.IsClient(q.Target.Domain, q.Client):
		q.Trace.Note("route: the client is itself the backend")
		return rcptgate.Verdict{Reason: rcptgate.ReasonBackendClient, Source: rcptgate.SourceConfig}, nil
	case len(q.Target.Path) > maxPath:
		return badAddress(textTooLong), nil
	case rcptgate.HasControl(q.Target.Path):
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
	a.exempt = rcptgate.Reserved(q.Target.Local)
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
		a.q.Trace.Note("memory: nothing")
		return a.miss(ctx, nil, "")
	}
	what, answer := a.judged(&rec, a.now)
	if a.q.Trace.Explain {
		explainMemory(a, &rec, what, answer, source)
	}
	if a.veiled() && answer != nil && answer.Class != store.Valid && what != askNow {
		return *a.q.Veil // what is remembered against a mailbox says that it exists, or does not
	}
	switch what {
	case serve:
		if source != rcptgate.SourceRAM {
			a.remembered(answer)
		}
		return a.say(answer, source)
	case serveAsk:
		if !a.check.state.refresh.waiting(a.key) {
			a.refresh()
		}
		return a.say(answer, source)
	}
	if answer == nil {
		return a.miss(ctx, nil, "")
	}
	net := *answer // a copy: rec shall not leave the stack for the queries that need no net
	return a.miss(ctx, &net, source)
}

// veiled reports whether the client is to learn nothing that is not remembered as good.
func (a *asking) veiled() bool { return a.q.Veil != nil && !a.exempt }

// judged is judge, except that a refusal for another reason than a missing mailbox serves
// only while there is proof that it is about the recipient.
func (a *asking) judged(rec *store.Record, now time.Time) (recalled, *store.Answer) {
	what, answer := a.judge(rec, a.rt, a.q.Target.Domain, now)
	if answer != nil && answer.Class == store.Refused && !a.cautious {
		a.proven = a.check.state.tookAnother(pair{answer.Backend, a.q.Target.Domain}, a.key, proofLife, now)
		if !a.proven {
			return a.withoutTransient(rec)
		}
	}
	return what, answer
}

// withoutTransient judges a record whose remembered refusal may no longer be passed
// on: nothing proves at the moment that it is about the recipient.
func (a *asking) withoutTransient(rec *store.Record) (recalled, *store.Answer) {
	if rec.Standing.Class == store.Valid && rec.Standing.Alive(a.now) {
		return askWithNet, &rec.Standing
	}
	return askNow, nil
}

// say gives the verdict on an answer, and a hint where the route's origin changed it.
func (a *asking) say(answer *store.Answer, source string) rcptgate.Verdict {
	v := a.verdict(answer, source)
	if v.Action.Refuses() && !address.Same(a.q.Target, a.q.Recipient) {
		v.Withhold() // the sender does not know what the MTA has made of the address
	}
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
	a.q.Trace.Note("loop: the client says our own name and our probes' sender")
	return rcptgate.Verdict{
		Action: rcptgate.Tempfail, Code: 451, Enhanced: "4.4.6", Text: textLoop,
		Reason: rcptgate.ReasonLoop, Source: rcptgate.SourceConfig,
	}
}
