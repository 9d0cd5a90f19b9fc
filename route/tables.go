// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"rcptgate"
	"rcptgate/backend"
	"rcptgate/config/setting"
	"rcptgate/table"
)

// TablesConfig is the section [routes]: the MTA's own maps of next hops.
type TablesConfig struct {
	Mailertable   []table.Spec `toml:"mailertable" doc:"Sendmail's mailertable, for domains whose section names no servers or that have none; as with the MTA's own next hop, only hosts in brackets are asked" example:"[\"hash:/etc/mail/mailertable\"]"`
	TransportMaps []table.Spec `toml:"transport_maps" doc:"Postfix's transport_maps, in the same way" example:"[\"hash:/etc/postfix/transport\"]"`
}

// Validate reports settings that cannot be meant.
func (c TablesConfig) Validate() error {
	var errs []error
	for key, specs := range map[string][]table.Spec{"mailertable": c.Mailertable, "transport_maps": c.TransportMaps} {
		for _, s := range specs {
			if s.Type == table.Text {
				errs = append(errs, setting.Keyf(key, "%q: text: is the form of aliases; files of domains are written texthash:%s", s, s.Name))
			}
		}
	}
	return errors.Join(errs...)
}

// Map is one of the MTA's maps of next hops.
type Map struct {
	table.Table
	// Addresses: the map has whole addresses too (transport(5)); mailertable has not.
	Addresses bool
}

// tableRoute gives the route that the maps name for the query's target, nil if they
// name none that may be asked: a mailer that speaks SMTP or LMTP to hosts in brackets
// or to a unix socket, by the domain or by a suffix of it. The maps' entries for
// everything ("*", ".") are for strangers and no route. A map that could not be read
// is a route whose backends are an error.
func (r *Router) tableRoute(section int, origin Origin, q *rcptgate.Query) *Route {
	for i := range r.opt.Maps {
		m := &r.opt.Maps[i]
		value, found, err := m.find(&q.Target)
		if err != nil {
			return &Route{Section: section, Origin: origin, router: r, err: fmt.Errorf("next hop: %w", err)}
		}
		if !found {
			continue
		}
		if rt := r.valueRoute(section, origin, value); rt != nil {
			return rt
		}
	}
	return nil
}

// find looks a mailbox up as both MTAs do: the address, with and without its "+detail"
// (Postfix), the domain, then its suffixes with their leading dot, the longest first.
func (m *Map) find(to *rcptgate.Mailbox) (value string, found bool, err error) {
	ctx := context.Background() // tables are in memory
	if to.Domain == "" || to.Domain[0] == '[' {
		return "", false, nil
	}
	if m.Addresses {
		if value, found, err = m.Lookup(ctx, to.Key(true)); found || err != nil {
			return value, found, err
		}
		if plus := strings.IndexByte(to.Local, '+'); plus > 0 {
			if value, found, err = m.Lookup(ctx, strings.ToLower(to.Local[:plus])+"@"+to.Domain); found || err != nil {
				return value, found, err
			}
		}
	}
	if value, found, err = m.Lookup(ctx, to.Domain); found || err != nil {
		return value, found, err
	}
	for rest := to.Domain; ; rest = rest[1:] {
		dot := strings.IndexByte(rest, '.')
		if dot < 0 {
			return "", false, nil
		}
		rest = rest[dot:]
		if value, found, err = m.Lookup(ctx, rest); found || err != nil {
			return value, found, err
		}
	}
}

// mapMailer marks the routes of maps among the remembered ones: no mailer has this name.
const mapMailer = "\x00map"

// valueRoute gives the route that a value is, nil if it is none.
func (r *Router) valueRoute(section int, origin Origin, value string) *Route {
	return r.remembered(hopKey{section, mapMailer, value}, origin, func() ([]backend.Address, bool) { return readValue(value) })
}

// readValue reads "mailer:host" of mailertable or "transport:nexthop" of transport(5).
// A value with an argument (%1) would let the client choose whom to call.
func readValue(value string) ([]backend.Address, bool) {
	mailer, host, ok := strings.Cut(value, ":")
	if !ok || strings.Contains(value, "%") {
		return nil, false
	}
	mailer, host = strings.TrimSpace(mailer), strings.TrimSpace(host)
	if protocol, known := protocolOf(mailer); known && protocol == backend.LMTP {
		if strings.HasPrefix(host, "unix:/") {
			addr, err := backend.ParseAddress("lmtp:" + host)
			return []backend.Address{addr}, err == nil
		}
		host = strings.TrimPrefix(host, "inet:")
	}
	return readNextHop(rcptgate.NextHop{Mailer: mailer, Host: host})
}
