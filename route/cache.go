// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"errors"
	"hash/maphash"
	"sync"
	"time"
)

// Answers of DNS that are kept.
const (
	cacheShards   = 16
	cachePerShard = 625
)

// cache keeps what DNS said, by name. It is bounded and safe for concurrent use.
type cache[V any] struct {
	seed   maphash.Seed
	shards [cacheShards]struct {
		sync.RWMutex
		entries map[string]cached[V]
	}
}

type cached[V any] struct {
	value V // still the last good one when err is set
	err   error
	until time.Time // asked again from here on
	good  time.Time // when value was said
}

func newCache[V any]() *cache[V] {
	c := &cache[V]{seed: maphash.MakeSeed()}
	for i := range c.shards {
		c.shards[i].entries = make(map[string]cached[V])
	}
	return c
}

// get gives what is remembered, and whether it need not be asked again yet.
func (c *cache[V]) get(name string) (e cached[V], fresh bool) {
	s := &c.shards[maphash.String(c.seed, name)%cacheShards]
	s.RLock()
	defer s.RUnlock()
	e, ok := s.entries[name]
	return e, ok && time.Now().Before(e.until)
}

// put remembers an answer or a failure for ttl. While DNS cannot be asked, what it
// said last goes on serving, for a day; what DNS itself takes back does not.
func (c *cache[V]) put(name string, value V, err error, ttl time.Duration) {
	now := time.Now()
	e := cached[V]{value: value, err: err, until: now.Add(ttl), good: now}
	s := &c.shards[maphash.String(c.seed, name)%cacheShards]
	s.Lock()
	defer s.Unlock()
	if old, ok := s.entries[name]; ok && err != nil && !errors.As(err, &permanent{}) && now.Sub(old.good) < staleFor && old.err == nil {
		e = cached[V]{value: old.value, until: now.Add(failureTTL), good: old.good}
	} else if err != nil {
		e.until = now.Add(failureTTL)
	}
	if len(s.entries) >= cachePerShard {
		makeRoom(s.entries, now)
	}
	s.entries[name] = e
}

// makeRoom drops what has ended, or else any one entry.
func makeRoom[V any](entries map[string]cached[V], now time.Time) {
	victim := ""
	for name, e := range entries {
		if now.After(e.until) {
			delete(entries, name)
		}
		victim = name
	}
	if len(entries) >= cachePerShard {
		delete(entries, victim)
	}
}
