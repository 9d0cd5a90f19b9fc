// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"sync"
	"time"

	"rcptgate/store"
)

// forgets remembers what was forgotten a short while ago, for probes and look-ups that
// began before. A writer of the tiers holds mu for reading from the question whether
// the key was forgotten until it is written, so that every write lies wholly before or
// wholly after a forget.
type forgets struct {
	start time.Time // times are nanoseconds since
	mu    sync.RWMutex
	last  int64 // the time of the last forget
	set   store.Tombstones
	open  map[store.Pattern]int // what places are still to forget, and how often
}

func newForgets(start time.Time) forgets {
	return forgets{start: start, set: store.Tombstones{}, open: map[store.Pattern]int{}}
}

// begin remembers that p was forgotten at when, and that the places still have to. Until
// end, what they know of p's keys is not believed.
func (f *forgets) begin(p store.Pattern, when time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open[p]++
	f.last = max(f.last+1, int64(when.Sub(f.start)))
	f.set.Add(p, f.last)
}

// end says that the places have forgotten.
func (f *forgets) end(p store.Pattern) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open[p]--; f.open[p] <= 0 {
		delete(f.open, p)
	}
}

// look gives a mark for since, and whether what the places know of key may be believed.
func (f *forgets) look(key string) (mark int64, believed bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if len(f.open) == 0 {
		return f.last, true
	}
	opened := f.open[store.Pattern{}] + f.open[store.Pattern{Address: key}] + f.open[store.Pattern{Domain: store.Domain(key)}]
	return f.last, opened == 0
}

// since reports whether key was forgotten after the mark. The caller holds mu.
func (f *forgets) since(key string, mark int64) bool {
	return f.last != mark && f.set.Newest(key) > mark
}

// after reports whether key was forgotten after began. The caller holds mu.
func (f *forgets) after(key string, began time.Time) bool {
	return f.last != 0 && f.set.Newest(key) > int64(began.Sub(f.start))
}
