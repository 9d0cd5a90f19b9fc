// SPDX-License-Identifier: BSD-2-Clause

package testkit

import (
	"runtime"
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

func TestOutside(t *testing.T) {
	outside := Outside(t)
	synctest.Test(t, func(t *testing.T) {
		inside := false
		outside(func() { inside = Bubbled() })
		if inside || !Bubbled() {
			t.Error("what runs outside is in the bubble")
		}
		outside(runtime.Goexit)
		outside(func() {})
	})
}
