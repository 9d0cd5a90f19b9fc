// SPDX-License-Identifier: BSD-2-Clause

// Package index keeps the pairs of a map file in memory: an immutable hash table
// for look-ups without locks, small enough for a million names.
//
// Keys and values lie one after the other in chunks of a megabyte, each pair as
// length of key, length of value (unsigned varints), key, value. The table is one
// slice of 64-bit slots (16 bits of the hash, chunk, place in the chunk) with linear
// probing, at most three quarters full, in the order of the hashes, so that a walk over
// one index can be continued in the next one of the same seed. So a pair costs 11 to 22
// octets beyond its own, and the garbage collector only walks a few chunks. Measured
// against alternatives in docs/decisions/0401-table-index.md.
//
// Limits: 2^24 chunks; 2^31 pairs. A key that occurs more than once has its first
// value, as in the files of the MTAs.
package index

import (
	"encoding/binary"
	"errors"
	"hash/maphash"
	"iter"
	"math/bits"
	"strings"
	"unsafe"
)

const (
	chunkSize  = 1 << 20
	maxChunks  = 1 << 24
	offsetBits = 24
	tagShift   = 48
	maxPairs   = 1 << 31
	// spare slots lie behind the last: pairs that find theirs taken go forward, never round to the beginning.
	spare = 64
)

// Index is a set of pairs. It is safe for concurrent use. The zero Index is empty.
type Index struct {
	seed    maphash.Seed
	slots   []uint64 // 0 is free; a power of two of them, and some to spare
	shift   int      // of a hash, to get its slot
	chunks  []string
	entries int
	octets  int64
}

// Builder takes pairs and makes an Index of them. The zero Builder is ready. It is
// for one goroutine.
type Builder struct {
	// Seed is that of the hashes; zero: one of its own. Places of indexes of one seed
	// can be compared.
	Seed maphash.Seed

	chunks  []string
	current *strings.Builder
	pairs   int
	octets  int64
}

// ErrTooLarge says that the pairs do not fit into an Index.
var ErrTooLarge = errors.New("more pairs than an index can hold")

// Add copies a pair.
func (b *Builder) Add(key, value []byte) error {
	need := len(key) + len(value) + 2*binary.MaxVarintLen64
	if b.current != nil && b.current.Len()+need > chunkSize {
		b.flush()
	}
	if b.current == nil {
		b.current = new(strings.Builder)
		b.current.Grow(max(chunkSize, need))
	}
	if len(b.chunks) >= maxChunks-1 || b.pairs >= maxPairs {
		return ErrTooLarge
	}
	var head [2 * binary.MaxVarintLen64]byte
	h := binary.AppendUvarint(binary.AppendUvarint(head[:0], uint64(len(key))), uint64(len(value)))
	b.current.Write(h)
	b.current.Write(key)
	b.current.Write(value)
	b.pairs++
	b.octets += int64(len(key) + len(value))
	return nil
}

func (b *Builder) flush() {
	if b.current == nil {
		return
	}
	chunk := b.current.String()
	if len(chunk) < chunkSize/2 { // the last one: give back what it does not use
		chunk = strings.Clone(chunk)
	}
	b.chunks = append(b.chunks, chunk)
	b.current = nil
}

// Build makes the Index and empties the Builder. Pause, if not nil, is called now
// and then, so that a large index can be built during live traffic.
func (b *Builder) Build(pause func()) *Index {
	b.flush()
	x := &Index{seed: b.Seed, chunks: b.chunks, octets: b.octets}
	if x.seed == (maphash.Seed{}) {
		x.seed = maphash.MakeSeed()
	}
	size := 8
	for size*3/4 <= b.pairs {
		size *= 2
	}
	x.slots, x.shift = make([]uint64, size+spare), bits.LeadingZeros64(uint64(size))+1 // #nosec G115 -- not negative
	n := 0
	for number, chunk := range x.chunks {
		for at := 0; at < len(chunk); {
			key, value, next := pairAt(chunk, at)
			x.insert(key, uint64(number)<<offsetBits|uint64(at), len(key)+len(value)) // #nosec G115 -- not negative
			at = next
			if n++; n%512 == 0 && pause != nil {
				pause()
			}
		}
	}
	*b = Builder{Seed: b.Seed}
	return x
}

func (x *Index) insert(key string, place uint64, octets int) {
	h := maphash.String(x.seed, key)
	for i := h >> x.shift; ; i++ {
		if i == uint64(len(x.slots)) {
			x.slots = append(x.slots, 0)
		}
		slot := x.slots[i]
		if slot == 0 {
			// The place is stored with 1 added to its chunk, so that no slot in use is 0.
			x.slots[i] = h<<tagShift | (place + 1<<offsetBits)
			x.entries++
			return
		}
		if slot>>tagShift == h<<tagShift>>tagShift && x.key(slot) == key {
			x.octets -= int64(octets) // the first one stays
			return
		}
	}
}

func (x *Index) key(slot uint64) string {
	key, _ := x.pair(slot)
	return key
}

func (x *Index) pair(slot uint64) (key, value string) {
	place := placeOf(slot)
	key, value, _ = pairAt(x.chunks[place>>offsetBits], int(place&(1<<offsetBits-1))) // #nosec G115 -- 24 bits
	return key, value
}

// placeOf is chunk and offset of the pair of a slot in use.
func placeOf(slot uint64) uint64 { return slot&(1<<tagShift-1) - 1<<offsetBits }

// pairAt reads the pair at a place of a chunk, as Add wrote it.
func pairAt(chunk string, at int) (key, value string, next int) {
	klen, at := uvarint(chunk, at)
	vlen, at := uvarint(chunk, at)
	return chunk[at : at+klen], chunk[at+klen : at+klen+vlen], at + klen + vlen
}

func uvarint(s string, at int) (n, next int) {
	for shift := 0; ; shift += 7 {
		c := s[at]
		at++
		n |= int(c&0x7f) << shift
		if c < 0x80 {
			return n, at
		}
	}
}

// find returns the slot in use and the value of a key, or 0.
func (x *Index) find(key string) (slot uint64, value string) {
	if len(x.slots) == 0 {
		return 0, ""
	}
	h := maphash.String(x.seed, key)
	for i := h >> x.shift; i < uint64(len(x.slots)); i++ {
		slot := x.slots[i]
		if slot == 0 {
			break
		}
		if slot>>tagShift != h<<tagShift>>tagShift {
			continue
		}
		if k, v := x.pair(slot); k == key {
			return slot, v
		}
	}
	return 0, ""
}

// Get returns the value of a key. The value shares the index's memory: what is kept
// for long should be cloned.
func (x *Index) Get(key string) (value string, found bool) {
	slot, value := x.find(key)
	return value, slot != 0
}

// GetBytes is Get for a key in a buffer, without making a string of it.
func (x *Index) GetBytes(key []byte) (value string, found bool) {
	return x.Get(unsafe.String(unsafe.SliceData(key), len(key))) // #nosec G103 -- Get does not keep it
}

// Lost counts the keys of x that a newer index lacks. Pause, if not nil, is called now
// and then.
func (x *Index) Lost(newer *Index, pause func()) (lost int) {
	n := 0
	for _, slot := range x.slots {
		if slot == 0 {
			continue
		}
		if _, found := newer.Get(x.key(slot)); !found {
			lost++
		}
		if n++; n%512 == 0 && pause != nil {
			pause()
		}
	}
	return lost
}

// Len is the number of different keys.
func (x *Index) Len() int { return x.entries }

// Octets is the length of all keys and values together.
func (x *Index) Octets() int64 { return x.octets }

// Size is the memory of the index in octets.
func (x *Index) Size() int64 {
	n := int64(8 * len(x.slots))
	for _, c := range x.chunks {
		n += int64(len(c))
	}
	return n
}

// All yields every pair in the order added, the further ones of a key left out.
func (x *Index) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for number, chunk := range x.chunks {
			for at := 0; at < len(chunk); {
				key, value, next := pairAt(chunk, at)
				slot, _ := x.find(key)
				first := placeOf(slot) == uint64(number)<<offsetBits|uint64(at) // #nosec G115 -- not negative
				if first && !yield(key, value) {
					return
				}
				at = next
			}
		}
	}
}
