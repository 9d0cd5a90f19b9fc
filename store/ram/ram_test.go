// SPDX-License-Identifier: BSD-2-Clause

package ram

import (
	"sync/atomic"
	"testing"
	"time"

	"rcptgate/store"
	"rcptgate/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(_ *testing.T, entries int) store.Store {
		return New(Options{Entries: entries})
	})
}

// A little housekeeping after a write is done by the writer. Once the cache's clock has moved,
// when very many records may end, nobody waits for it.
func TestHousekeeping(t *testing.T) {
	var second atomic.Int64
	keep := housekeeper(clock(func() time.Time { return time.Unix(second.Load(), 0) }))
	for range 3 {
		second.Add(1)
		release, ended := make(chan struct{}), make(chan struct{})
		keep(func() { <-release; close(ended) }) // returns, although the work goes on
		done := false
		keep(func() { done = true })
		if !done {
			t.Error("housekeeping of the same second was left to another goroutine")
		}
		close(release)
		<-ended
	}
}
