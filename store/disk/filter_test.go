// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/store"
)

func TestFilter(t *testing.T) {
	t.Parallel()
	b := newFilter(10_000)
	for i := range 10_000 {
		b.add(fmt.Sprintf("user%d@example.com", i))
	}
	if b.lacks("nobody@example.com") {
		t.Error("a filter that is not complete knows nothing")
	}
	b.complete.Store(true)
	wrong := 0
	for i := range 10_000 {
		if b.lacks(fmt.Sprintf("user%d@example.com", i)) {
			t.Fatalf("user%d was added and is lacking", i)
		}
		if !b.lacks(fmt.Sprintf("other%d@example.com", i)) {
			wrong++
		}
	}
	if wrong > 100 {
		t.Errorf("%d of 10000 keys that were not added look as if they were", wrong)
	}
}

func valid(now time.Time) store.Record {
	return store.Record{Standing: store.Answer{Class: store.Valid, Code: 250, Backend: "smtp:[127.0.0.1]:25", Learnt: now, Refresh: now.Add(time.Hour), Expire: now.Add(2 * time.Hour)}}
}

// filterOf waits until the store's filter is complete.
func filterOf(t *testing.T, s *Store) *filter {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if f := s.file.Load(); f != nil {
			if b := f.filters.current.Load(); b.complete.Load() {
				return b
			}
		}
	}
	t.Fatal("the filter is never filled")
	return nil
}

// TestFilterKnowsTheFile: what was written before the file was opened is found, and
// what was not is known to be lacking without a look into the file.
func TestFilterKnowsTheFile(t *testing.T) {
	t.Parallel()
	dir, now := testkit.Dir(t), time.Now()
	s, err := Open(Options{Patience: patience, Dir: dir, Entries: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	const n = 2*filterPage + 7
	for i := range n {
		if err := s.Put(t.Context(), fmt.Sprintf("user%d@example.com", i), valid(now)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(Options{Patience: patience, Dir: dir, Entries: 10_000}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	b := filterOf(t, s)
	for i := range n {
		if _, err := s.Get(t.Context(), fmt.Sprintf("user%d@example.com", i)); err != nil {
			t.Fatalf("user%d: %v", i, err)
		}
	}
	if !b.lacks("nobody@example.com") {
		t.Error("nobody was never written, and might be there")
	}
	if _, err := s.Get(t.Context(), "nobody@example.com"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
}

// TestLacks: what waits to be written is not lacking, nor is what has just been written, nor
// anything while it is unknown what the file has.
func TestLacks(t *testing.T) {
	t.Parallel()
	ctx, now := t.Context(), time.Now()
	s := open(t, testkit.Dir(t), 10_000)
	filterOf(t, s)
	if !s.Lacks(numbered(0)) {
		t.Error("a key that nobody has written may be there")
	}
	var put sync.WaitGroup
	for i := range 8 { // against the writer, which takes orders out of the queue
		put.Go(func() {
			for k := i; k < 4000; k += 8 {
				_ = s.Put(ctx, numbered(k), valid(now))
				if s.Lacks(numbered(k)) || s.Lacks(numbered(i)) {
					t.Errorf("%s was put and is lacking", numbered(k))
				}
			}
		})
	}
	put.Wait()
	file := s.file.Load()
	s.file.Store(nil)
	if s.Lacks("nobody@example.com") {
		t.Error("without a file it is known what is in it")
	}
	s.file.Store(file)
}

// TestFilterIsRenewed: under writes that outgrow the filter it is filled anew, and
// at no moment is a key missing that was written.
func TestFilterIsRenewed(t *testing.T) {
	t.Parallel()
	s, err := Open(Options{Patience: patience, Dir: testkit.Dir(t), Entries: 2000})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	first, now := filterOf(t, s), time.Now()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // a key that is written again and again, and always there
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Microsecond):
				if _, err := s.Get(t.Context(), "steady@example.com"); err != nil && !errors.Is(err, store.ErrNotFound) {
					t.Errorf("steady: %v", err)
				}
			}
		}
	})
	renewed := false
	for round := 0; round < 40 && !renewed; round++ {
		for i := range 500 {
			_ = s.Put(t.Context(), fmt.Sprintf("user%d-%d@example.com", round, i), valid(now))
		}
		_ = s.Put(t.Context(), "steady@example.com", valid(now))
		waitWritten(t, s)
		if _, err := s.Get(t.Context(), "steady@example.com"); err != nil {
			t.Fatalf("round %d: steady was written and is lacking: %v", round, err)
		}
		if _, err := s.Get(t.Context(), fmt.Sprintf("user%d-0@example.com", round)); err != nil {
			t.Fatalf("round %d: what was just written is lacking: %v", round, err)
		}
		renewed = s.file.Load().filters.current.Load() != first
	}
	close(stop)
	wg.Wait()
	if !renewed {
		t.Error("the filter was never renewed")
	}
}

func waitWritten(t *testing.T, s *Store) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if n, _ := s.queue.len(); n == 0 {
			return
		}
	}
	t.Fatal("the queue is never empty")
}
