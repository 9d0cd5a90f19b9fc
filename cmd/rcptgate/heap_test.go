// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"runtime/metrics"
	"testing"
)

func TestASmallHeapIsCollectedLaterALargeOneAsUsual(t *testing.T) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if live[0].Value.Kind() != metrics.KindUint64 {
		t.Fatal("the runtime no longer tells how large the live heap is")
	}
	if p := heapPercent(live[0].Value); p < 100 || p > 1200 {
		t.Errorf("this test's own heap of %d octets would be collected after growing by %d %%", live[0].Value.Uint64(), p)
	}
	for _, tc := range []struct {
		live uint64
		want int
	}{
		{0, 1200}, {4 << 20, 1200}, {24 << 20, 200}, {48 << 20, 100}, {1 << 30, 100},
	} {
		if got := percentFor(tc.live); got != tc.want {
			t.Errorf("live heap of %d MiB: may grow by %d %%, want %d", tc.live>>20, got, tc.want)
		}
	}
}
