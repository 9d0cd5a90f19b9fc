// SPDX-License-Identifier: BSD-2-Clause

package quota

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/backend"
	"rcptgate/check/quota/room"
	"rcptgate/check/quota/source"
	"rcptgate/check/quota/wire"
	"rcptgate/config/setting"
	"rcptgate/route"
)

// Router finds the route of a query: a *route.Router.
type Router interface {
	Route(q *rcptgate.Query) *route.Route
	Sections() *route.Sections
}

// Options are what a Check is made of. Router and State are needed.
type Options struct {
	Config     Config
	Domains    []DomainConfig // in the order of the router's sections
	RejectFull []bool         // by section: whether a full mailbox is refused for good
	Router     Router
	FoldCase   func(domain string) bool // nil: local parts ignore case
	Delimiter  string                   // between a user's name and a detail; "" is none
	Directory  Directory                // nil: there is none
	State      *State
}

// Check answers whether there is room for a message in a mailbox. It does not change once
// made, owns nothing, and is safe for concurrent use.
type Check struct {
	Options
	rules    room.Rules
	settings []settings // by section, the defaults first
}

// settings are what holds for one [[domain]] section.
type settings struct {
	sources    []source.Spec
	rejectFull bool
	noSizes    bool
}

// New makes a Check.
func New(o Options) (*Check, error) {
	if o.Router == nil || o.State == nil {
		return nil, errors.New("quota: router and state are needed")
	}
	cfg := &o.Config
	c := &Check{Options: o, rules: room.Rules{
		Soft: cfg.Soft.Share(), Keep: cfg.Keep.Std(), FullKeep: cfg.FullKeep.Std(), Grace: int64(cfg.Grace),
	}}
	c.settings = []settings{{sources: cfg.Sources}}
	for i, d := range o.Domains {
		s := settings{sources: cfg.Sources, rejectFull: i < len(o.RejectFull) && o.RejectFull[i]}
		if d.Quota != nil {
			s.sources = *d.Quota
		}
		s.noSizes = d.ProbeSizes != nil && !*d.ProbeSizes
		c.settings = append(c.settings, s)
	}
	for _, s := range c.settings {
		for _, spec := range s.sources {
			if spec.NeedsDirectory() && (o.Directory == nil || len(cfg.Hosts) == 0) {
				return nil, setting.Keyf("quota.sources", "%q needs [quota.ldap], which finds the host, and hosts, in which it must lie", spec)
			}
		}
	}
	return c, nil
}

// Active reports whether anybody is asked about any domain.
func (c *Check) Active() bool {
	for _, s := range c.settings {
		if len(s.sources) > 0 {
			return true
		}
	}
	return false
}

// Check answers from memory if it can, else from a source, within ctx and the configured
// time. Room is the zero verdict.
func (c *Check) Check(ctx context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
	v, err := c.decide(ctx, q)
	if v.Action.Refuses() {
		c.rehearse(&v)
	}
	return v, err
}

// rehearse has a refusal act as [quota] enforce says.
func (c *Check) rehearse(v *rcptgate.Verdict) {
	switch enforce := c.Config.Enforce; {
	case enforce == nil || !v.Action.Refuses():
	case *enforce:
		v.Enforce = true
	default:
		v.Would, v.Action = v.Action, rcptgate.Continue
	}
}

func (c *Check) decide(ctx context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
	a := asking{check: c, q: q, size: q.Size}
	if why := a.notOurs(); why != "" {
		q.Trace.Note(why)
		return rcptgate.Verdict{}, nil
	}
	if a.noSizes || a.size < 1 {
		a.size = 1
	}
	user, sep, _ := address.SplitDetail(q.Target.Local, c.Delimiter)
	fold := c.FoldCase == nil || c.FoldCase(q.Target.Domain)
	if sep == "" {
		a.key = q.Target.Key(fold)
	} else {
		a.key = (rcptgate.Mailbox{Local: user, Domain: q.Target.Domain}).Key(fold)
	}
	if !usable(a.key) {
		q.Trace.Note("no store can have a mailbox of this name; no source is asked")
		return rcptgate.Verdict{}, nil
	}
	use, known := a.serve()
	switch use {
	case room.UseRoom:
		if q.Trace.Explain {
			a.explainRoom()
		}
		return rcptgate.Verdict{}, nil
	case room.Ask:
		return a.ask(ctx, &known)
	}
	return a.verdict(use, &known, true), nil
}

// serve is what is remembered. Room is taken off for the message, unless there is none: a
// person asks.
func (a *asking) serve() (room.Use, room.Entry) {
	s := a.check.State
	now := s.clock.At(a.q.Now())
	if a.q.Inquiry {
		known, _ := s.known.Get(a.key)
		return known.Serve(now, a.size), known
	}
	return s.known.Serve(a.key, now, a.size)
}

// asking is one query on its way through the check.
type asking struct {
	settings
	check *Check
	q     *rcptgate.Query
	rt    *route.Route
	key   string
	size  int64
}

// notOurs says why nobody is asked about the query; "" if somebody is.
func (a *asking) notOurs() string {
	q, c := a.q, a.check
	a.rt = c.Router.Route(q)
	section := -1
	if a.rt != nil && a.rt.Section >= 0 {
		section = a.rt.Section
	} else if q.Known {
		section = c.Router.Sections().Find(q.Target.Domain)
	}
	if section+1 < len(c.settings) {
		a.settings = c.settings[section+1]
	}
	switch {
	case len(a.sources) == 0:
		return "no source is configured for the domain; nobody is asked"
	case a.rt != nil && a.rt.Unchecked && !a.rt.Delivered:
		return "the domain has check = false; nobody is asked"
	case a.rt != nil && a.rt.IsClient(q.Target.Domain, q.Client):
		return "the client is itself the backend; nobody is asked"
	case q.Known:
		return ""
	case a.rt == nil || a.rt.Section < 0 || a.rt.Delivered:
		return "not a mailbox of ours, as far as is known; nobody is asked"
	}
	return ""
}

// usable reports whether a store may have a mailbox of that name. Nothing else reaches a
// source.
func usable(key string) bool {
	if len(key) > wire.MaxUser || len(key) < 2 || key[0] == '@' {
		return false
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] == 0x7f {
			return false
		}
	}
	return true
}

// mailbox is what sources are asked about, copied: the front uses its query again while the
// question goes on.
func (a *asking) mailbox() source.Mailbox {
	at := strings.LastIndexByte(a.key, '@')
	m := source.Mailbox{Address: strings.Clone(a.key), Local: strings.Clone(a.key[:at]), Domain: strings.Clone(a.key[at+1:])}
	if m.Domain == "" {
		m.Address, m.User = m.Local, m.Local
	} else {
		m.User = strings.NewReplacer("{address}", m.Address, "{local}", m.Local, "{domain}", m.Domain).Replace(a.check.Config.User)
	}
	if a.rt != nil {
		if at, err := backend.ParseAddress(a.rt.First()); err == nil && at.Path == "" {
			m.Backend = strings.Trim(at.Host, "[]")
		}
	}
	return m
}

// allowed gives the address of a host that the directory has named, if it lies in [quota]
// hosts; "" if not.
func (c *Check) allowed(ctx context.Context, host string) string {
	addrs := []netip.Addr{}
	if one, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		addrs = append(addrs, one)
	} else if addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		return ""
	}
	for _, at := range addrs {
		for _, n := range c.Config.Hosts {
			if n.Has(at) {
				return at.Unmap().String()
			}
		}
	}
	return ""
}

// now is the time as memory counts it.
func (s *State) now() room.Tick { return s.clock.At(time.Now()) }
