// SPDX-License-Identifier: BSD-2-Clause

package keep

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate/kit/recent"
)

// Bounds.
const (
	NamesMax   = 100        // counters and memories, together
	EntriesMax = 10_000_000 // of one
	KeyMax     = 1024       // octets of a key
	ValueMax   = 4096       // octets of a value
	shards     = 16
)

// Shared is memory that gateways share: a *memcached.Client.
type Shared interface {
	Key(plain, hashed, name string) string
	Get(ctx context.Context, key string) (value []byte, from string, err error)
	Set(ctx context.Context, key string, value []byte, expire time.Time) error
	Delete(ctx context.Context, key string) error
}

// Options say where memories can be kept.
type Options struct {
	Dir    string // of the file; "" keeps nothing on disk
	Shared Shared // nil: nothing is shared
	Log    *slog.Logger
}

// Keep has the counters and memories of all configurations. Close it.
type Keep struct {
	opt  Options
	seed maphash.Seed

	mu       sync.Mutex
	counters map[string]*Counter
	memories map[string]*Memory
	disk     *disk // nil until a memory is kept
}

// New makes an empty Keep. It opens no file yet.
func New(opt Options) *Keep {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	return &Keep{opt: opt, seed: maphash.MakeSeed(), counters: make(map[string]*Counter), memories: make(map[string]*Memory)}
}

// Close writes what is pending.
func (k *Keep) Close() error {
	k.mu.Lock()
	d := k.disk
	k.disk = nil
	k.mu.Unlock()
	if d == nil {
		return nil
	}
	return d.close()
}

var errNames = fmt.Errorf("more than %d counters and memories", NamesMax)

// sharded is a bounded map in shards, so that those who use it seldom wait for each other.
type sharded[V any] struct {
	seed  maphash.Seed
	parts [shards]*recent.Map[string, V]
}

func newSharded[V any](seed maphash.Seed, entries int) *sharded[V] {
	s := &sharded[V]{seed: seed}
	for i := range s.parts {
		s.parts[i] = recent.New[string, V](max(entries/shards, 2))
	}
	return s
}

func (s *sharded[V]) of(key string) *recent.Map[string, V] {
	return s.parts[maphash.String(s.seed, key)%shards]
}

func (s *sharded[V]) len() (n int) {
	for _, p := range s.parts {
		n += p.Len()
	}
	return n
}

// Counter counts by key over a window of time. It is safe for concurrent use.
type Counter struct {
	half    time.Duration
	entries int
	all     *sharded[bucket]
	origin  time.Time
}

// bucket is what was counted in the half of the window that is running, and in the one
// before.
type bucket struct {
	half      int64
	now, last int64
}

// Counter gives the counter of a name. One with another window or size begins anew.
func (k *Keep) Counter(name string, window time.Duration, entries int) (*Counter, error) {
	switch {
	case name == "" || len(name) > 64:
		return nil, errors.New("a name has 1 to 64 octets")
	case window < 2*time.Second || window > 366*24*time.Hour:
		return nil, errors.New("a window is 2s to 366d long")
	case entries < 1 || entries > EntriesMax:
		return nil, fmt.Errorf("1 to %d keys are allowed", EntriesMax)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if c := k.counters[name]; c != nil && c.half == window/2 && c.entries == entries {
		return c, nil
	}
	if len(k.counters)+len(k.memories) >= NamesMax && k.counters[name] == nil {
		return nil, errNames
	}
	c := &Counter{half: window / 2, entries: entries, all: newSharded[bucket](k.seed, entries), origin: time.Unix(0, 0)}
	k.counters[name] = c
	return c, nil
}

// Add counts n more under a key, and gives the sum in the window: of the running half and
// the one before. n may be 0.
func (c *Counter) Add(key string, n int64, at time.Time) (sum int64) {
	half := int64(at.Sub(c.origin) / c.half)
	c.all.of(key).Update(key, func(b bucket) bucket {
		b = b.at(half)
		b.now += n
		if b.now < 0 {
			b.now = 0
		}
		sum = b.now + b.last
		return b
	})
	return sum
}

// Get gives the sum under a key without counting.
func (c *Counter) Get(key string, at time.Time) int64 {
	b := c.all.of(key).Get(key).at(int64(at.Sub(c.origin) / c.half))
	return b.now + b.last
}

// Reset forgets a key.
func (c *Counter) Reset(key string) { c.all.of(key).Remove(key) }

// at is the bucket as it is in a later half.
func (b bucket) at(half int64) bucket {
	switch {
	case half <= b.half:
		return b
	case half == b.half+1:
		return bucket{half: half, last: b.now}
	}
	return bucket{half: half}
}

// Stat is what is known of a counter or a memory.
type Stat struct {
	Kind, Name   string
	Entries, Max int
	Where        string
	Failed       uint64 // questions to the servers that gateways share
}

// Stats lists counters and memories.
func (k *Keep) Stats() (list []Stat) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, c := range k.counters {
		list = append(list, Stat{"counter", name, c.all.len(), c.entries, "ram", 0})
	}
	for name, m := range k.memories {
		where := "ram"
		if m.disk != nil {
			where += ", disk"
		}
		if m.opt.Shared && k.opt.Shared != nil {
			where += ", memcached"
		}
		list = append(list, Stat{"memory", name, m.all.len(), m.opt.Entries, where, m.failed.Load()})
	}
	return list
}

// MemoryOptions say how a memory remembers.
type MemoryOptions struct {
	Expire  time.Duration // the life of an entry
	Entries int
	Disk    bool // keep it over restarts
	Shared  bool // share it with other gateways
}

// Memory remembers values by key. It is safe for concurrent use.
type Memory struct {
	name   string
	opt    MemoryOptions
	all    *sharded[item]
	shared Shared
	disk   *disk
	failed atomic.Uint64
}

// item is a value and when it ends; seen is when a shared one was last compared with what
// the other gateways know.
type item struct {
	value   string
	expires time.Time
	seen    time.Time
	absent  bool
}

// Memory gives the memory of a name. One with other options begins anew, but on disk.
func (k *Keep) Memory(name string, opt MemoryOptions) (*Memory, error) {
	switch {
	case name == "" || len(name) > 64:
		return nil, errors.New("a name has 1 to 64 octets")
	case opt.Expire < time.Second || opt.Expire > 3660*24*time.Hour:
		return nil, errors.New("entries live for 1s to 3660d")
	case opt.Entries < 1 || opt.Entries > EntriesMax:
		return nil, fmt.Errorf("1 to %d entries are allowed", EntriesMax)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if m := k.memories[name]; m != nil && m.opt == opt {
		return m, nil
	}
	if len(k.counters)+len(k.memories) >= NamesMax && k.memories[name] == nil {
		return nil, errNames
	}
	m := &Memory{name: name, opt: opt, all: newSharded[item](k.seed, opt.Entries)}
	if opt.Shared {
		m.shared = k.opt.Shared
	}
	if opt.Disk && k.opt.Dir != "" {
		if k.disk == nil {
			k.disk = openDisk(k.opt.Dir, k.opt.Log)
		}
		m.disk = k.disk
		k.disk.load(name, opt.Entries, func(key, value string, expires time.Time) {
			m.all.of(key).Update(key, func(item) item { return item{value: value, expires: expires} })
		})
	}
	k.memories[name] = m
	return m, nil
}

// freshFor is how long a gateway believes its own copy of what is shared.
const freshFor = 30 * time.Second

// sharedKey is the name of an entry on the servers that gateways share.
func (m *Memory) sharedKey(key string) string { return m.shared.Key("s", "sh", m.name+"\x00"+key) }

// Get gives the value under a key. What gateways share is asked for at most once in 30 s for
// each key, and a server that does not answer costs only what it knows.
func (m *Memory) Get(ctx context.Context, key string, now time.Time) (string, bool) {
	i := m.all.of(key).Get(key)
	known := !i.absent && i.expires.After(now)
	if m.shared == nil || now.Sub(i.seen) < freshFor {
		return i.value, known
	}
	raw, _, err := m.shared.Get(ctx, m.sharedKey(key))
	value, expires, ok := decode(raw)
	switch {
	case err == nil && ok && expires.After(now):
		m.keep(key, item{value: value, expires: expires, seen: now})
		return value, true
	case err != nil && !isNotFound(err):
		m.failed.Add(1)
		return i.value, known
	}
	if known { // the servers have lost it, or another gateway has deleted it
		m.keep(key, item{absent: true, seen: now})
		return "", false
	}
	m.keep(key, item{absent: true, seen: now})
	return "", false
}

func (m *Memory) keep(key string, i item) { m.all.of(key).Update(key, func(item) item { return i }) }

// Set remembers a value for a life, 0 for the memory's own.
func (m *Memory) Set(ctx context.Context, key, value string, life time.Duration, now time.Time) {
	if life <= 0 {
		life = m.opt.Expire
	}
	i := item{value: value, expires: now.Add(life), seen: now}
	m.keep(key, i)
	if m.disk != nil {
		m.disk.put(m.name, key, value, i.expires)
	}
	if m.shared != nil {
		if err := m.shared.Set(ctx, m.sharedKey(key), encode(value, i.expires), i.expires); err != nil {
			m.failed.Add(1)
		}
	}
}

// Delete forgets a key.
func (m *Memory) Delete(ctx context.Context, key string, now time.Time) {
	m.keep(key, item{absent: true, seen: now})
	if m.disk != nil {
		m.disk.put(m.name, key, "", time.Time{})
	}
	if m.shared != nil {
		if err := m.shared.Delete(ctx, m.sharedKey(key)); err != nil {
			m.failed.Add(1)
		}
	}
}
