// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// heapSlack is how many octets of garbage may gather before a collection when little
// is remembered. Go collects whenever the heap has doubled: a gate that remembers
// 10,000 recipients in 5 MB would collect ten times a second under load, and each
// time takes a share of the processors from answers.
const heapSlack = 48 << 20

// heapEvery is how often the heap is looked at. A heap that grows meanwhile is
// collected later than it should be by what it grew in that time.
const heapEvery = time.Second

// tuneHeap has the collector wait for heapSlack as long as that is more than the live
// heap itself; a large heap is collected as usual, when it has doubled. It returns
// when ctx ends. If GOGC is set, it does nothing.
func tuneHeap(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := [1]metrics.Sample{{Name: "/gc/heap/live:bytes"}} // see package runtime/metrics
	tick := time.NewTicker(heapEvery)
	defer tick.Stop()
	set := 100
	for {
		metrics.Read(live[:])
		if percent := heapPercent(live[0].Value); percent != set { //nolint:gosec // it has one
			debug.SetGCPercent(percent)
			set = percent
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func heapPercent(live metrics.Value) int {
	if live.Kind() != metrics.KindUint64 {
		return 100
	}
	return percentFor(live.Uint64())
}

func percentFor(live uint64) int {
	const least = 4 << 20                         // below it the collector's own minimum holds
	percent := heapSlack * 100 / max(live, least) // at most 1,200
	return max(100, int(percent/50*50))           //nolint:gosec // in steps: each change stops the world for a moment
}
