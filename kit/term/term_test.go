// SPDX-License-Identifier: BSD-2-Clause

package term

import "testing"

func TestCount(t *testing.T) {
	for want, n := range map[string]struct {
		n    int
		what string
	}{
		"0 octets":            {0, "octet"},
		"1 octet":             {1, "octet"},
		"2 octets":            {2, "octet"},
		"1 entry":             {1, "entry"},
		"3 entries":           {3, "entry"},
		"0 keys":              {0, "key"},
		"1 alias":             {1, "alias"},
		"2 aliases":           {2, "alias"},
		"2 hashes":            {2, "hash"},
		"2 branches":          {2, "branch"},
		"1 unknown recipient": {1, "unknown recipient"},
	} {
		if got := Count(n.n, n.what); got != want {
			t.Errorf("Count(%d, %q) = %q, want %q", n.n, n.what, got, want)
		}
	}
	if got := Count(uint64(1), "octet"); got != "1 octet" {
		t.Errorf("an unsigned number: %q", got)
	}
}
