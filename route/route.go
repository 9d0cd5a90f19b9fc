// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/backend"
	"rcptgate/table/lists"
)

// DomainConfig is what a [[domain]] section says about routing.
type DomainConfig struct {
	// Name is "example.com", ".example.com" for everything below it, or "*" for any
	// domain whose next hop the MTA has in brackets.
	Name string `toml:"name" doc:"the domain: \"example.com\", \".example.com\" for everything below it, or \"*\" for any domain for which the MTA has a next hop in brackets" example:"\"example.com\""`
	// Backend lists the servers to ask, in order; none: the MTA's own next hop.
	Backend []string `toml:"backend" doc:"servers to ask, in order, as in a transport table; without it, the MTA's own next hop" example:"[\"smtp:[10.0.0.5]:25\", \"smtp:[10.0.0.6]:25\"]"`
	// Check = false leaves the domain alone.
	Check *bool `toml:"check" doc:"false: do not check recipients of this domain"`
	// Mailers are the MTA's transports or mailers that deliver by themselves and whose
	// recipients these servers know all the same; "*" is every one.
	Mailers []string `toml:"mailers" doc:"ask these servers also about recipients that the MTA delivers with one of these transports or mailers, for instance a local mailer that hands over to the same server; \"*\" means all of them; without it, recipients that the MTA delivers itself (local, virtual, discard, a pipe) are not checked" example:"[\"local\"]"`
	// Enforce is unset where the gate's own setting applies. False rehearses the domain:
	// everything is done and logged, nothing refused.
	Enforce *bool `toml:"enforce" doc:"overrides the global setting for this domain; true: refuse recipients, false: rehearse (do and log everything, refuse nothing); the default is the global setting"`
	// MailboxFull is the reply for a full mailbox, whichever check has found it full.
	MailboxFull *string `toml:"mailbox_full" doc:"reply for a full mailbox: \"tempfail\" (452 4.2.2, the default: the sender tries again) or \"reject\" (552 5.2.2)" oneof:"tempfail,reject"`
}

// RejectsFull reports whether a full mailbox is refused for good.
func (d *DomainConfig) RejectsFull() bool { return d.MailboxFull != nil && *d.MailboxFull == "reject" }

// Backend is a server that can be asked: a *backend.Backend.
type Backend interface {
	Address() backend.Address
	Name() string // Address as text
	Ask(ctx context.Context, p backend.Probe) (backend.Reply, error)
}

// Options are what a Router is made of.
type Options struct {
	Domains []DomainConfig
	// Maps are the MTA's maps of next hops, in order; see Router.
	Maps      []Map
	Delimiter string // Postfix's recipient_delimiter, for maps that hold whole addresses
	Relay     Relay  // what the MTA does with domains that no map names
	FollowMTA bool   // use the MTA's bracketed next hop for domains without a section
	Enforce   bool   // of the whole gate
	Hostname  string // our own name: an MX of this name is ourselves
	// Get gives the backend at an address; it does no I/O. Nil: from Set.
	Get func(backend.Address) Backend
	Set *backend.Set
	// Servers are the DNS servers to ask, "192.0.2.1:53"; none: those of
	// /etc/resolv.conf.
	Servers []string
	// IsSelf reports whether an address is one of this machine. Nil: the addresses of
	// its interfaces, as they are when New is called, and loopback.
	IsSelf func(netip.Addr) bool
}

// Origin says who named a route.
type Origin uint8

// The origins. A route that only the MTA named may be a smart host for outgoing
// mail; it is treated with more caution.
const (
	Configured Origin = iota
	MTA
)

// String gives the origin's word.
func (o Origin) String() string {
	if o == MTA {
		return "mta"
	}
	return "configured"
}

// Relay is the next hop that an MTA has for all the domains that it relays.
type Relay struct {
	To      string        // as in a map: "relay:[10.0.0.5]:25"; "" for none
	Domains lists.Domains // those that it relays
	Own     lists.Domains // those that it does not, whatever Domains says
}

// Router finds routes. It does not change once made and is safe for concurrent use.
// Close it after its last use.
type Router struct {
	opt      Options
	sections *Sections
	sects    []*section // in the order of sections
	maps     []mapGroup
	dns      *resolver

	mu   sync.Mutex // guards writes to hops
	hops atomic.Pointer[map[hopKey]*Route]
}

// hopKey is one next hop of the MTA under one section.
type hopKey struct {
	section      int
	mailer, host string
}

// maxMTARoutes bounds the MTA's next hops that are remembered. A site has few.
const maxMTARoutes = 1024

// New reads the sections. The error joins those of all of them, each a [setting.KeyError]
// that names the section's key ("domain[2].backend").
func New(opt Options) (*Router, error) {
	if opt.Get == nil {
		set := opt.Set
		if set == nil {
			return nil, errors.New("router: no backends to ask")
		}
		opt.Get = func(a backend.Address) Backend { return set.Get(a) }
	}
	opt.Hostname = address.Domain(opt.Hostname)
	if opt.IsSelf == nil {
		opt.IsSelf = ownAddresses()
	}
	r := &Router{opt: opt, maps: groupMaps(opt.Maps, opt.Delimiter)}
	r.hops.Store(&map[hopKey]*Route{})
	if err := r.readSections(); err != nil {
		return nil, err
	}
	var err error
	if r.dns, err = newResolver(opt.Servers); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Router) readSections() error {
	var names []string
	for _, c := range r.opt.Domains {
		names = append(names, c.Name)
	}
	var wrong []error
	r.sections, wrong = readSections(names)
	for i, c := range r.opt.Domains {
		s, err := r.readSection(i, c)
		if err != nil {
			wrong = append(wrong, err)
		}
		r.sects = append(r.sects, s)
	}
	return errors.Join(wrong...)
}

// Sections finds the [[domain]] section of a domain, for units that have a part in it.
func (r *Router) Sections() *Sections { return r.sections }

// find gives the most specific section for a domain, nil if there is none.
func (r *Router) find(domain string) *section {
	if i := r.sections.Find(domain); i >= 0 {
		return r.sects[i]
	}
	return nil
}

// Delimiter is what separates a user's name from a detail; "" is nothing.
func (r *Router) Delimiter() string { return r.opt.Delimiter }

// Close ends the look-ups in progress.
func (r *Router) Close() { r.dns.close() }

// IsSelf reports whether addr is one of this machine's own addresses.
func (r *Router) IsSelf(addr netip.Addr) bool { return r.opt.IsSelf(addr.Unmap()) }

// Route gives the route of the query's target, nil when no server is responsible. It
// does no I/O and does not allocate for a route that was used before.
func (r *Router) Route(q *rcptgate.Query) *Route {
	s := r.find(q.Target.Domain)
	switch {
	case s == nil:
		return r.hop(nil, q)
	case s.name == "*":
		hop := r.hop(s, q)
		if hop == nil || hop.err != nil || s.route == nil {
			return hop
		}
		return s.route
	case s.route == nil:
		return r.hop(s, q)
	case s.delivered != nil && r.mtaKeeps(s, q):
		return s.delivered
	}
	return s.route
}

// mtaKeeps reports whether the MTA delivers the query's target itself, by what the MTA
// says or, when it does not say, by its maps: an address of the domain that goes to a
// local user, a pipe or nowhere is not known to the section's servers.
func (r *Router) mtaKeeps(s *section, q *rcptgate.Query) bool {
	mailer, host := q.NextHop.Mailer, q.NextHop.Host
	if mailer == "" && len(r.maps) > 0 {
		value, _, _ := r.mapValue(&q.Target) // if they cannot be read, the section applies
		mailer, host, _ = splitValue(value)
	}
	return keeps(mailer, host) && !s.asksMailer(mailer)
}

// hop gives the route by the MTA's maps, then by the next hop that it named, or, if it named
// none, by its next hop for relayed domains; for a section without servers or for none (nil).
func (r *Router) hop(s *section, q *rcptgate.Query) *Route {
	section, origin := -1, MTA
	if s != nil {
		section, origin = s.index, Configured
	}
	if keeps(q.NextHop.Mailer, q.NextHop.Host) {
		return nil
	}
	if len(r.maps) > 0 {
		if rt := r.tableRoute(section, origin, q); rt != nil {
			return rt
		}
	}
	switch {
	case q.NextHop.Mailer == "" && q.NextHop.Host == "":
		return r.relayed(section, origin, q.Target.Domain)
	case s == nil && (!r.opt.FollowMTA || q.Target.Domain == ""):
		return nil
	case isLiteral(q.Target.Domain) && (s == nil || s.name == "*"):
		return nil
	case !bracketed(q.NextHop.Host):
		return nil
	}
	return r.mtaRoute(section, origin, q)
}

// Rehearse reports whether verdicts about the query are only logged. They are enforced
// only if both the recipient's domain and that of the mailbox it stands for are. For
// each, its most specific section says so, or else the gate's own setting. A local name
// that a recipient stands for has no domain and no say.
func (r *Router) Rehearse(q *rcptgate.Query) bool {
	if q.Target.Domain == q.Recipient.Domain {
		return !r.enforced(q.Target.Domain)
	}
	return !r.enforced(q.Recipient.Domain) || (q.Target.Domain != "" && !r.enforced(q.Target.Domain))
}

func (r *Router) enforced(domain string) bool {
	if s := r.find(domain); s != nil && s.enforce != nil {
		return *s.enforce
	}
	return r.opt.Enforce
}

// mtaRoute gives the route that the MTA's bracketed next hop is, nil if it is none.
func (r *Router) mtaRoute(section int, origin Origin, q *rcptgate.Query) *Route {
	return r.remembered(hopKey{section, q.NextHop.Mailer, q.NextHop.Host}, origin, func() ([]backend.Address, bool) { return readNextHop(q.NextHop) })
}

// remembered gives the route of a next hop that was met before, or makes one of what
// read gives, nil if it is none.
func (r *Router) remembered(key hopKey, origin Origin, read func() ([]backend.Address, bool)) *Route {
	if rt, known := (*r.hops.Load())[key]; known {
		return rt
	}
	var rt *Route
	if list, ok := read(); ok {
		rt = r.newRoute(key.section, origin, list)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old := *r.hops.Load()
	if known, ok := old[key]; ok {
		return known
	}
	hops := make(map[hopKey]*Route, len(old)+1)
	if len(old) < maxMTARoutes {
		maps.Copy(hops, old)
	}
	key.mailer, key.host = strings.Clone(key.mailer), strings.Clone(key.host) // not the front's buffer
	hops[key] = rt
	r.hops.Store(&hops)
	return rt
}
