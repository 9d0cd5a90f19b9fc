// SPDX-License-Identifier: BSD-2-Clause

package store

import (
	"cmp"
	"math"
	"slices"
)

// What a set of tombstones holds at most. Beyond it the older half is replaced by
// something coarser: addresses by their domains, then domains by everything. That costs
// questions and never gives a wrong answer.
const (
	MaxTombstones      = 10_000
	maxTombstoneOctets = 512 << 10
	tombstoneOverhead  = 32 // octets of a tombstone next to its pattern
	boundEvery         = 64 // Add looks at the bound this often
)

// Tombstones is a bounded set of forgets: for each pattern the time of the newest, in
// nanoseconds of one clock, 0 being never. A set only grows, so that sets of several
// gateways can be merged in any order. It is not safe for concurrent use.
type Tombstones map[Pattern]int64

// Newest gives the time of the newest tombstone that matches key.
func (s Tombstones) Newest(key string) int64 {
	return max(s[Pattern{}], s[Pattern{Domain: Domain(key)}], s[Pattern{Address: key}])
}

// Covers reports whether everything that a forget of p at when is about has been forgotten
// at when or later.
func (s Tombstones) Covers(p Pattern, when int64) bool {
	if s[Pattern{}] >= when || s[p] >= when {
		return true
	}
	return p.Address != "" && s[Pattern{Domain: Domain(p.Address)}] >= when
}

// Add adds one tombstone.
func (s Tombstones) Add(p Pattern, when int64) {
	if s.Covers(p, when) {
		return
	}
	s[p] = when
	if len(s)%boundEvery == 0 {
		s.bound()
	}
}

// Merge adds the tombstones of other, and takes out what others cover or what is older
// than oldest.
func (s Tombstones) Merge(other Tombstones, oldest int64) {
	for p, when := range other {
		if !s.Covers(p, when) {
			s[p] = when
		}
	}
	s.tidy(oldest)
	s.bound()
}

// Lacks reports whether the set does not cover all of other.
func (s Tombstones) Lacks(other Tombstones) bool {
	for p, when := range other {
		if !s.Covers(p, when) {
			return true
		}
	}
	return false
}

func (s Tombstones) tidy(oldest int64) {
	for p, when := range s {
		delete(s, p)
		if when >= oldest && !s.Covers(p, when) {
			s[p] = when
		}
	}
}

func (s Tombstones) bound() {
	if !s.fits() {
		s.coarsen(func(p Pattern) (Pattern, bool) { return Pattern{Domain: Domain(p.Address)}, p.Address != "" })
	}
	if !s.fits() {
		s.coarsen(func(p Pattern) (Pattern, bool) { return Pattern{}, p != Pattern{} })
	}
}

func (s Tombstones) fits() bool {
	if len(s) > MaxTombstones {
		return false
	}
	octets := 0
	for p := range s {
		octets += len(p.Address) + len(p.Domain) + tombstoneOverhead
	}
	return octets <= maxTombstoneOctets
}

// coarsen replaces the older half of those tombstones that wider knows something wider
// for.
func (s Tombstones) coarsen(wider func(Pattern) (Pattern, bool)) {
	var olds []Pattern
	for p := range s {
		if _, ok := wider(p); ok {
			olds = append(olds, p)
		}
	}
	slices.SortFunc(olds, func(a, b Pattern) int { return cmp.Compare(s[a], s[b]) })
	for _, p := range olds[:(len(olds)+1)/2] {
		to, _ := wider(p)
		s[to] = max(s[to], s[p])
		delete(s, p)
	}
	s.tidy(math.MinInt64)
}
