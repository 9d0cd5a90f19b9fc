// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"context"
	"fmt"
	"strings"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/backend"
	"rcptgate/table"
)

// Map is one of the MTA's maps of next hops.
type Map struct {
	table.Table
	// Addresses: the map has whole addresses too (transport(5)); mailertable has not.
	Addresses bool
}

// mapGroup is the maps that an MTA searches together: it looks for one key in all of
// them before it looks for the next key.
type mapGroup struct {
	tables    []table.Table
	addresses bool
	delimiter string
}

// groupMaps puts the maps of each MTA together: mailertable, then transport maps.
func groupMaps(maps []Map, delimiter string) (groups []mapGroup) {
	for _, addresses := range []bool{false, true} {
		g := mapGroup{addresses: addresses, delimiter: delimiter}
		for _, m := range maps {
			if m.Addresses == addresses {
				g.tables = append(g.tables, m.Table)
			}
		}
		if len(g.tables) > 0 {
			groups = append(groups, g)
		}
	}
	return groups
}

// mapValue gives what the maps say of a mailbox. The first group that has a key for it
// decides, whether or not its value names a server that may be asked.
func (r *Router) mapValue(to *rcptgate.Mailbox) (value string, found bool, err error) {
	for i := range r.maps {
		if value, found, err = r.maps[i].find(to); found || err != nil {
			return value, found, err
		}
	}
	return "", false, nil
}

// tableRoute gives the route that the maps name for the query's target, nil if they
// name none that may be asked: a mailer that speaks SMTP or LMTP to hosts in brackets,
// or LMTP to any host or unix socket, by the address, the domain or a suffix of it. The
// maps' entries for everything ("*", ".") are for strangers and no route. A map that
// could not be read is a route whose backends are an error.
func (r *Router) tableRoute(section int, origin Origin, q *rcptgate.Query) *Route {
	value, found, err := r.mapValue(&q.Target)
	switch {
	case err != nil:
		return &Route{Section: section, Origin: origin, router: r, err: fmt.Errorf("next hop: %w", err)}
	case !found:
		return nil
	}
	return r.valueRoute(section, origin, value)
}

// find looks a mailbox up as both MTAs do: the address, with and without its detail
// (Postfix), the domain, then its suffixes with their leading dot, the longest first.
func (g *mapGroup) find(to *rcptgate.Mailbox) (value string, found bool, err error) {
	if to.Domain == "" || isLiteral(to.Domain) {
		return "", false, nil
	}
	if g.addresses {
		if value, found, err = g.lookUp(to.Key(true)); found || err != nil {
			return value, found, err
		}
		if user, sep, _ := address.SplitDetail(to.Local, g.delimiter); sep != "" {
			if value, found, err = g.lookUp(strings.ToLower(user) + "@" + to.Domain); found || err != nil {
				return value, found, err
			}
		}
	}
	if value, found, err = g.lookUp(to.Domain); found || err != nil {
		return value, found, err
	}
	for rest := to.Domain; ; rest = rest[1:] {
		dot := strings.IndexByte(rest, '.')
		if dot < 0 {
			return "", false, nil
		}
		rest = rest[dot:]
		if value, found, err = g.lookUp(rest); found || err != nil {
			return value, found, err
		}
	}
}

// lookUp asks every map of the group for one key.
func (g *mapGroup) lookUp(key string) (value string, found bool, err error) {
	for _, t := range g.tables {
		// The tables are in memory: there is nothing to cancel.
		if value, found, err = t.Lookup(context.Background(), key); found || err != nil {
			return value, found, err
		}
	}
	return "", false, nil
}

// relayed gives the route of a domain that the MTA relays by its rules for all such domains,
// nil if it is none of them. Maps and what the MTA says of the recipient come first.
func (r *Router) relayed(section int, origin Origin, domain string) *Route {
	relay := &r.opt.Relay
	if relay.To == "" || domain == "" || isLiteral(domain) {
		return nil
	}
	own, err := relay.Own.Find(context.Background(), domain)
	if err == nil && !own.Any() {
		own, err = relay.Domains.Find(context.Background(), domain)
		if err == nil && own.Any() {
			return r.valueRoute(section, origin, relay.To)
		}
	}
	if err != nil {
		return &Route{Section: section, Origin: origin, router: r, err: fmt.Errorf("next hop: %w", err)}
	}
	return nil
}

// mapMailer marks the routes of maps among the remembered ones: no mailer has this name.
const mapMailer = "\x00map"

// valueRoute gives the route that a value names, nil if it names none.
func (r *Router) valueRoute(section int, origin Origin, value string) *Route {
	return r.remembered(hopKey{section, mapMailer, value}, origin, func() ([]backend.Address, bool) { return readValue(value) })
}

// splitValue splits "mailer:host" of mailertable or "transport:nexthop" of transport(5).
// Without a colon it is neither; an empty mailer is the MTA's default.
func splitValue(value string) (mailer, host string, ok bool) {
	mailer, host, ok = strings.Cut(value, ":")
	if !ok {
		return "", "", false
	}
	return strings.TrimSpace(mailer), strings.TrimSpace(host), true
}

// readValue reads the servers that a map's value names. A value with an argument (%1) would let the client choose whom to call.
func readValue(value string) ([]backend.Address, bool) {
	mailer, host, ok := splitValue(value)
	if !ok || strings.Contains(value, "%") {
		return nil, false
	}
	if protocol, known := backend.ProtocolOf(mailer); known && protocol == backend.LMTP && !bracketed(host) {
		// LMTP has no MX look-up: the host is the postmaster's own server.
		addr, err := backend.ParseAddress("lmtp:" + host)
		return []backend.Address{addr}, err == nil
	}
	return readNextHop(rcptgate.NextHop{Mailer: mailer, Host: host})
}
