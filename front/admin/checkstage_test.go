// SPDX-License-Identifier: BSD-2-Clause

package admin

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestMessageFromDevice holds that what does not say how large it is, such as a pipe or a device,
// is read no further than the limit.
func TestMessageFromDevice(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/zero"); err != nil {
		t.Skip(err)
	}
	if raw, err := readMessageFile("/dev/zero", 1<<20); err == nil {
		t.Errorf("%d octets were read", len(raw))
	}
}

func TestMessageFileOfAnySize(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "mail")
	for _, n := range []int{0, 1, 9_999, 10_000, 10_001} {
		want := bytes.Repeat([]byte("x"), n)
		if err := os.WriteFile(name, want, 0o600); err != nil {
			t.Fatal(err)
		}
		raw, err := readMessageFile(name, 10_000)
		switch {
		case n > 10_000 && err == nil:
			t.Errorf("%d octets were read", len(raw))
		case n <= 10_000 && (err != nil || !bytes.Equal(raw, want)):
			t.Errorf("%d octets were read of %d: %v", len(raw), n, err)
		}
	}
}
