// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rcptgate/kit/notice"
	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/store/storetest"
)

// TestNoDirectory starts where no state directory can be made, and finds it later.
func TestNoDirectory(t *testing.T) {
	t.Parallel()
	base := testkit.Dir(t)
	block := filepath.Join(base, "state")
	if err := os.WriteFile(block, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, now := context.Background(), time.Now()
	board := notice.New(slog.New(slog.DiscardHandler))
	s, err := Open(Options{Patience: patience, Dir: block, Entries: 1000, Notices: board})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	_ = s.Put(ctx, "queued@example.org", storetest.Valid(now))
	if _, err := s.Get(ctx, "queued@example.org"); err != nil {
		t.Errorf("what is queued is not given: %v", err)
	}
	if _, err := s.Get(ctx, "other@example.org"); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("a store without a file says %v", err)
	}
	if _, err := s.Forget(ctx, store.Tombstone{Pattern: store.Pattern{Address: "x@example.org"}, When: now}); err == nil {
		t.Error("a forget that is not on disk was called done")
	}
	if !strings.Contains(s.Stats().Detail, "state directory") || s.Stats().Errors == 0 {
		t.Errorf("stats: %+v", s.Stats())
	}
	if list := board.List(); len(list) != 1 || !strings.Contains(list[0].Text, "continuing without it") {
		t.Errorf("notices: %+v", list)
	}
	if err := os.Remove(block); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the store works again", func() bool { return s.Stats().Entries == 1 })
	testkit.Eventually(t, "the forget is done", func() bool {
		tombs, _, err := s.Tombstones(ctx, 0)
		return err == nil && len(tombs) == 1
	})
	if s.Stats().Detail != "" {
		t.Errorf("detail: %q", s.Stats().Detail)
	}
	if list := board.List(); len(list) > 0 {
		t.Errorf("notices: %+v", list)
	}
}

// TestWritableByAll does not trust a directory in which everybody can replace files.
func TestWritableByAll(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(testkit.Dir(t), "state")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, 1000)
	if !strings.Contains(s.Stats().Detail, "0777") {
		t.Errorf("detail: %q", s.Stats().Detail)
	}
}

// TestDiskFull goes on with what is there, and writes the rest when there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	ctx, now := context.Background(), time.Now()
	s := open(t, testkit.Dir(t), 100_000)
	_ = s.Put(ctx, "before@example.org", storetest.Valid(now))
	written(t, s)
	f := s.file.Load()
	if _, err := f.conn.ExecContext(ctx, "PRAGMA max_page_count = 20"); err != nil {
		t.Fatal(err)
	}
	for i := range 2000 {
		_ = s.Put(ctx, numbered(i), storetest.Full(numbered(i), now))
	}
	testkit.Eventually(t, "the full disk is noticed", func() bool { return strings.Contains(s.Stats().Detail, "full") })
	if _, err := s.Get(ctx, "before@example.org"); err != nil {
		t.Errorf("reading from a full disk: %v", err)
	}
	if s.file.Load() != f || s.aside.Load() != nil {
		t.Fatal("a full disk was taken for a damaged file")
	}
	if _, err := f.conn.ExecContext(ctx, "PRAGMA max_page_count = 1000000"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "everything is written", func() bool { return s.Stats().Entries == 2001 && s.Stats().Detail == "" })
}

// TestRemovedWhileOpen begins a new file when the old one was removed.
func TestRemovedWhileOpen(t *testing.T) {
	t.Parallel()
	ctx, now := context.Background(), time.Now()
	s := open(t, testkit.Dir(t), 1000)
	_ = s.Put(ctx, "a@example.org", storetest.Valid(now))
	written(t, s)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		_ = os.Remove(s.path + suffix)
	}
	testkit.Eventually(t, "a new file is begun", func() bool {
		_, err := os.Stat(s.path)
		return err == nil
	})
	testkit.Eventually(t, "it takes records", func() bool {
		_ = s.Put(ctx, "b@example.org", storetest.Valid(now))
		written(t, s)
		return s.Stats().Entries == 1
	})
}

// TestTruncatedIndexOfTheLog: answers.db-shm was truncated. The file is opened again.
func TestTruncatedIndexOfTheLog(t *testing.T) {
	t.Parallel()
	ctx, now := context.Background(), time.Now()
	s := open(t, testkit.Dir(t), 1000)
	_ = s.Put(ctx, numbered(0), storetest.Valid(now))
	written(t, s)
	if err := os.Truncate(s.path+"-shm", 0); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		_ = s.Put(ctx, numbered(i), storetest.Valid(now))
	}
	testkit.Eventually(t, "it takes records again", func() bool { return s.Stats().Entries == 100 && s.Stats().Detail == "" })
	for i := range 100 {
		if _, err := s.Get(ctx, numbered(i)); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
}

// TestEndedAreRemoved turns the clock.
func TestEndedAreRemoved(t *testing.T) {
	t.Parallel()
	ctx, now := context.Background(), time.Now()
	clock := make(chan time.Time, 1)
	clock <- now
	s, err := Open(Options{Patience: patience, Dir: testkit.Dir(t), Entries: 1000, Now: func() time.Time {
		at := <-clock
		clock <- at
		return at
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_ = s.Put(ctx, "valid@example.org", storetest.Valid(now))
	_ = s.Put(ctx, "no@example.org", storetest.Unknown("no@example.org", now))
	written(t, s)
	<-clock
	clock <- now.Add(2 * time.Hour)
	if _, err := s.Get(ctx, "no@example.org"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an answer that has ended: %v", err)
	}
	testkit.Eventually(t, "what ended is removed", func() bool { return s.Stats().Entries == 1 && s.Stats().Refusals == 0 })
}

// TestNothingIsTidiedAfterAJump: with a clock that has just jumped by a year nothing is
// deleted for having ended, and no tombstone for being old.
func TestNothingIsTidiedAfterAJump(t *testing.T) {
	t.Parallel()
	ctx, now := context.Background(), time.Now()
	var jumped atomic.Bool
	s, err := Open(Options{Patience: patience, Dir: testkit.Dir(t), Entries: 1000, Settled: func() bool { return !jumped.Load() }, Now: func() time.Time {
		if jumped.Load() {
			return now.AddDate(1, 0, 0)
		}
		return now
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_ = s.Put(ctx, "valid@example.org", storetest.Valid(now))
	if _, err := s.Forget(ctx, store.Tombstone{Pattern: store.Pattern{Domain: "gone.example"}, When: now}); err != nil {
		t.Fatal(err)
	}
	written(t, s)
	jumped.Store(true)
	if _, err := s.Forget(ctx, store.Tombstone{Pattern: store.Pattern{Domain: "other.example"}, When: now}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(retryEvery + 200*time.Millisecond) // the writer tidies in between
	jumped.Store(false)
	if _, err := s.Get(ctx, "valid@example.org"); err != nil {
		t.Errorf("a known-good recipient: %v", err)
	}
	if list, _, err := s.Tombstones(ctx, 0); len(list) != 2 || err != nil {
		t.Errorf("tombstones: %v, %v", list, err)
	}
}

// TestTombstonesOfTheFuture of a clock that was wrong are dropped with the next forget.
func TestTombstonesOfTheFuture(t *testing.T) {
	t.Parallel()
	ctx, now := context.Background(), time.Now()
	s := open(t, testkit.Dir(t), 1000)
	for i, when := range []time.Time{now.AddDate(1, 0, 0), now} {
		if _, err := s.Forget(ctx, store.Tombstone{Pattern: store.Pattern{Address: numbered(i)}, When: when}); err != nil {
			t.Fatal(err)
		}
	}
	if list, _, err := s.Tombstones(ctx, 0); len(list) != 1 || list[0].When.After(now.Add(time.Hour)) || err != nil {
		t.Errorf("tombstones: %v, %v", list, err)
	}
}

// TestHangingReaders never lets an asker wait longer than it wants to.
func TestHangingReaders(t *testing.T) {
	t.Parallel()
	s := open(t, testkit.Dir(t), 1000)
	real := s.file.Load()
	hung := &file{asks: make(chan ask), quit: make(chan struct{})}
	s.file.Store(hung)
	defer s.file.Store(real)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := s.Get(ctx, "a@example.org")
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 10*time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}
