// SPDX-License-Identifier: BSD-2-Clause

package testkit

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Unprivileged has the kernel treat the test's goroutine as the user "nobody" whenever it
// uses files, until the test ends. It skips the test unless root runs it. Goroutines that
// the test starts keep root's rights. See setfsuid(2).
func Unprivileged(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const nobody = 65534
	runtime.LockOSThread()
	if err := unix.Setfsuid(nobody); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setfsuid(0); err == nil {
			runtime.UnlockOSThread() // else the thread ends with the goroutine
		}
	})
}
