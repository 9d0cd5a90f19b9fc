// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"errors"
	"fmt"
	"strings"

	"rcptgate/backend"
	"rcptgate/config/setting"
	"rcptgate/kit/term"
)

// Bounds of one section's lists.
const (
	maxBackends = 16 // each is waited for in turn, and a query has seconds
	maxMailers  = 16
)

// section is one [[domain]] section, read.
type section struct {
	index     int
	name      string   // canonical: "example.com", ".example.com", "*"
	enforce   *bool    // nil: as the gate does
	mailers   []string // asked about although the MTA delivers with these itself
	route     *Route   // to its own backends; nil: it uses the MTA's next hop
	delivered *Route   // for recipients that the MTA delivers itself; nil with check = false
}

// asksMailer reports whether the section's servers know the recipients of a mailer.
func (s *section) asksMailer(mailer string) bool {
	for _, m := range s.mailers {
		if m == "*" || strings.EqualFold(m, mailer) {
			return true
		}
	}
	return false
}

// readSection turns the index-th section into one, or says what is wrong with it.
func (r *Router) readSection(index int, c DomainConfig) (*section, error) {
	s := &section{index: index, name: r.sections.names[index], enforce: c.Enforce, mailers: c.Mailers}
	hops, err := readBackends(s.name, c.Backend)
	if err != nil {
		return nil, setting.Keyf(fmt.Sprintf("domain[%d].backend", index+1), "(name = %q) %w", c.Name, err)
	}
	if err := checkMailers(c); err != nil {
		return nil, setting.Keyf(fmt.Sprintf("domain[%d].mailers", index+1), "(name = %q) %w", c.Name, err)
	}
	switch {
	case c.Check != nil && !*c.Check:
		s.route = r.newRoute(index, Configured, hops)
		s.route.Unchecked, s.route.Why = true, "the domain has check = false"
	case len(hops) > 0:
		s.route = r.newRoute(index, Configured, hops)
		s.delivered = &Route{Section: index, Origin: Configured, Unchecked: true, Delivered: true, Why: "the MTA delivers it itself", router: r}
	}
	return s, nil
}

func checkMailers(c DomainConfig) error {
	switch {
	case len(c.Mailers) > maxMailers:
		return fmt.Errorf("%s are listed; at most %d are allowed", term.Count(len(c.Mailers), "mailer"), maxMailers)
	case len(c.Mailers) > 0 && len(c.Backend) == 0:
		return errors.New("there are no servers to ask: the section has no backend")
	}
	for _, m := range c.Mailers {
		if m == "" || strings.ContainsFunc(m, func(r rune) bool { return r <= ' ' || r == ':' || r > '~' }) {
			return fmt.Errorf("%q is not the name of a transport or mailer; expected for instance \"local\", or \"*\" for every one", m)
		}
	}
	return nil
}

func readBackends(name string, list []string) ([]backend.Address, error) {
	if len(list) > maxBackends {
		return nil, fmt.Errorf("%s are listed; at most %d are allowed", term.Count(len(list), "server"), maxBackends)
	}
	var hops []backend.Address
	seen := make(map[string]bool)
	for i, text := range list {
		addr, err := backend.ParseAddress(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("server %d of %d: %w", i+1, len(list), err)
		case seen[addr.String()]:
			return nil, fmt.Errorf("server %d of %d: %q is listed twice", i+1, len(list), text)
		case name == "*" && addr.IsMX && addr.Host == "":
			return nil, fmt.Errorf("server %d of %d: %q is not allowed for \"*\": it would call the mail servers of strangers; write the domains down", i+1, len(list), text)
		}
		seen[addr.String()] = true
		hops = append(hops, addr)
	}
	return hops, nil
}
