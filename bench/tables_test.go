// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"path/filepath"
	"testing"

	"rcptgate/table"
	"rcptgate/table/open"
)

// The alias files are what the figures say they are.
func TestWriteAliases(t *testing.T) {
	for _, kind := range tableTypes {
		spec := table.Spec{Type: kind, Name: filepath.Join(t.TempDir(), "aliases")}
		for version, want := range []string{"version0@store.example", "version1@store.example"} {
			const entries = 1000
			if err := writeAliases(spec, entries, version); err != nil {
				t.Fatal(err)
			}
			f, err := open.Open(t.Context(), spec, func(err error) { t.Error(err) })
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			err = f.Scan(t.Context(), func(key, value []byte) error {
				expect := aliasMailbox(n)
				if n == entries/2 {
					expect = want
				}
				if string(key) != aliasName(n) || string(value) != expect {
					t.Errorf("%s: entry %d is %s: %s", spec, n, key, value)
				}
				n++
				return nil
			})
			if err != nil || n != entries {
				t.Errorf("%s: %d entries, %v", spec, n, err)
			}
			_ = f.Close()
		}
	}
}
