// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/store/disk"
	"rcptgate/store/storetest"
)

func openDisk(o DiskOptions) (store.Store, error) {
	return disk.Open(disk.Options{Dir: o.Dir, Entries: o.Entries, Log: o.Log, Notices: o.Notices, Renewed: o.Renewed})
}

// TestLostFileIsRefilled takes the file away while the store is open: what RAM knows
// of living mailboxes is written to the new one, and survives a restart.
func TestLostFileIsRefilled(t *testing.T) {
	t.Parallel()
	dir, log := testkit.Dir(t), slog.New(slog.DiscardHandler)
	open := func() *Tiers {
		t.Helper()
		m, err := Open(Config{Entries: 10_000, DiskEntries: 10_000}, Options{State: dir, Disk: openDisk, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		return unhurried(m)
	}
	name := func(i int) string { return fmt.Sprintf("user%d@example.com", i) }
	m, now := open(), time.Now()
	const n = refillBatch + 20
	for i := range n {
		m.Learn(name(i), now, func(store.Record) store.Record { return storetest.Valid(now) })
	}
	m.Learn("nobody@example.com", now, func(store.Record) store.Record { return storetest.Unknown("nobody@example.com", now) })
	onDisk := func() (count int) {
		_ = m.local.places[0].Range(context.Background(), store.Pattern{}, func(string, store.Record) bool { count++; return true })
		return count
	}
	wait(t, "everything is written", func() bool { return onDisk() == n+1 && m.local.places[0].Stats().Entries == n+1 })
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(filepath.Join(dir, disk.FileName+suffix), filepath.Join(dir, "taken"+suffix)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	wait(t, "the new file is refilled", func() bool { return onDisk() == n })
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m = open()
	defer func() { _ = m.Close() }()
	for i := range n {
		if _, source, ok := m.Recall(t.Context(), name(i)); !ok || source != "disk" {
			t.Fatalf("%s after the restart: known %v, by %q", name(i), ok, source)
		}
	}
}

func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
