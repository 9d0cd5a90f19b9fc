// SPDX-License-Identifier: BSD-2-Clause

package dns

import "net/netip"

// meaning is what the labels in front of a zone's name stand for.
type meaning uint8

const (
	noName meaning = iota // of no client
	client                // of one
	inner                 // the beginning of clients' names
)

// clientOf reads the first n labels of the name as a client's address in reverse. A name of four
// labels can be both: "1.0.0.2" is 2.0.0.1, and the beginning of everything in 2001::/16.
func (q *question) clientOf(n int) (addr netip.Addr, what meaning, both bool) {
	if n == 0 || n > 32 {
		return addr, noName, false
	}
	nibbles, octets := true, n <= 4
	var v4 [4]byte
	var v6 [16]byte
	for i := range n {
		label := q.label(i)
		if v, ok := nibble(label); ok {
			at := n - 1 - i // the last label is the first nibble
			v6[at/2] |= v << (4 * (1 - at%2))
		} else {
			nibbles = false
		}
		if octets {
			v4[n-1-i], octets = octet(label)
		}
	}
	switch {
	case octets && n == 4:
		return netip.AddrFrom4(v4), client, nibbles
	case nibbles && n == 32:
		return netip.AddrFrom16(v6).Unmap(), client, false
	case nibbles || octets:
		return addr, inner, false
	}
	return addr, noName, false
}

// nibble reads one hexadecimal digit.
func nibble(label []byte) (byte, bool) {
	if len(label) != 1 {
		return 0, false
	}
	switch c := label[0]; {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// octet reads a number from 0 to 255 without leading zeros.
func octet(label []byte) (byte, bool) {
	if len(label) == 0 || len(label) > 3 || len(label) > 1 && label[0] == '0' {
		return 0, false
	}
	n := 0
	for _, c := range label {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return byte(n), n <= 255
}
