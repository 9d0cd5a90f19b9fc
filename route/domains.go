// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"fmt"

	"rcptgate/backend"
	"rcptgate/config/setting"
)

// maxBackends bounds the list of one section: each is waited for in turn, and a
// query has seconds.
const maxBackends = 16

// section is one [[domain]] section, read.
type section struct {
	index   int
	name    string // canonical: "example.com", ".example.com", "*"
	check   bool
	enforce bool
	route   *Route // to its own backends; nil: it uses the MTA's next hop
}

// readSection turns the index-th section into one, or says what is wrong with it.
func (r *Router) readSection(index int, c DomainConfig) (*section, error) {
	name := r.sections.names[index]
	s := &section{index: index, name: name, check: c.Check == nil || *c.Check, enforce: c.Enforce == nil || *c.Enforce}
	hops, err := readBackends(name, c.Backend)
	if err != nil {
		return nil, setting.Keyf(fmt.Sprintf("domain[%d].backend", index+1), "(name = %q) %w", c.Name, err)
	}
	if len(hops) > 0 || !s.check {
		s.route = r.newRoute(index, Configured, hops)
		s.route.Unchecked = !s.check
	}
	return s, nil
}

func readBackends(name string, list []string) ([]backend.Address, error) {
	if len(list) > maxBackends {
		return nil, fmt.Errorf("%d servers are listed: at most %d are allowed", len(list), maxBackends)
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
			return nil, fmt.Errorf("server %d of %d: %q is not allowed for \"*\": it would call the mail servers of strangers; name the domains", i+1, len(list), text)
		}
		seen[addr.String()] = true
		hops = append(hops, addr)
	}
	return hops, nil
}
