// SPDX-License-Identifier: BSD-2-Clause

package room

// keys holds the keys of a shard, packed, one after the other, each behind its length: one
// octet, or 255 and two more. A place is a number, never 0. The zero keys is empty.
type keys struct {
	blocks     []*[keyBlock]byte
	end        int // of the last block's used part
	used, dead int // octets
}

const (
	keyBlock = 2048
	maxKey   = 1024 // a packed key is cut there; the check allows less
)

// add stores a packed key and gives its place.
func (k *keys) add(key []byte) uint32 {
	key = key[:min(len(key), maxKey)]
	need := sizeOf(len(key))
	if len(k.blocks) == 0 || k.end+need > keyBlock {
		k.blocks, k.end = append(k.blocks, new([keyBlock]byte)), 0
		if len(k.blocks) == 1 {
			k.end = 1 // place 0 is none
		}
	}
	at := k.end
	b := k.blocks[len(k.blocks)-1][at:]
	if b[0] = byte(min(len(key), 255)); b[0] == 255 { //nolint:gosec // bounded
		b[1], b[2] = byte(len(key)>>8), byte(len(key)) //nolint:gosec // at most maxKey
	}
	copy(b[need-len(key):], key)
	k.end, k.used = at+need, k.used+need
	return uint32((len(k.blocks)-1)*keyBlock + at) //nolint:gosec // a shard has less than 4 GiB of keys
}

// at gives the packed key at a place.
func (k *keys) at(place uint32) []byte {
	b := k.blocks[place/keyBlock][place%keyBlock:]
	if b[0] == 255 {
		return b[3 : 3+(int(b[1])<<8|int(b[2]))]
	}
	return b[1 : 1+int(b[0])]
}

// sizeOf is what a key of n octets takes.
func sizeOf(n int) int {
	if n >= 255 {
		return n + 3
	}
	return n + 1
}

// forget notes that the key at a place is not needed any more.
func (k *keys) forget(place uint32) { k.dead += sizeOf(len(k.at(place))) }

// wasteful reports whether it is time to write the keys anew.
func (k *keys) wasteful() bool { return k.dead > keyBlock && 5*k.dead > k.used }
