// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate/store"
)

// What is kept of tombstones. Beyond it the oldest half is forgotten coarsely: whole
// domains, then everything, which costs questions and never gives a wrong answer.
const (
	maxGraves      = 10_000
	maxGraveOctets = 512 << 10
	graveOverhead  = 32 // octets of a line beside the pattern
)

// set is a set of tombstones: by pattern the newest one's time in UNIX nanoseconds. It
// only grows: two sets are merged by taking the newer one of each pattern.
type set map[store.Pattern]int64

// covers reports whether everything that t at when forgets is forgotten by the set.
func (s set) covers(p store.Pattern, when int64) bool {
	if s[store.Pattern{}] >= when || s[p] >= when {
		return true
	}
	return p.Address != "" && s[store.Pattern{Domain: store.Domain(p.Address)}] >= when
}

// merge adds the tombstones of other that the set does not cover, takes out what is
// covered by others or older than oldest, and bounds what is left.
func (s set) merge(other set, oldest int64) {
	for p, when := range other {
		if !s.covers(p, when) {
			s[p] = when
		}
	}
	s.tidy(oldest)
	if !s.fits() {
		s.coarsen(func(p store.Pattern) (store.Pattern, bool) {
			return store.Pattern{Domain: store.Domain(p.Address)}, p.Address != ""
		})
	}
	if !s.fits() {
		s.coarsen(func(p store.Pattern) (store.Pattern, bool) { return store.Pattern{}, p != store.Pattern{} })
	}
}

func (s set) tidy(oldest int64) {
	for p, when := range s {
		delete(s, p)
		if when >= oldest && !s.covers(p, when) {
			s[p] = when
		}
	}
}

func (s set) fits() bool {
	octets := 0
	for p := range s {
		octets += len(p.Address) + len(p.Domain) + graveOverhead
	}
	return len(s) <= maxGraves && octets <= maxGraveOctets
}

// coarsen replaces the older half of those tombstones that wider knows something wider
// for.
func (s set) coarsen(wider func(store.Pattern) (store.Pattern, bool)) {
	var olds []store.Pattern
	for p := range s {
		if _, ok := wider(p); ok {
			olds = append(olds, p)
		}
	}
	slices.SortFunc(olds, func(a, b store.Pattern) int { return cmp.Compare(s[a], s[b]) })
	for _, p := range olds[:(len(olds)+1)/2] {
		to, _ := wider(p)
		s[to] = max(s[to], s[p])
		delete(s, p)
	}
	s.tidy(math.MinInt64)
}

// lacks reports whether the set does not cover all of other.
func (s set) lacks(other set) bool {
	for p, when := range other {
		if !s.covers(p, when) {
			return true
		}
	}
	return false
}

// graves are the tombstones that this gateway knows.
type graves struct {
	newest atomic.Int64 // of all tombstones ever known
	mu     sync.RWMutex
	set    set
	tidied int64 // what was older then is out
}

func newGraves() *graves { return &graves{set: set{}} }

// void reports whether what was written under key by somebody who knew of no tombstone
// after generation has been forgotten.
func (g *graves) void(key string, generation int64) bool {
	if generation >= g.newest.Load() {
		return false
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	after := generation + 1
	return g.set[store.Pattern{}] >= after || g.set[store.Pattern{Domain: store.Domain(key)}] >= after ||
		g.set[store.Pattern{Address: key}] >= after
}

// generation is the stamp of what is written under key: the newest tombstone known that
// matches it. A newer one that does not match says nothing of what the writer knew of
// the key. What is older than oldest nobody has to know any more.
func (g *graves) generation(key string, oldest int64) int64 {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return max(oldest, g.set[store.Pattern{}], g.set[store.Pattern{Domain: store.Domain(key)}], g.set[store.Pattern{Address: key}])
}

// add makes the tombstones known here.
func (g *graves) add(more set, oldest int64) {
	g.mu.RLock()
	known := !g.set.lacks(more) && oldest-g.tidied < int64(lapse)
	g.mu.RUnlock()
	if known {
		return // as in most rounds
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tidied = oldest
	g.set.merge(more, oldest)
	newest := g.newest.Load()
	for _, when := range more {
		newest = max(newest, when)
	}
	g.newest.Store(newest)
}

// after gives a time for a new tombstone, and nobody else the same.
func (g *graves) after(now time.Time) time.Time {
	return time.Unix(0, max(now.UnixNano(), g.newest.Load()+1))
}

// copy gives the set as it is now.
func (g *graves) copy() set {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return maps.Clone(g.set)
}

func (g *graves) len() int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.set)
}
