// SPDX-License-Identifier: BSD-2-Clause

package testkit

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestEventually(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		Eventually(t, "a second to pass", func() bool { return time.Since(begin) > time.Second })
		if d := time.Since(begin); d > 2*time.Second {
			t.Errorf("looked for %v", d)
		}
	})
}
