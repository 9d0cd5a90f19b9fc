// SPDX-License-Identifier: BSD-2-Clause

package setting

import "testing"

func TestFileMode(t *testing.T) {
	var mode FileMode
	if err := mode.UnmarshalText([]byte("0660")); err != nil || mode != 0o660 || mode.String() != "0660" {
		t.Errorf("mode %v, %v", mode, err)
	}
	for _, bad := range []string{"", "rw", "999", "01000", "0"} {
		if err := mode.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("mode %q was taken", bad)
		}
	}
}
