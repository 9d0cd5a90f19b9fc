// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"context"
	"os"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/store/storetest"
)

// TestMillion measures a file of a million records: filling it, the first answer
// after a restart, look-ups, and forgetting half of it. It asserts only the
// restart. RCPTGATE_BENCH=1 starts it.
func TestMillion(t *testing.T) {
	if os.Getenv("RCPTGATE_BENCH") == "" {
		t.Skip("RCPTGATE_BENCH=1 measures a million records")
	}
	const n = 1_000_000
	dir, now, ctx := testkit.Dir(t), time.Now(), context.Background()
	s := open(t, dir, 2*n)
	start := time.Now()
	for i := range n {
		_ = s.Put(ctx, numbered(i), storetest.Valid(now))
		for i%1000 == 0 {
			if waiting, _ := s.queue.len(); waiting < queueLimit/2 {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	written(t, s)
	t.Logf("%.0f puts/s", n/time.Since(start).Seconds())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(s.path); err == nil {
		t.Logf("%d octets a record in the file", info.Size()/n)
	}
	start = time.Now()
	s = open(t, dir, 2*n)
	if _, err := s.Get(ctx, numbered(n/2)); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	t.Logf("restart to first answer: %v; %d entries", took, s.Stats().Entries)
	if took > 2*time.Second {
		t.Errorf("the restart took %v, want under 2s", took)
	}
	start = time.Now()
	for i := range 20_000 {
		if _, err := s.Get(ctx, "no"+numbered(i)); err == nil {
			t.Fatal("found what was never put")
		}
	}
	t.Logf("look-up of an unknown key: %v", time.Since(start)/20_000)
	start = time.Now()
	for i := range 20_000 {
		if _, err := s.Get(ctx, numbered(i*49)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("look-up of a known key: %v", time.Since(start)/20_000)
	written(t, s)
	start = time.Now()
	forgotten, err := s.Forget(ctx, store.Tombstone{Pattern: store.Pattern{Domain: "dept.example.org"}, When: now})
	t.Logf("forgetting a domain of %d: %v, %v", forgotten, time.Since(start), err)
}
