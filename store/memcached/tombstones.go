// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate/store"
)

// tombstones are those that this gateway knows: by pattern the newest one's time in UNIX
// nanoseconds.
type tombstones struct {
	newest atomic.Int64 // of all that were ever known
	mu     sync.RWMutex
	set    store.Tombstones
	by     map[int64]string // which gateway gave the one of that time, where known
	tidied int64            // what was older then is out
}

func newTombstones() *tombstones {
	return &tombstones{set: store.Tombstones{}, by: map[int64]string{}}
}

// void reports whether what was written under key by a gateway that knew of no tombstone
// after generation has been forgotten.
func (t *tombstones) void(key string, generation int64) bool {
	if generation >= t.newest.Load() {
		return false
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.set.Newest(key) > generation
}

// generation is the stamp of what is written under key: the newest tombstone known that
// matches it. A newer one that does not match says nothing of what the writer knew of
// the key. What is older than oldest is of no use any more.
func (t *tombstones) generation(key string, oldest int64) int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return max(oldest, t.set.Newest(key))
}

// add makes one tombstone of this gateway known.
func (t *tombstones) add(p store.Pattern, when int64, by string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set.Add(p, when)
	if by != "" {
		t.by[when] = by
	}
	t.newest.Store(max(t.newest.Load(), when))
}

// merge makes those of a list known.
func (t *tombstones) merge(more store.Tombstones, by map[int64]string, oldest int64) {
	t.mu.RLock()
	known := !t.set.Lacks(more) && oldest-t.tidied < int64(lapse)
	t.mu.RUnlock()
	if known {
		return // as in most rounds
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tidied = oldest
	t.set.Merge(more, oldest)
	newest := t.newest.Load()
	for _, when := range more {
		newest = max(newest, when)
	}
	t.newest.Store(newest)
	maps.Copy(t.by, by)
	times := make(map[int64]bool, len(t.set))
	for _, when := range t.set {
		times[when] = true
	}
	maps.DeleteFunc(t.by, func(when int64, _ string) bool { return !times[when] })
}

// redate gives tombstones that lie after latest the time now. They are this gateway's own,
// of a time when its clock was wrong: others ignore them, and everything that it forgets
// later would lie after them.
func (t *tombstones) redate(latest, now int64) {
	if t.newest.Load() <= latest {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	newest := now
	for p, when := range t.set {
		if when > latest {
			t.set[p] = now
		} else {
			newest = max(newest, when)
		}
	}
	t.newest.Store(newest)
}

// after gives a time for a new tombstone, and no other the same.
func (t *tombstones) after(now time.Time) time.Time {
	return time.Unix(0, max(now.UnixNano(), t.newest.Load()+1))
}

// copy gives the set, and the gateways that gave the orders, as they are now.
func (t *tombstones) copy() (store.Tombstones, map[int64]string) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return maps.Clone(t.set), maps.Clone(t.by)
}

func (t *tombstones) len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.set)
}
