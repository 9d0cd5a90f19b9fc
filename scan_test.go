// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
	"strings"
	"testing"
)

// TestScans holds the looks at eight octets against those at one: every octet at every
// place of short and longer strings.
func TestScans(t *testing.T) {
	for n := range 20 {
		for at := range n {
			for c := range 256 {
				b := []byte(strings.Repeat("m", n))
				b[at] = byte(c)
				s := string(b)
				if got, want := HasControl(s), c == 0 || c == '\r' || c == '\n'; got != want {
					t.Fatalf("HasControl(%q) = %v", s, got)
				}
				if got, want := IsASCII(s), c < 0x80; got != want {
					t.Fatalf("IsASCII(%q) = %v", s, got)
				}
				if got, want := IsLower(s), c < 0x80 && (c < 'A' || c > 'Z'); got != want {
					t.Fatalf("IsLower(%q) = %v", s, got)
				}
			}
		}
	}
}

// A capital or a control character behind octets that carry into it.
func TestScansBehindHighOctets(t *testing.T) {
	for _, s := range []string{"\xff\xff\xff\xffA\xff\xff\xff", "\x80A\x80A\x80A\x80A", "\xff\n\xff\xff\xff\xff\xff\xff"} {
		if IsLower(s) || IsASCII(s) {
			t.Errorf("%q: taken for lower-case ASCII", s)
		}
		if HasControl(s) != strings.ContainsAny(s, "\r\n\x00") {
			t.Errorf("HasControl(%q) = %v", s, HasControl(s))
		}
	}
}
