// SPDX-License-Identifier: BSD-2-Clause

package pattern

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

// sieve is a Bloom filter of keys. Most addresses are in no table, and a sieve says so of
// nearly all of them after one look into memory; a look-up in the table takes several, and
// branches that no processor predicts. It is a power of two of words of eight octets, and
// each key has its four bits in one word. The empty sieve holds every key.
type sieve []byte

// keysPerWord is how many keys share a word at most, on average. One or two absent keys in a
// hundred then pass.
const keysPerWord = 6

// newSieve makes the sieve of keys that have these hashes.
func newSieve(hashes []uint64) sieve {
	size := 8
	for size/8*keysPerWord < len(hashes) {
		size *= 2
	}
	s := make(sieve, size)
	for _, h := range hashes {
		w := s.word(h)
		binary.LittleEndian.PutUint64(w, binary.LittleEndian.Uint64(w)|bitsOf(h))
	}
	return s
}

// has reports whether a key that has this hash may be there.
func (s sieve) has(h uint64) bool {
	if len(s) == 0 {
		return true
	}
	b := bitsOf(h)
	return binary.LittleEndian.Uint64(s.word(h))&b == b
}

// word is where the bits of a key are.
func (s sieve) word(h uint64) []byte {
	i := int(h>>32) & (len(s)/8 - 1) * 8 // #nosec G115 -- 32 bits
	return s[i : i+8]
}

// bitsOf gives the bits of a key in its word.
func bitsOf(h uint64) uint64 {
	return 1<<(h&63) | 1<<(h>>6&63) | 1<<(h>>12&63) | 1<<(h>>18&63)
}

// hashOf is a hash of a key, eight octets at a time: the last eight may have been taken
// before. It is the same in every process, so addresses can be made up that pass a sieve:
// such an address costs a look-up, and no more.
func hashOf(key string) uint64 {
	b := octets(key)
	h := uint64(len(b))
	if len(b) < 8 {
		for _, c := range b {
			h = h<<8 | uint64(c)
		}
		return mix(h)
	}
	for i := 0; i+8 < len(b); i += 8 {
		h = mix(h ^ binary.LittleEndian.Uint64(b[i:]))
	}
	return mix(h ^ binary.LittleEndian.Uint64(b[len(b)-8:]))
}

func mix(x uint64) uint64 {
	hi, lo := bits.Mul64(x, 0x9e3779b97f4a7c15)
	return hi ^ lo
}

// octets is s as a slice that must not be written to.
func octets(s string) []byte {
	return unsafe.Slice(unsafe.StringData(s), len(s)) // #nosec G103 -- read only
}
