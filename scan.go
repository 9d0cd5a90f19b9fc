// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import "unicode/utf8"

// What follows looks at eight octets at a time: every recipient passes here several
// times, and octet by octet these looks took a tenth of a remembered answer. The last eight
// octets of a string may have been looked at before.

const (
	ones = 0x0101010101010101
	tops = 0x8080808080808080 // the highest bit of each octet
)

// word gives eight octets of s from i on, the first one lowest.
func word(s string, i int) uint64 {
	s = s[i : i+8]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// HasControl reports whether s holds CR, LF or NUL, which would end an SMTP command
// early. Such a recipient is answered 501 5.1.3 before anything is asked.
func HasControl(s string) bool {
	i := 0
	for ; i+8 <= len(s); i += 8 {
		if x := word(s, i); (x-0x0e*ones)&^x&tops != 0 { // an octet below 0x0e
			break
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c == '\r' || c == '\n' || c == 0 {
			return true
		}
	}
	return false
}

// IsASCII reports whether s has no octet above 127.
func IsASCII(s string) bool {
	n := len(s)
	if n < 8 {
		for i := range n {
			if s[i] >= utf8.RuneSelf {
				return false
			}
		}
		return true
	}
	x := word(s, n-8)
	for i := 0; i+8 < n; i += 8 {
		x |= word(s, i)
	}
	return x&tops == 0
}

// IsLower reports whether s has neither capitals nor anything beyond ASCII.
func IsLower(s string) bool {
	n := len(s)
	if n < 8 {
		for i := range n {
			if c := s[i]; c-'A' <= 'Z'-'A' || c >= utf8.RuneSelf {
				return false
			}
		}
		return true
	}
	bad := notLower(word(s, n-8))
	for i := 0; i+8 < n; i += 8 {
		bad |= notLower(word(s, i))
	}
	return bad&tops == 0
}

// notLower has the highest bit set of some octet if x has one that is a capital or not
// ASCII.
func notLower(x uint64) uint64 {
	return x | (x+(0x80-'A')*ones)&^(x+(0x80-'Z'-1)*ones) // true for ASCII: no octet carries
}
