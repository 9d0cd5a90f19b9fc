// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"sort"
	"sync"
	"time"

	"rcptgate/store"
)

const (
	// graveLife is how long a forget is remembered for probes that began before it.
	// No probe lives for more than minutes.
	graveLife = time.Hour
	// maxGraves bounds the addresses and, apart, the domains that are remembered.
	maxGraves = 10_000
)

// graves remembers what was forgotten a short while ago. Whoever writes to the
// tiers holds mu for reading from the question whether the key was forgotten until
// it is written; so every write lies wholly before or wholly after a forget.
type graves struct {
	mu        sync.RWMutex
	seq       uint64 // of the last forget
	addresses map[string]grave
	domains   map[string]grave
	all       grave
	open      map[store.Pattern]int // being forgotten at the moment, and how often
}

type grave struct {
	when time.Time
	seq  uint64
}

func newGraves() graves {
	return graves{addresses: map[string]grave{}, domains: map[string]grave{}, open: map[store.Pattern]int{}}
}

// begin remembers that p was forgotten at when, and that the places still have to. Until
// end, what they know of p's keys is not believed.
func (g *graves) begin(p store.Pattern, when time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open[p]++
	g.dig(p, when)
}

// end says that the places have forgotten.
func (g *graves) end(p store.Pattern) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open[p]--; g.open[p] <= 0 {
		delete(g.open, p)
	}
}

// look gives a mark for since, and whether what the places know of key may be believed.
func (g *graves) look(key string) (mark uint64, believed bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if len(g.open) == 0 {
		return g.seq, true
	}
	opened := g.open[store.Pattern{}] + g.open[store.Pattern{Address: key}] + g.open[store.Pattern{Domain: store.Domain(key)}]
	return g.seq, opened == 0
}

// add remembers that p was forgotten at when.
func (g *graves) add(p store.Pattern, when time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dig(p, when)
}

// dig is called with mu held.
func (g *graves) dig(p store.Pattern, when time.Time) {
	g.seq++
	dug := grave{when, g.seq}
	switch {
	case p.Address != "":
		g.addresses[p.Address] = dug
		g.bound(g.addresses, when)
	case p.Domain != "":
		g.domains[p.Domain] = dug
		g.bound(g.domains, when)
	default:
		g.all = dug
	}
}

// bound drops what is older than any probe. If there is still too much, the older
// half becomes one grave for everything: some answers more are not kept, none is
// kept wrongly.
func (g *graves) bound(m map[string]grave, now time.Time) {
	if len(m) <= maxGraves {
		return
	}
	for key, dug := range m {
		if now.Sub(dug.when) > graveLife {
			delete(m, key)
		}
	}
	if len(m) <= maxGraves {
		return
	}
	seqs := make([]uint64, 0, len(m))
	for _, dug := range m {
		seqs = append(seqs, dug.seq)
	}
	sort.Slice(seqs, func(i, j int) bool { return seqs[i] < seqs[j] })
	middle := seqs[len(seqs)/2]
	for key, dug := range m {
		if dug.seq > middle {
			continue
		}
		delete(m, key)
		if dug.seq > g.all.seq {
			g.all = dug
		}
	}
}

// since reports whether key was forgotten after the mark. The caller holds mu.
func (g *graves) since(key string, mark uint64) bool {
	if g.seq == mark {
		return false
	}
	return g.any(key, func(dug grave) bool { return dug.seq > mark })
}

// after reports whether key was forgotten after began. The caller holds mu.
func (g *graves) after(key string, began time.Time) bool {
	if g.seq == 0 {
		return false
	}
	return g.any(key, func(dug grave) bool { return began.Before(dug.when) })
}

func (g *graves) any(key string, is func(grave) bool) bool {
	if g.all.seq != 0 && is(g.all) {
		return true
	}
	if dug, ok := g.addresses[key]; ok && is(dug) {
		return true
	}
	dug, ok := g.domains[store.Domain(key)]
	return ok && is(dug)
}
