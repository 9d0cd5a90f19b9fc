// SPDX-License-Identifier: BSD-2-Clause

package room

import (
	"bytes"
	"hash/maphash"
	"sync"
)

// Table keeps entries by mailbox: bounded, without a lock that all share. Where it is full,
// a mailbox that was not asked about since the last round makes room (the clock algorithm).
// An entry takes about 80 octets and two thirds of the length of its key. Make one with NewTable; it is safe
// for concurrent use.
type Table struct {
	seed   maphash.Seed
	codes  *codes // of keys
	limit  int    // of a shard
	shards []shard
}

const (
	shardCount = 256
	chunkSize  = 30 // entries, 2,040 octets: just below a size class of the allocator
	leastIndex = 8
)

// shard is an open-addressing index (linear probing) into chunks of entries. A question is
// answered from one cell of the index and one cache line, an entry.
type shard struct {
	sync.Mutex
	index  []cell
	chunks []*chunk
	keys   keys
	used   int      // slots ever taken
	free   []uint32 // slots given back
	hand   int      // of the clock
	served uint64
	_      [24]byte // to whole cache lines
}

// chunk is entries and where their keys are.
type chunk struct {
	entries [chunkSize]Entry
	keys    [chunkSize]uint32 // 0: the slot is free
}

// cell is 40 bits of a key's hash and 1 + the slot; 0 is an empty one.
type cell uint64

const (
	slotBits = 24
	slotMask = 1<<slotBits - 1
)

func (c cell) slot() int { return int(c&slotMask) - 1 }

// hash is what a key is found by: eight bits choose the shard, 32 the place where the search
// begins, and 40 others are compared.
type hash uint64

func (h hash) shard() int         { return int(h % shardCount) }
func (h hash) home(cells int) int { return int(uint64(uint32(h>>8)) * uint64(cells) >> 32) } //nolint:gosec // bits of a hash
func (h hash) cell(slot int) cell {
	return cell((uint64(h)>>40<<16|uint64(h)>>8&0xffff)<<slotBits | uint64(slot+1)) //nolint:gosec // bounded by the limit
}

// NewTable makes a Table of about limit mailboxes.
func NewTable(limit int) *Table {
	t := &Table{seed: maphash.MakeSeed(), codes: newCodes(), limit: min(max((limit+shardCount-1)/shardCount, 1), slotMask-1), shards: make([]shard, shardCount)}
	for i := range t.shards {
		t.shards[i].index = make([]cell, leastIndex)
	}
	return t
}

func (t *Table) find(key string) (*shard, hash) {
	h := hash(maphash.String(t.seed, key))
	return &t.shards[h.shard()], h
}

// Serve says what is known about a message of size octets to the mailbox, and debits it
// when there is room. The copy of the entry is for whoever wants to know more.
//
// That there is room is served by the hash alone: one mailbox in a hundred billion is taken
// for another that has room. A refusal is served only for the mailbox itself.
func (t *Table) Serve(key string, now Tick, size int64) (use Use, known Entry) {
	s, h := t.find(key)
	s.Lock()
	defer s.Unlock()
	at := s.first(h)
	if at < 0 {
		return Ask, Entry{}
	}
	e := s.entry(at)
	use = e.Serve(now, size)
	if use == UseRoom {
		e.step |= recentlyUsed
		e.Debit(now, size)
		s.served++
		return UseRoom, Entry{}
	}
	if at = s.lookup(t, key, h); at < 0 {
		return Ask, Entry{}
	}
	e = s.entry(at)
	e.step |= recentlyUsed
	if use = e.Serve(now, size); use != Ask {
		s.served++
	}
	if use == UseRoom {
		e.Debit(now, size)
	}
	known = *e
	known.step &^= recentlyUsed
	return use, known
}

// Update changes what is known of the mailbox; f must not call the table.
func (t *Table) Update(key string, f func(e *Entry)) {
	s, h := t.find(key)
	s.Lock()
	defer s.Unlock()
	at := s.lookup(t, key, h)
	if at < 0 {
		at = s.insert(t, key, h)
	}
	e := s.entry(at)
	e.step &^= recentlyUsed
	f(e)
	e.step |= recentlyUsed
}

// Get gives a copy of what is known of the mailbox.
func (t *Table) Get(key string) (e Entry, ok bool) {
	s, h := t.find(key)
	s.Lock()
	defer s.Unlock()
	at := s.lookup(t, key, h)
	if at < 0 {
		return Entry{}, false
	}
	e = *s.entry(at)
	e.step &^= recentlyUsed
	return e, true
}

// Forget drops every mailbox that matches, and says how many these were.
func (t *Table) Forget(matches func(key string) bool) (n int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.Lock()
		for at := range s.used {
			if k := s.key(at); k != nil && matches(string(unpack(nil, k))) {
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
	s, h := t.find(key)
	s.Lock()
	defer s.Unlock()
	if at := s.lookup(t, key, h); at >= 0 {
		s.remove(t.seed, at)
	}
}

// Range shows every mailbox. f must not call the table, nor keep the key.
func (t *Table) Range(f func(key []byte, e *Entry)) {
	var buf []byte
	for i := range t.shards {
		s := &t.shards[i]
		s.Lock()
		for at := range s.used {
			if k := s.key(at); k != nil {
				buf = unpack(buf[:0], k)
				f(buf, s.entry(at))
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

func (s *shard) entry(at int) *Entry { return &s.chunks[at/chunkSize].entries[at%chunkSize] }

func (s *shard) place(at int) *uint32 { return &s.chunks[at/chunkSize].keys[at%chunkSize] }

// key gives the packed key of a slot; nil if the slot is free.
func (s *shard) key(at int) []byte {
	if p := *s.place(at); p != 0 {
		return s.keys.at(p)
	}
	return nil
}

// first gives the first slot whose hash fits, -1 if there is none.
func (s *shard) first(h hash) int {
	want := h.cell(-1)
	for i := h.home(len(s.index)); s.index[i] != 0; {
		if c := s.index[i]; c&^slotMask == want {
			return c.slot()
		}
		if i++; i == len(s.index) {
			i = 0
		}
	}
	return -1
}

// lookup gives the slot of a key, -1 if it is not there.
func (s *shard) lookup(t *Table, key string, h hash) int {
	var buf [128]byte
	packed := buf[:0]
	want := h.cell(-1)
	for i := h.home(len(s.index)); s.index[i] != 0; {
		if c := s.index[i]; c&^slotMask == want {
			if len(packed) == 0 {
				packed = t.pack(packed, key)
			}
			if bytes.Equal(s.key(c.slot()), packed) {
				return c.slot()
			}
		}
		if i++; i == len(s.index) {
			i = 0
		}
	}
	return -1
}

// pack appends a key as it is kept.
func (t *Table) pack(dst []byte, key string) []byte {
	packed := t.codes.pack(dst, key)
	return packed[:min(len(packed), maxKey)]
}

// insert takes a slot for a key that is not there.
func (s *shard) insert(t *Table, key string, h hash) (at int) {
	switch n := len(s.free); {
	case n > 0:
		at = int(s.free[n-1])
		s.free = s.free[:n-1]
	case s.used < t.limit:
		if at = s.used; at/chunkSize == len(s.chunks) {
			s.chunks = append(s.chunks, new(chunk))
		}
		s.used++
	default:
		at = s.victim()
		s.drop(t.seed, at)
	}
	if n := s.used - len(s.free); 5*n > 4*len(s.index) {
		s.grow(t)
	}
	if s.keys.wasteful() {
		s.pack()
	}
	*s.entry(at), *s.place(at) = Entry{}, s.keys.add(t.pack(nil, key))
	s.link(h, at)
	return at
}

func (s *shard) link(h hash, at int) {
	i := h.home(len(s.index))
	for s.index[i] != 0 {
		if i++; i == len(s.index) {
			i = 0
		}
	}
	s.index[i] = h.cell(at)
}

// grow doubles the index, up to what the limit of the shard needs.
func (s *shard) grow(t *Table) {
	s.index = make([]cell, max(min(2*len(s.index), t.limit*5/4+leastIndex), len(s.index)+1))
	var buf []byte
	for at := range s.used {
		if k := s.key(at); k != nil {
			buf = unpack(buf[:0], k)
			s.link(hash(maphash.Bytes(t.seed, buf)), at)
		}
	}
}

// pack writes the keys anew, without those that are gone.
func (s *shard) pack() {
	old := s.keys
	s.keys = keys{}
	for at := range s.used {
		if p := s.place(at); *p != 0 {
			*p = s.keys.add(old.at(*p))
		}
	}
}

// victim is the next slot that was not asked about since the hand passed it.
func (s *shard) victim() int {
	for {
		at := s.hand % s.used
		s.hand = (at + 1) % s.used
		e := s.entry(at)
		if e.step&recentlyUsed == 0 {
			return at
		}
		e.step &^= recentlyUsed
	}
}

func (s *shard) remove(seed maphash.Seed, at int) {
	s.drop(seed, at)
	s.free = append(s.free, uint32(at)) //nolint:gosec // bounded by the limit
}

// drop empties a slot.
func (s *shard) drop(seed maphash.Seed, at int) {
	s.unlink(seed, at)
	p := s.place(at)
	s.keys.forget(*p)
	*p, *s.entry(at) = 0, Entry{}
}

// unlink takes a slot out of the index. Cells that follow are linked again, so that no gap
// stands between them and their home.
func (s *shard) unlink(seed maphash.Seed, at int) {
	n := len(s.index)
	var buf [128]byte
	homeOf := func(at int) int { return hash(maphash.Bytes(seed, unpack(buf[:0], s.key(at)))).home(n) }
	i := homeOf(at)
	for s.index[i].slot() != at {
		i = (i + 1) % n
	}
	for j := i; ; {
		j = (j + 1) % n
		if s.index[j] == 0 {
			break
		}
		home := homeOf(s.index[j].slot())
		if (j-home+n)%n >= (j-i+n)%n {
			s.index[i] = s.index[j]
			i = j
		}
	}
	s.index[i] = 0
}
