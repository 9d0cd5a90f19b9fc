// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"errors"
	"hash/maphash"
	"time"

	"rcptgate/kit/recent"
)

// Answers of DNS that are kept.
const (
	cacheShards   = 16
	cachePerShard = 625
)

// cache keeps what DNS said, by name. It is bounded and safe for concurrent use. It is
// in shards because every question looks at it that has a route by name.
type cache[V any] struct {
	seed   maphash.Seed
	shards [cacheShards]*recent.Map[string, cached[V]]
}

// cached is one answer; the zero cached is none.
type cached[V any] struct {
	value V // still the last good one when err is set
	err   error
	until time.Time // asked again from here on
	good  time.Time // when DNS said value
}

// known reports whether it is an answer or a failure.
func (e *cached[V]) known() bool { return !e.until.IsZero() }

// fresh reports whether DNS need not be asked again yet.
func (e *cached[V]) fresh() bool { return time.Now().Before(e.until) }

// stale reports whether the value may still serve while DNS does not answer.
func (e *cached[V]) stale(now time.Time) bool {
	return e.err == nil && !e.good.IsZero() && now.Sub(e.good) < staleFor
}

func newCache[V any]() *cache[V] {
	c := &cache[V]{seed: maphash.MakeSeed()}
	for i := range c.shards {
		c.shards[i] = recent.New[string, cached[V]](cachePerShard)
	}
	return c
}

func (c *cache[V]) shard(name string) *recent.Map[string, cached[V]] {
	return c.shards[maphash.String(c.seed, name)%cacheShards]
}

// get gives what is remembered.
func (c *cache[V]) get(name string) cached[V] { return c.shard(name).Get(name) }

// put remembers an answer or a failure for ttl. While DNS cannot be asked, what it said
// last goes on serving, for a day; an answer that takes it back ends that.
func (c *cache[V]) put(name string, value V, err error, ttl time.Duration) {
	now := time.Now()
	c.shard(name).Update(name, func(old cached[V]) cached[V] {
		switch {
		case err == nil:
			return cached[V]{value: value, until: now.Add(ttl), good: now}
		case !errors.As(err, &permanent{}) && old.stale(now):
			return cached[V]{value: old.value, until: now.Add(failureTTL), good: old.good}
		}
		return cached[V]{value: value, err: err, until: now.Add(failureTTL), good: now}
	})
}
