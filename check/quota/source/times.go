// SPDX-License-Identifier: BSD-2-Clause

package source

import (
	"slices"
	"sync/atomic"
	"time"

	"rcptgate/metric"
)

// timeBounds are the buckets of times.
var timeBounds = [...]time.Duration{
	time.Millisecond, 5 * time.Millisecond, 25 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second,
}

// times is how long answers took.
type times struct {
	counts [len(timeBounds) + 1]atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

func (t *times) add(d time.Duration) {
	i, _ := slices.BinarySearch(timeBounds[:], d)
	t.counts[i].Add(1)
	t.sum.Add(int64(d))
}

// Times is how long the source took for its answers.
func (g *Guarded) Times() metric.Buckets {
	b := metric.Buckets{Bounds: timeBounds[:], Sum: time.Duration(g.took.sum.Load())}
	for i := range g.took.counts {
		b.Counts = append(b.Counts, g.took.counts[i].Load())
	}
	return b
}
