// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"rcptgate/backend"
)

// Route is the backends that are responsible for a domain, in order. It is safe for
// concurrent use and does not change, except for what DNS says.
type Route struct {
	// Section is the index of the [[domain]] section, -1 for a route that only the
	// MTA named.
	Section int
	Origin  Origin
	// Unchecked: no server is asked. Why says why, in words for a trace: the section has
	// check = false, or the MTA delivers the recipient itself (Delivered).
	Unchecked bool
	Delivered bool
	Why       string

	router *Router
	hops   []hop
	static []Backend // the backends of hops, when none of them needs MX records
	names  []string  // hops that are host names: their addresses are looked up for IsClient
	text   string
	err    error // why it is not known who is responsible
}

// hop is one server as it is configured.
type hop struct {
	addr backend.Address
	text string
	ip   netip.Addr // when the host is an address literal
}

func (r *Router) newRoute(index int, origin Origin, addrs []backend.Address) *Route {
	rt := &Route{Section: index, Origin: origin, router: r}
	var texts []string
	needMX := false
	for _, a := range addrs {
		ip, literal := a.IP()
		rt.hops = append(rt.hops, hop{addr: a, text: a.String(), ip: ip})
		texts = append(texts, a.String())
		needMX = needMX || a.IsMX
		if !literal && a.Path == "" && !a.IsMX {
			rt.names = append(rt.names, a.Host)
		}
	}
	rt.text = strings.Join(texts, ", ")
	if !needMX {
		for _, a := range addrs {
			rt.static = append(rt.static, r.opt.Get(a))
		}
	}
	return rt
}

// String lists the servers as they are configured: "smtp:[10.0.0.5]:25, mx". Routes
// with equal servers have equal texts.
func (rt *Route) String() string { return rt.text }

// ErrNoBackend says that a route names servers but none that can be asked: the
// domain has a null MX, or all its MX records point to ourselves or behind us.
var ErrNoBackend = errors.New("no server to ask")

// Backends gives the servers to ask about a recipient of domain, in order. It asks
// DNS when the route needs MX records that are not remembered, within ctx.
func (rt *Route) Backends(ctx context.Context, domain string) ([]Backend, error) {
	if rt.err != nil {
		return nil, rt.err
	}
	for _, name := range rt.names {
		rt.router.dns.learnAddrs(name)
	}
	if rt.static != nil {
		return rt.static, nil
	}
	var list []Backend
	var firstErr error
	for _, hop := range rt.hops {
		if !hop.addr.IsMX {
			list = append(list, rt.router.opt.Get(hop.addr))
			continue
		}
		addrs, err := rt.router.resolve(ctx, hop.addr, domain)
		if err != nil && firstErr == nil {
			firstErr = err
		}
		for _, a := range addrs {
			list = append(list, rt.router.opt.Get(a))
		}
	}
	if len(list) > maxBackends {
		list = list[:maxBackends]
	}
	if len(list) > 0 {
		return list, nil
	}
	if firstErr == nil {
		firstErr = ErrNoBackend
	}
	return nil, firstErr
}

// mxName is the domain whose MX records a hop means.
func mxName(hop backend.Address, domain string) string {
	if hop.Host != "" {
		return hop.Host
	}
	return domain
}

// resolve gives the servers behind an address that needs MX records.
func (r *Router) resolve(ctx context.Context, hop backend.Address, domain string) ([]backend.Address, error) {
	domain = mxName(hop, domain)
	p := newPatience()
	set, stale, err := r.dns.mx(ctx, p, domain)
	if err != nil {
		return nil, err
	}
	if stale { // DNS does not answer: it is not waited for again
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, time.Time(p))
		defer cancel()
	}
	hosts := r.withoutOurselves(ctx, p, set.hosts)
	if len(hosts) == 0 {
		return nil, fmt.Errorf("mx of %s: %w: every server is ourselves or behind us", domain, ErrNoBackend)
	}
	var list []backend.Address
	for _, host := range hosts {
		list = append(list, backend.Address{Protocol: hop.Protocol, Host: host.name, Port: hop.Port})
	}
	return list, nil
}

// withoutOurselves leaves out our own host and every server of equal or larger
// preference number (RFC 5321 section 5.1). A host is ourselves by its name or by its
// address. One whose addresses cannot be looked up is kept: the backend reports the
// failure, and its own loop detection applies.
func (r *Router) withoutOurselves(ctx context.Context, p patience, hosts []mxHost) []mxHost {
	for _, host := range hosts {
		r.dns.learnAddrs(host.name) // all at once
	}
	for _, host := range hosts {
		self := host.name == r.opt.Hostname
		if !self {
			addrs, err := r.dns.addrs(ctx, p, host.name)
			self = err == nil && slices.ContainsFunc(addrs, r.opt.IsSelf)
		}
		if self {
			return slices.DeleteFunc(slices.Clone(hosts), func(h mxHost) bool { return h.pref >= host.pref })
		}
	}
	return hosts
}

// Has reports whether the backend that gave an answer is still one of the route's for
// domain. It is true as long as DNS has not said which these are.
func (rt *Route) Has(domain, answered string) bool {
	needMX := false
	for i := range rt.hops {
		if rt.hops[i].text == answered {
			return true
		}
		needMX = needMX || rt.hops[i].addr.IsMX
	}
	return needMX && rt.hasMX(domain, answered)
}

func (rt *Route) hasMX(domain, answered string) bool {
	addr, err := backend.ParseAddress(answered)
	if err != nil {
		return false
	}
	for _, hop := range rt.hops {
		if !hop.addr.IsMX || hop.addr.Port != addr.Port || hop.addr.Protocol != addr.Protocol {
			continue
		}
		set, known := rt.router.dns.knownMX(mxName(hop.addr, domain))
		if !known || slices.ContainsFunc(set.hosts, func(h mxHost) bool { return h.name == addr.Host }) {
			return true
		}
	}
	return false
}

// IsClient reports whether a client is itself one of the route's backends for
// domain: by its address literal, or by the addresses that its name was last looked
// up to have. A backend's own outgoing mail must not make us ask it back. A loopback
// client is never one: everything on this machine comes from there, the MTA's own
// submissions as well as a backend on another port.
func (rt *Route) IsClient(domain string, client netip.Addr) bool {
	client = client.Unmap()
	if !client.IsValid() || client.IsLoopback() {
		return false
	}
	for i := range rt.hops {
		switch hop := &rt.hops[i]; {
		case hop.ip.IsValid():
			if hop.ip == client {
				return true
			}
		case hop.addr.IsMX:
			if rt.mxIsClient(hop.addr, domain, client) {
				return true
			}
		case hop.addr.Path == "" && slices.Contains(rt.router.dns.knownAddrs(hop.addr.Host), client):
			return true
		}
	}
	return false
}

func (rt *Route) mxIsClient(hop backend.Address, domain string, client netip.Addr) bool {
	set, _ := rt.router.dns.knownMX(mxName(hop, domain))
	for _, host := range set.hosts {
		if slices.Contains(rt.router.dns.knownAddrs(host.name), client) {
			return true
		}
	}
	return false
}

// IsBackend reports whether a client is one of the servers that [[domain]] sections name,
// as [Route.IsClient] finds out.
func (r *Router) IsBackend(client netip.Addr) bool {
	for _, s := range r.sects {
		if s.route != nil && s.route.IsClient(s.name, client) {
			return true
		}
	}
	return false
}

// Backends are the addresses for which [Router.IsBackend] holds now.
func (r *Router) Backends() (list []netip.Addr) {
	for _, s := range r.sects {
		if s.route == nil {
			continue
		}
		for i := range s.route.hops {
			switch hop := &s.route.hops[i]; {
			case hop.ip.IsValid():
				list = append(list, hop.ip)
			case hop.addr.IsMX:
				set, _ := r.dns.knownMX(mxName(hop.addr, s.name))
				for _, host := range set.hosts {
					list = append(list, r.dns.knownAddrs(host.name)...)
				}
			case hop.addr.Path == "":
				list = append(list, r.dns.knownAddrs(hop.addr.Host)...)
			}
		}
	}
	return list
}

// First is the server that is asked first, as Address.String writes it; empty when
// DNS has to be asked for it.
func (rt *Route) First() string {
	if len(rt.hops) == 0 || rt.hops[0].addr.IsMX {
		return ""
	}
	return rt.hops[0].text
}
