// SPDX-License-Identifier: BSD-2-Clause

// Package testkit has what tests of several packages need and the standard library lacks.
package testkit

import (
	"flag"
	"os"
	"strconv"
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

// Outside gives a function that runs f outside of any synctest bubble, and waits for it. A bubble
// that starts a process would hold it until that ends, and stop the bubble's clock meanwhile.
// It is called outside of the bubble; the function it gives, inside.
func Outside(t testing.TB) (run func(f func())) {
	work, done := make(chan func()), make(chan struct{})
	go func() {
		for f := range work {
			go func() { // f may end its goroutine, as t.Fatal does
				defer func() { done <- struct{}{} }()
				f()
			}()
		}
	}()
	t.Cleanup(func() { close(work) })
	return func(f func()) { work <- f; <-done }
}

// Overlap has n tests that say t.Parallel run at a time, for packages whose tests wait
// rather than compute. It is called in TestMain; -parallel on the command line counts more.
func Overlap(n int) {
	if f := flag.Lookup("test.parallel"); f != nil && f.Value.String() == f.DefValue {
		_ = f.Value.Set(strconv.Itoa(n))
	}
}

// LongVariable is set in the environment where tests shall do all that they can.
const LongVariable = "RCPTGATE_LONG"

// Rounds is how often a test with a random part, or with many of the same, is to repeat it:
// usual times, or all if [LongVariable] is set.
func Rounds(usual, all int) int {
	if os.Getenv(LongVariable) != "" {
		return all
	}
	return usual
}

// Checks has models that pgregory.net/rapid drives run n times (0: rapid's own number), the same
// way each time. With [LongVariable] set they run rapid's own number of times, and differ in every
// run. What the command line says (-rapid.checks, -rapid.seed) is left alone. It is called in
// TestMain.
func Checks(n int) {
	if os.Getenv(LongVariable) != "" {
		return
	}
	standard := func(name, value string) {
		if f := flag.Lookup(name); f != nil && f.Value.String() == f.DefValue {
			_ = f.Value.Set(value)
		}
	}
	if n > 0 {
		standard("rapid.checks", strconv.Itoa(n))
	}
	standard("rapid.seed", "1")
}

// Dir gives an empty directory for one test, in memory where that is possible: what tests of
// files wait for on a disk is mostly fsync. Its path is short, so that a socket fits (108 octets,
// unix(7)) whatever $TMPDIR and the test are called.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "rcptgate-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
