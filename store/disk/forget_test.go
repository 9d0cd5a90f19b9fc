// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"rcptgate/store"
	"rcptgate/store/storetest"
)

// TestForgetLargeDomain takes several transactions: nothing of it is given
// meanwhile, and what is put after it was ordered stays.
func TestForgetLargeDomain(t *testing.T) {
	if testing.Short() {
		t.Skip("the full run without the race detector has it")
	}
	ctx, now := context.Background(), time.Now()
	s := open(t, t.TempDir(), 100_000)
	const n = 5*forgetBatch + 17
	for i := range n {
		_ = s.Put(ctx, numbered(i), storetest.Valid(now))
	}
	_ = s.Put(ctx, "a@other.example", storetest.Valid(now))
	written(t, s)
	// As Forget does, but with the writer in the middle of it.
	order := s.queue.forget(store.Tombstone{Pattern: store.Pattern{Domain: "dept.example.org"}, When: now})
	for i := range 300 {
		if i%2 == 0 {
			_ = s.Put(ctx, numbered(i), storetest.Full(numbered(i), now))
		} else if _, err := s.Get(ctx, numbered(i)); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("record %d was given after the order to forget it: %v", i, err)
		}
	}
	signal(s.urgent)
	if err := <-order.done; err != nil || order.n > n || order.n < n-150 { // the 150 may be overwritten first
		t.Fatalf("forgot %d of %d: %v", order.n, n, err)
	}
	written(t, s)
	for i := range 300 {
		if _, err := s.Get(ctx, numbered(i)); (err == nil) != (i%2 == 0) {
			t.Fatalf("record %d after the forget: %v", i, err)
		}
	}
	if st := s.Stats(); st.Entries != 151 {
		t.Errorf("%d records are left, want 151", st.Entries)
	}
}

// TestTombstonesAreBounded drops the oldest and remembers until when.
func TestTombstonesAreBounded(t *testing.T) {
	ctx, start := context.Background(), time.Now()
	s := open(t, t.TempDir(), 1000)
	f := s.file.Load()
	tomb := func(i int) store.Tombstone {
		return store.Tombstone{Pattern: store.Pattern{Address: fmt.Sprintf("u%d@example.org", i)}, When: start.Add(time.Duration(i) * time.Second)}
	}
	if _, err := s.Forget(ctx, tomb(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.db.ExecContext(ctx, "UPDATE sqlite_sequence SET seq = ? WHERE name = 'tombstones'", maxTombstones); err != nil {
		t.Fatal(err)
	}
	for i := 2; i < 5; i++ {
		if _, err := s.Forget(ctx, tomb(i)); err != nil {
			t.Fatal(err)
		}
	}
	list, floor, err := s.Tombstones(ctx, 0)
	if err != nil || len(list) != 3 || list[0].Generation != maxTombstones+1 || !floor.Equal(tomb(1).When) {
		t.Errorf("tombstones: %+v, floor %v, %v", list, floor.Sub(start), err)
	}
}
