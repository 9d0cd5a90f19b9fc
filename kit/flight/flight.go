// SPDX-License-Identifier: BSD-2-Clause

// Package flight joins equal calls: a caller that asks for what is being found out already
// waits for the end of that call.
//
// It differs from golang.org/x/sync/singleflight in what a mail gateway needs. A call is
// detached from its callers, so that one that leaves early does not end it for the others.
// The number of calls in progress is bounded. A call can be forgotten by a pattern of
// keys: those who wait still hear its end, later askers begin anew. Keys are spread over
// shards, so that askers of different keys do not wait for each other.
package flight

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

const shardCount = 64

// Call is one call in progress. Its Value belongs to the caller that began it until
// End, and is only read afterwards: by those that wait, once Done is closed.
type Call[K comparable, V any] struct {
	Key   K
	Value V
	done  chan struct{}
}

// Done is closed when the call has ended.
func (c *Call[K, V]) Done() <-chan struct{} { return c.done }

// Group is the calls in progress. Make one with New; it is safe for concurrent use.
type Group[K comparable, V any] struct {
	limit  int64
	count  atomic.Int64
	seed   maphash.Seed
	shards [shardCount]shard[K, V]
}

type shard[K comparable, V any] struct {
	sync.Mutex
	calls map[K]*Call[K, V]
	_     [40]byte // shards do not share a cache line
}

// New makes a Group of at most limit calls at a time.
func New[K comparable, V any](limit int) *Group[K, V] {
	g := &Group[K, V]{limit: int64(limit), seed: maphash.MakeSeed()}
	for i := range g.shards {
		g.shards[i].calls = make(map[K]*Call[K, V])
	}
	return g
}

func (g *Group[K, V]) shard(k K) *shard[K, V] {
	return &g.shards[maphash.Comparable(g.seed, k)%shardCount]
}

// Join gives the call in progress under k. Without one it begins a call, which the caller
// must see to its end with End; isNew is then true. It gives nil when too many calls are
// in progress.
func (g *Group[K, V]) Join(k K) (c *Call[K, V], isNew bool) {
	s := g.shard(k)
	s.Lock()
	defer s.Unlock()
	if c = s.calls[k]; c != nil {
		return c, false
	}
	if g.count.Add(1) > g.limit {
		g.count.Add(-1)
		return nil, false
	}
	c = &Call[K, V]{Key: k, done: make(chan struct{})}
	s.calls[k] = c
	return c, true
}

// End ends a call that Join began, once. Its Value must be complete.
func (g *Group[K, V]) End(c *Call[K, V]) {
	s := g.shard(c.Key)
	s.Lock()
	if s.calls[c.Key] == c { // else it was forgotten, and another may have begun
		delete(s.calls, c.Key)
	}
	s.Unlock()
	g.count.Add(-1)
	close(c.done)
}

// Has reports whether a call that matches is in progress.
func (g *Group[K, V]) Has(matches func(K) bool) bool {
	for i := range g.shards {
		s := &g.shards[i]
		s.Lock()
		for k := range s.calls {
			if matches(k) {
				s.Unlock()
				return true
			}
		}
		s.Unlock()
	}
	return false
}

// Forget keeps later askers from joining the calls that match: what these find out may
// be older than what made the caller forget.
func (g *Group[K, V]) Forget(matches func(K) bool) {
	for i := range g.shards {
		s := &g.shards[i]
		s.Lock()
		for k := range s.calls {
			if matches(k) {
				delete(s.calls, k)
			}
		}
		s.Unlock()
	}
}

// Len is how many calls are in progress, forgotten ones included.
func (g *Group[K, V]) Len() int { return int(g.count.Load()) }
