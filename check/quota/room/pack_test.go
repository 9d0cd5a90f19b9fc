// SPDX-License-Identifier: BSD-2-Clause

package room

import (
	"strings"
	"testing"
)

func FuzzPack(f *testing.F) {
	for _, key := range []string{"", "ann@example.org", "ANN.Müller+x@Example.ORG", "\x00\xff", strings.Repeat("x", 320), "0", "zz", "@", "_", "??", "\x7f\x7f\x7f"} {
		f.Add(key, "ann@example.org")
	}
	for n := range 9 { // where the last octet ends
		f.Add(strings.Repeat("0", n)+"\xff", strings.Repeat("z", n)+"?")
	}
	c := newCodes()
	f.Fuzz(func(t *testing.T, key, other string) {
		packed := c.pack(nil, key)
		if got := string(unpack(nil, packed)); got != key {
			t.Errorf("%q became %q", key, got)
		}
		if key != other && string(packed) == string(c.pack(nil, other)) {
			t.Errorf("%q and %q are the same", key, other)
		}
	})
}

// TestPackedLength: names of the usual characters take at most three quarters of their length.
func TestPackedLength(t *testing.T) {
	c := newCodes()
	for key, most := range map[string]int{
		"ann@example.org": 11, "0123456789@" + strings.Repeat("nest.", 10): 41,
		"maria-magdalena.von-der-hohen-eichen@students.informatics.example": 45, strings.Repeat("z", 64): 48,
	} {
		if n := len(c.pack(nil, key)); n > most {
			t.Errorf("%q takes %d octets, at most %d are expected", key, n, most)
		}
	}
}
