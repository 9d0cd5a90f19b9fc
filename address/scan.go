// SPDX-License-Identifier: BSD-2-Clause

package address

import "unicode/utf8"

// What follows looks at eight octets at a time: every recipient passes here several
// times, and octet by octet these looks took a tenth of a remembered answer.

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

func isASCII(s string) bool {
	i := 0
	for ; i+8 <= len(s); i += 8 {
		if word(s, i)&tops != 0 {
			return false
		}
	}
	for ; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// isLower reports whether s has neither capitals nor anything beyond ASCII.
func isLower(s string) bool {
	i := 0
	for ; i+8 <= len(s); i += 8 {
		x := word(s, i)
		capital := (x + (0x80-'A')*ones) &^ (x + (0x80-'Z'-1)*ones) // true for ASCII: no octet carries
		if (x|capital)&tops != 0 {
			return false
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c-'A' <= 'Z'-'A' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
