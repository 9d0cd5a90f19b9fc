// SPDX-License-Identifier: BSD-2-Clause

package store

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
		return Spelling(p.Address)
	case p.Domain != "":
		return "@" + p.Domain
	}
	return "everything"
}
