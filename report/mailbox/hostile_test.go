// SPDX-License-Identifier: BSD-2-Clause

package mailbox

import (
	"strings"
	"testing"
	"time"
)

// TestManyTinyHeaders: messages without an empty line are not searched for one again and
// again. It took half a minute.
func TestManyTinyHeaders(t *testing.T) {
	const n = 200_000
	name := write(t, strings.Repeat(from+"A: b\n", n), t.TempDir(), "mbox")
	begin := time.Now()
	got, _ := read(t, Options{}, name)
	if len(got) != n || got[n-1] != "A: b\n" {
		t.Errorf("%d messages, the last %q", len(got), got[len(got)-1])
	}
	if took := time.Since(begin); took > 8*time.Second {
		t.Errorf("%v", took)
	}
}
