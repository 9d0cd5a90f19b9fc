// SPDX-License-Identifier: BSD-2-Clause

package store

import "strings"

// Pattern selects keys: everything, a domain ("@example.com"), or one address.
// The zero Pattern matches every key.
type Pattern struct {
	Domain  string // canonical
	Address string // canonical key
}

// Matches reports whether the pattern selects key. Findings belong to their domain.
func (p Pattern) Matches(key string) bool {
	switch {
	case p.Address != "":
		return key == p.Address
	case p.Domain != "":
		return Domain(key) == p.Domain
	}
	return true
}

// String writes the pattern as a user would.
func (p Pattern) String() string {
	switch {
	case p.Address != "":
		return p.Address
	case p.Domain != "":
		return "@" + p.Domain
	}
	return "everything"
}

// Domain gives the domain that a key belongs to: its own, or that of the finding.
func Domain(key string) string {
	if strings.HasPrefix(key, "@") {
		domain, _, _ := strings.Cut(key[1:], " ")
		return domain
	}
	return key[strings.LastIndexByte(key, '@')+1:]
}
