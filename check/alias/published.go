// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate/store"
	"rcptgate/table"
	"rcptgate/table/aliases"
)

// How long a copy of what memcached said is used, and how much of it is kept.
const (
	foundLife  = time.Minute      // of a name that is published
	absentLife = 30 * time.Second // of one that is not
	shards     = 64
	maxFound   = 256 << 10 // octets of a shard: 16 MiB in all
	maxAbsent  = 64 << 10  // 4 MiB in all
	entrySize  = 128       // octets of an entry beside its name and value, about
	// patienceForNames is what one recipient may wait for names, all questions together,
	// where no budget of the whole answer is given.
	patienceForNames = 40 * time.Millisecond
)

// takenValue stands for a published name whose value is not shared. It is no alias
// that any MTA could hold, and counts as taken wherever it is met.
const takenValue = ":taken:"

// Names is the table of the names that other gateways publish. What memcached said
// is kept for a minute, of absent names for half a minute, within bounds, so that names
// in use cost no I/O; a name that was found is served until its own end while memcached
// cannot be asked. It is safe for concurrent use, and outlives configurations.
type Names struct {
	names  store.Names
	now    func() time.Time
	seed   maphash.Seed
	shards [shards]shard

	hits, misses, failures, evicted atomic.Uint64
}

// shard keeps the found apart from the absent: no flood of names that nobody has
// evicts those in use.
type shard struct {
	mu     sync.Mutex
	found  copies
	absent copies
}

type copies struct {
	entries map[string]copied
	octets  int
}

// copied is what memcached said of a name.
type copied struct {
	value  string
	fresh  time.Time // until then it is used without asking
	expire time.Time // until then it is used when nobody can be asked; zero for absent names
}

var _ table.Table = (*Names)(nil)

// NewPublished makes a table of names.
func NewPublished(names store.Names) *Names {
	p := &Names{names: names, now: time.Now, seed: maphash.MakeSeed()}
	for i := range p.shards {
		p.shards[i].found.entries = make(map[string]copied)
		p.shards[i].absent.entries = make(map[string]copied)
	}
	return p
}

// Lookup implements table.Table. Value is an alias's right-hand side with addresses and
// local names only, or counts as taken. An error says that memcached could not be asked;
// who decides about mail takes it as absence, which proves nothing either.
func (p *Names) Lookup(ctx context.Context, key string) (value string, found bool, err error) {
	value, _, found, err = p.Find(ctx, key, key, nil)
	return value, found, err
}

// Find looks for a key in lower case, then as it was written. If memcached must be asked,
// it is asked for further keys too, since they are likely to be looked up next.
func (p *Names) Find(ctx context.Context, folded, written string, further []string) (value, key string, found bool, err error) {
	value, key, found, known := p.recall(folded, written, false)
	if !known {
		if err = p.ask(ctx, folded, written, further); err != nil {
			p.failures.Add(1)
		}
		value, key, found, known = p.recall(folded, written, true)
	}
	switch {
	case found:
		p.hits.Add(1)
		return value, key, true, nil
	case known:
		p.misses.Add(1)
		return "", key, false, nil
	}
	if err == nil { // evicted at once
		err = store.ErrNotFound
	}
	return "", key, false, fmt.Errorf("published names: %w", err)
}

// recall looks for copies of both spellings. Known says that neither need be asked for.
func (p *Names) recall(folded, written string, stale bool) (value, key string, found, known bool) {
	value, found, known = p.copyOf(folded, stale)
	if found || written == folded || (!known && !stale) {
		return value, folded, found, known
	}
	value, found, too := p.copyOf(written, stale)
	return value, written, found, found || known && too
}

// copyOf looks for a copy. Known says that it need not be asked for; old copies of
// names that were found are known when stale is set.
func (p *Names) copyOf(key string, stale bool) (value string, found, known bool) {
	s, now := p.shard(key), p.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.found.entries[key]; ok && now.Before(c.expire) && (stale || now.Before(c.fresh)) {
		return c.value, true, true
	}
	if c, ok := s.absent.entries[key]; ok && now.Before(c.fresh) {
		return "", false, true
	}
	return "", false, false
}

// ask asks memcached for a key in both spellings, and for further ones, but for those
// that are known.
func (p *Names) ask(ctx context.Context, folded, written string, further []string) error {
	keys := make([]string, 0, 8)
	add := func(key string) {
		if _, _, known := p.copyOf(key, false); !known && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	add(folded)
	add(written)
	for _, key := range further {
		add(fold(key))
		add(key)
	}
	found, err := p.names.Find(ctx, keys)
	for _, k := range keys {
		if n, ok := found[k]; ok {
			p.keep(k, n)
		} else if err == nil {
			p.keepAbsent(k)
		}
	}
	return err
}

func (p *Names) keep(key string, n store.Name) {
	value := n.Value
	if !Shareable(value) { // a stranger may have written it
		value = takenValue
	}
	s, now := p.shard(key), p.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.absent.remove(key)
	p.evicted.Add(s.found.add(key, copied{value, now.Add(foundLife), n.Expire}, maxFound))
}

func (p *Names) keepAbsent(key string) {
	s, now := p.shard(key), p.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.found.remove(key)
	p.evicted.Add(s.absent.add(key, copied{fresh: now.Add(absentLife)}, maxAbsent))
}

func (p *Names) shard(key string) *shard {
	return &p.shards[maphash.String(p.seed, key)%shards]
}

// add keeps a copy, and says how many others, which ones is chance, gave way to it.
func (c *copies) add(key string, e copied, most int) (evicted uint64) {
	c.remove(key)
	need := len(key) + len(e.value) + entrySize
	for other := range c.entries {
		if c.octets+need <= most {
			break
		}
		c.remove(other)
		evicted++
	}
	c.entries[key] = e
	c.octets += need
	return evicted
}

func (c *copies) remove(key string) {
	if e, ok := c.entries[key]; ok {
		c.octets -= len(key) + len(e.value) + entrySize
		delete(c.entries, key)
	}
}

// Stats describes the copies in RAM: entries are names found.
func (p *Names) Stats() store.Stats {
	st := store.Stats{Name: "names", Hits: p.hits.Load(), Misses: p.misses.Load(), Errors: p.failures.Load(), Evicted: p.evicted.Load()}
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		st.Entries += int64(len(s.found.entries))
		s.mu.Unlock()
	}
	return st
}

// Shareable reports whether other gateways can follow the value of an alias as this one
// would: it has addresses and local names only. Files, programs and lists are this
// machine's own, and whoever has such a target takes mail in any case.
func Shareable(value string) bool {
	if value == "" || len(value) > store.MaxNameValue {
		return false
	}
	targets, err := aliases.Parse(value)
	if err != nil {
		return false
	}
	for i := range targets {
		if k := targets[i].Kind; k != aliases.Address && k != aliases.Local && k != aliases.Escaped {
			return false
		}
	}
	return true
}
