// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"sync"
	"sync/atomic"
)

// maxIdleWorkers bounds the goroutines that wait for something to do.
const maxIdleWorkers = 32

// workers runs functions on goroutines of their own and uses these again: a new one
// for each probe would grow its stack several times over, which costs a tenth of a
// question to a fast backend.
type workers struct {
	jobs chan func() // unbuffered: a job is taken by one that waits, or starts another
	idle atomic.Int32

	mu     sync.RWMutex // guards closed against the wait for goroutines
	closed bool
	wg     sync.WaitGroup
}

// run calls f on another goroutine, unless closed.
func (w *workers) run(f func()) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return false
	}
	select {
	case w.jobs <- f:
	default:
		w.wg.Go(func() { w.work(f) })
	}
	return true
}

// work calls f and then what comes, until nothing may or too many wait.
func (w *workers) work(f func()) {
	for ok := true; ok; {
		f()
		f = nil // it holds a question
		if w.idle.Add(1) <= maxIdleWorkers {
			f, ok = <-w.jobs
		} else {
			ok = false
		}
		w.idle.Add(-1)
	}
}

// close refuses more and releases those that wait. What runs goes on; wait for wg.
func (w *workers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		close(w.jobs)
	}
}
