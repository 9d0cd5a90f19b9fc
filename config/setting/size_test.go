// SPDX-License-Identifier: BSD-2-Clause

package setting

import "testing"

func TestSizes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text  string
		size  Size
		again string
	}{
		{"0", 0, "0"}, {"512", 512, "512B"}, {"512B", 512, "512B"}, {"1024", 1024, "1KB"}, {"10k", 10240, "10KB"}, {"10KiB", 10240, "10KB"},
		{"200MB", 209715200, "200MB"}, {"200m", 209715200, "200MB"}, {"1GB", 1 << 30, "1GB"}, {"1024TB", MaxSize, "1024TB"}, {"1500K", 1536000, "1500KB"},
	} {
		got, err := ParseSize(c.text)
		if err != nil || got != c.size || got.String() != c.again {
			t.Errorf("%q: %d, %v, %v", c.text, got, got, err)
		}
		if back, err := ParseSize(got.String()); err != nil || back != got {
			t.Errorf("%v: %d, %v", got, back, err)
		}
	}
	for _, bad := range []string{"", "B", "MB", "-1", "-1MB", "1.5GB", "1 MB", "1XB", "1BB", "1KK", "1iB", "1025TB", "99999999999999999999", "1MBI", "0x10", "1II", "1KBB"} {
		if got, err := ParseSize(bad); err == nil {
			t.Errorf("%q was taken as %d", bad, got)
		}
	}
}
