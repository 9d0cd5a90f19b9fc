// SPDX-License-Identifier: BSD-2-Clause

// Package testkit has what tests of several packages need and the standard library lacks.
package testkit

import (
	"testing"
	"time"
)

// Patience is how long Eventually waits. It is far longer than anything takes on a quiet
// machine: tests run on busy ones too.
const Patience = 60 * time.Second

// Eventually waits until is gives true, looking every few milliseconds. What says what is
// waited for; the test ends when it does not come. In a synctest bubble it waits in the
// bubble's time.
func Eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	pause := time.Millisecond
	for end := time.Now().Add(Patience); !is(); time.Sleep(pause) {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain: %s", Patience, what)
		}
		pause = min(2*pause, 20*time.Millisecond)
	}
}
