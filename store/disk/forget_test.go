// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/store/storetest"
)

// TestForgetLargeDomain takes several transactions: nothing of it is given
// meanwhile, and what is put after it was ordered stays.
func TestForgetLargeDomain(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the full run without the race detector has it")
	}
	ctx, now := context.Background(), time.Now()
	s := open(t, testkit.Dir(t), 100_000)
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
	t.Parallel()
	ctx, start := context.Background(), time.Now()
	s := open(t, testkit.Dir(t), 1000)
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

// TestForgetManyAddresses carries out at once what other gateways have forgotten: each
// is gone, has its tombstone, and both survive a restart.
func TestForgetManyAddresses(t *testing.T) {
	t.Parallel()
	ctx, now, dir := context.Background(), time.Now(), testkit.Dir(t)
	s := open(t, dir, 10_000)
	const n = 600
	for i := range n + 50 {
		_ = s.Put(ctx, numbered(i), storetest.Valid(now))
	}
	written(t, s)
	for i := n; i < n+50; i++ {
		_ = s.Put(ctx, numbered(i), storetest.Valid(now.Add(time.Second))) // some still wait to be written
	}
	var all sync.WaitGroup
	for i := range n + 50 {
		all.Go(func() {
			tomb := store.Tombstone{Pattern: store.Pattern{Address: numbered(i)}, When: now.Add(time.Duration(i))}
			if forgot, err := s.Forget(ctx, tomb); forgot != 1 || err != nil {
				t.Errorf("forgetting %d: %d, %v", i, forgot, err)
			}
		})
	}
	all.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, 10_000)
	list, _, err := s.Tombstones(ctx, 0)
	if err != nil || len(list) != n+50 {
		t.Fatalf("%d tombstones after a restart, want %d: %v", len(list), n+50, err)
	}
	for i := range n + 50 {
		if _, err := s.Get(ctx, numbered(i)); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("record %d is back after a restart: %v", i, err)
		}
	}
}

// TestRefusals lists what keeps mail out, alone or next to a valid answer.
func TestRefusals(t *testing.T) {
	t.Parallel()
	ctx, now := context.Background(), time.Now()
	s := open(t, testkit.Dir(t), 10_000)
	want := map[string]bool{}
	for i := range 3 * pageSize {
		key := numbered(i)
		switch i % 3 {
		case 0:
			_ = s.Put(ctx, key, storetest.Valid(now))
			continue
		case 1:
			_ = s.Put(ctx, key, storetest.Unknown(key, now))
		case 2:
			_ = s.Put(ctx, key, storetest.Full(key, now))
		}
		want[key] = true
	}
	written(t, s)
	if err := s.Refusals(ctx, func(key string) bool {
		if !want[key] {
			t.Errorf("%s was listed, or twice", key)
		}
		delete(want, key)
		return true
	}); err != nil || len(want) > 0 {
		t.Errorf("%d refusals were not listed: %v", len(want), err)
	}
}

// TestForgetManyDomains: thousands of domains, as other gateways may have forgotten them,
// take a few transactions and not one each: each is synced to the disk.
func TestForgetManyDomains(t *testing.T) {
	t.Parallel()
	ctx, now := context.Background(), time.Now()
	s := open(t, testkit.Dir(t), 1000)
	for i := range 20 {
		_ = s.Put(ctx, fmt.Sprintf("u@d%d.example", i), storetest.Valid(now))
	}
	written(t, s)
	const n = 800
	before := s.commits.Load()
	var all sync.WaitGroup
	total := atomic.Int64{}
	for i := range n {
		all.Go(func() {
			deleted, err := s.Forget(ctx, store.Tombstone{Pattern: store.Pattern{Domain: fmt.Sprintf("d%d.example", i)}, When: now})
			if err != nil {
				t.Error(err)
			}
			total.Add(int64(deleted))
		})
	}
	all.Wait()
	if total.Load() != 20 || s.Stats().Entries != 0 {
		t.Errorf("%d records were forgotten, %d are left", total.Load(), s.Stats().Entries)
	}
	if commits := s.commits.Load() - before; commits > n/4 {
		t.Errorf("%d domains took %d transactions", n, commits)
	}
}
