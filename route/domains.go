// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"errors"
	"fmt"
	"strings"

	"rcptgate/address"
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
	name, err := sectionName(c.Name)
	if err != nil {
		return nil, setting.Keyf(fmt.Sprintf("domain[%d].name", index+1), "%q: %w", c.Name, err)
	}
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

// sectionName checks a section's name and gives its canonical form.
func sectionName(name string) (string, error) {
	const allowed = `"example.com", ".example.com" (everything below it) or "*" is allowed`
	switch {
	case name == "*":
		return name, nil
	case name == "":
		return "", errors.New("missing: " + allowed)
	case strings.HasPrefix(name, "*."):
		return "", fmt.Errorf("no pattern: did you mean %q? (%s)", name[1:], allowed)
	case strings.Contains(name, "@"):
		return "", errors.New("an address, not a domain: " + allowed)
	}
	dot := ""
	bare := name
	if strings.HasPrefix(name, ".") {
		dot, bare = ".", name[1:]
	}
	domain := address.Domain(bare)
	literal := dot == "" && strings.HasPrefix(domain, "[") && strings.HasSuffix(domain, "]")
	if !literal && !isDomain(domain) {
		return "", errors.New("no domain: " + allowed)
	}
	return dot + domain, nil
}

// isDomain reports whether s looks like a domain in A-labels. Underscores occur.
func isDomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// find gives the most specific section for a domain: the domain itself, then the
// longest suffix, then "*". It does not allocate.
func (r *Router) find(domain string) *section {
	if domain == "" {
		return nil
	}
	if s := r.exact[domain]; s != nil {
		return s
	}
	if len(r.below) > 0 && domain[0] != '[' {
		for rest := domain; ; {
			dot := strings.IndexByte(rest, '.')
			if dot < 0 {
				break
			}
			rest = rest[dot+1:]
			if s := r.below[rest]; s != nil {
				return s
			}
		}
	}
	return r.star
}
