// SPDX-License-Identifier: BSD-2-Clause

package room

// Keys are kept packed: the characters that mailbox names are mostly made of take five bits
// and the others that such names have take six, instead of eight. A name of 64 octets fits
// into 44, and a million mailboxes with such names into 128 MB.
//
// The code is a prefix code. Values below len(short) of five bits are characters of short.
// Others are, with the next bit, six bits of value 2*len(short) and more: a character of
// long, or escape, behind which any octet stands as it is. The last octet is filled with
// ones, which are too few to be anything.
const (
	short  = "0123456789eaoinrtslm.@"
	long   = "bcdfghjkpquvwxyz-_+"
	escape = 63
)

// code is the bits of an octet, and how many these are.
type code struct {
	bits  uint16
	count uint8
}

// codes are the codes of all octets.
type codes [256]code

func newCodes() *codes {
	var c codes
	for i := range c {
		c[i] = code{escape<<8 | uint16(i), 14} //nolint:gosec // an octet
	}
	for i := range len(short) {
		c[short[i]] = code{uint16(i), 5} //nolint:gosec // few
	}
	for i := range len(long) {
		c[long[i]] = code{uint16(2*len(short) + i), 6} //nolint:gosec // few
	}
	return &c
}

// pack appends a key, packed.
func (c *codes) pack(dst []byte, key string) []byte {
	var bits uint64
	count := uint8(0)
	for i := range len(key) {
		one := c[key[i]]
		bits, count = bits<<one.count|uint64(one.bits), count+one.count
		for ; count >= 8; count -= 8 {
			dst = append(dst, byte(bits>>(count-8))) //nolint:gosec // the octet is meant
		}
	}
	if count > 0 {
		dst = append(dst, byte(bits<<(8-count)|(1<<(8-count)-1))) //nolint:gosec // the octet is meant
	}
	return dst
}

// unpack appends a key that was packed.
func unpack(dst, packed []byte) []byte {
	var bits uint64
	count := 0
	for {
		for count <= 48 && len(packed) > 0 {
			bits, count, packed = bits<<8|uint64(packed[0]), count+8, packed[1:]
		}
		take := func(n int) int {
			count -= n
			return int(bits >> count & (1<<n - 1)) //nolint:gosec // few bits
		}
		if count < 5 {
			return dst
		}
		if v := int(bits >> (count - 5) & 31); v < len(short) { //nolint:gosec // few bits
			dst, count = append(dst, short[v]), count-5
			continue
		}
		if count < 6 {
			return dst
		}
		switch v := take(6); {
		case v != escape:
			dst = append(dst, long[v-2*len(short)])
		case count < 8:
			return dst
		default:
			dst = append(dst, byte(take(8))) //nolint:gosec // an octet
		}
	}
}
