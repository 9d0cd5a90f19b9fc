// SPDX-License-Identifier: BSD-2-Clause

package room

import (
	"hash/maphash"
	"strings"
	"sync"
)

// Table keeps entries by mailbox: bounded, without a lock that all share. Where it is full,
// a mailbox that was not asked about since the last round makes room (the clock algorithm).
// An entry and its key take about 120 octets. Make one with NewTable; it is safe for
// concurrent use.
type Table struct {
	seed   maphash.Seed
	limit  int // of a shard
	shards []shard
}

const (
	shardCount = 256
	chunkSize  = 19 // 1,528 octets: just below a size class of the allocator
)

// shard is an open-addressing index (linear probing) into chunks of slots.
type shard struct {
	sync.Mutex
	index  []uint32 // 1 + the slot; 0: empty
	chunks []*[chunkSize]slot
	used   int      // slots ever taken
	free   []uint32 // slots given back
	hand   int      // of the clock
	served uint64
}

type slot struct {
	key string // empty: free
	Entry
}

// NewTable makes a Table of about limit mailboxes.
func NewTable(limit int) *Table {
	t := &Table{seed: maphash.MakeSeed(), limit: max((limit+shardCount-1)/shardCount, 1), shards: make([]shard, shardCount)}
	for i := range t.shards {
		t.shards[i].index = make([]uint32, 8)
	}
	return t
}

func (t *Table) find(key string) (s *shard, hash uint64) {
	hash = maphash.String(t.seed, key)
	return &t.shards[hash%shardCount], hash / shardCount
}

// Serve says what is known about a message of size octets to the mailbox, and debits it
// when there is room. The copy of the entry is for whoever wants to know more.
func (t *Table) Serve(key string, now Tick, size int64) (use Use, known Entry) {
	s, hash := t.find(key)
	s.Lock()
	defer s.Unlock()
	if at := s.lookup(key, hash); at >= 0 {
		e := &s.slot(at).Entry
		e.step |= recentlyUsed
		use = e.Serve(now, size)
		if use != Ask {
			s.served++
		}
		if use == UseRoom {
			e.Debit(now, size)
		} else {
			known = *e
			known.step &^= recentlyUsed
		}
	}
	return use, known
}

// Update changes what is known of the mailbox; f must not call the table.
func (t *Table) Update(key string, f func(e *Entry)) {
	s, hash := t.find(key)
	s.Lock()
	defer s.Unlock()
	at := s.lookup(key, hash)
	if at < 0 {
		at = s.insert(t, strings.Clone(key), hash)
	}
	e := &s.slot(at).Entry
	e.step &^= recentlyUsed
	f(e)
	e.step |= recentlyUsed
}

// Get gives a copy of what is known of the mailbox.
func (t *Table) Get(key string) (e Entry, ok bool) {
	s, hash := t.find(key)
	s.Lock()
	defer s.Unlock()
	at := s.lookup(key, hash)
	if at < 0 {
		return Entry{}, false
	}
	e = s.slot(at).Entry
	e.step &^= recentlyUsed
	return e, true
}

// Forget drops every mailbox that matches, and says how many these were.
func (t *Table) Forget(matches func(key string) bool) (n int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.Lock()
		for at := range s.used {
			if k := s.slot(at).key; k != "" && matches(k) {
				s.remove(t.seed, at)
				n++
			}
		}
		s.Unlock()
	}
	return n
}

// Remove drops one mailbox.
func (t *Table) Remove(key string) {
	s, hash := t.find(key)
	s.Lock()
	defer s.Unlock()
	if at := s.lookup(key, hash); at >= 0 {
		s.remove(t.seed, at)
	}
}

// Range shows every mailbox. f must not call the table.
func (t *Table) Range(f func(key string, e *Entry)) {
	for i := range t.shards {
		s := &t.shards[i]
		s.Lock()
		for at := range s.used {
			if slot := s.slot(at); slot.key != "" {
				f(slot.key, &slot.Entry)
			}
		}
		s.Unlock()
	}
}

// Served is how many questions Serve has answered.
func (t *Table) Served() (n uint64) {
	for i := range t.shards {
		s := &t.shards[i]
		s.Lock()
		n += s.served
		s.Unlock()
	}
	return n
}

// Len is how many mailboxes are known.
func (t *Table) Len() (n int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.Lock()
		n += s.used - len(s.free)
		s.Unlock()
	}
	return n
}

func (s *shard) slot(at int) *slot { return &s.chunks[at/chunkSize][at%chunkSize] }

// lookup gives the slot of a key, -1 if it is not there.
func (s *shard) lookup(key string, hash uint64) int {
	mask := uint64(len(s.index) - 1) //nolint:gosec // a power of two
	for i := hash & mask; s.index[i] != 0; i = (i + 1) & mask {
		if at := int(s.index[i] - 1); s.slot(at).key == key {
			return at
		}
	}
	return -1
}

// insert takes a slot for a key that is not there.
func (s *shard) insert(t *Table, key string, hash uint64) (at int) {
	switch n := len(s.free); {
	case n > 0:
		at = int(s.free[n-1])
		s.free = s.free[:n-1]
	case s.used < t.limit:
		if at = s.used; at/chunkSize == len(s.chunks) {
			s.chunks = append(s.chunks, new([chunkSize]slot))
		}
		s.used++
	default:
		at = s.victim()
		s.unlink(t.seed, at)
	}
	*s.slot(at) = slot{key: key}
	if 16*(s.used-len(s.free)) > 13*len(s.index) {
		s.grow(t.seed)
		if s.lookup(key, hash) >= 0 {
			return at // growing has linked it
		}
	}
	s.link(hash, at)
	return at
}

func (s *shard) link(hash uint64, at int) {
	mask := uint64(len(s.index) - 1) //nolint:gosec // a power of two
	i := hash & mask
	for s.index[i] != 0 {
		i = (i + 1) & mask
	}
	s.index[i] = uint32(at + 1) //nolint:gosec // bounded by the limit
}

func (s *shard) grow(seed maphash.Seed) {
	s.index = make([]uint32, 2*len(s.index))
	for at := range s.used {
		if k := s.slot(at).key; k != "" {
			s.link(maphash.String(seed, k)/shardCount, at)
		}
	}
}

// victim is the next slot that was not asked about since the hand passed it.
func (s *shard) victim() int {
	for {
		at := s.hand % s.used
		s.hand = (at + 1) % s.used
		e := &s.slot(at).Entry
		if e.step&recentlyUsed == 0 {
			return at
		}
		e.step &^= recentlyUsed
	}
}

func (s *shard) remove(seed maphash.Seed, at int) {
	s.unlink(seed, at)
	*s.slot(at) = slot{}
	s.free = append(s.free, uint32(at)) //nolint:gosec // bounded by the limit
}

// unlink takes a slot out of the index and closes the gap.
func (s *shard) unlink(seed maphash.Seed, at int) {
	mask := uint64(len(s.index) - 1) //nolint:gosec // a power of two
	i := maphash.String(seed, s.slot(at).key) / shardCount & mask
	for s.index[i] != uint32(at+1) { //nolint:gosec // bounded by the limit
		i = (i + 1) & mask
	}
	for j := i; ; {
		j = (j + 1) & mask
		if s.index[j] == 0 {
			break
		}
		home := maphash.String(seed, s.slot(int(s.index[j]-1)).key) / shardCount & mask
		if (j-home)&mask >= (j-i)&mask {
			s.index[i] = s.index[j]
			i = j
		}
	}
	s.index[i] = 0
}
