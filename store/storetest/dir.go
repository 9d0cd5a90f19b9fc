// SPDX-License-Identifier: BSD-2-Clause

package storetest

import (
	"os"
	"testing"
)

// memoryFS is a file system in memory, where there is one.
const memoryFS = "/dev/shm"

// Dir gives an empty directory for one test, in memory where that is possible: what tests
// of a store wait for on a disk is mostly fsync.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(memoryFS, "rcptgate-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
