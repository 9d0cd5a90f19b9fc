// SPDX-License-Identifier: BSD-2-Clause

package admin

import (
	"os"
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
