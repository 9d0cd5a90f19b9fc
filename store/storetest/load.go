// SPDX-License-Identifier: BSD-2-Clause

package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/store"
)

func testConcurrent(t *testing.T, s *suite) {
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range testkit.Rounds(60, 200) {
				mine := fmt.Sprintf("u%d-%d@example.org", g, i%20)
				common := fmt.Sprintf("common%d@example.org", i%10)
				if s.Put(ctx, mine, Valid(s.now)) != nil || s.Put(ctx, common, Unknown(common, s.now)) != nil {
					t.Error("put failed")
				}
				if rec, err := s.Get(ctx, mine); err != nil || !Equal(rec, Valid(s.now)) {
					t.Errorf("own %q: %v, %v", mine, rec.Standing, err)
				}
				if rec, err := s.Get(ctx, common); err == nil && !Equal(rec, Unknown(common, s.now)) {
					t.Errorf("common %q is mixed: %v", common, rec.Standing)
				}
				switch i % 50 {
				case 10:
					_ = s.Delete(ctx, common)
				case 20:
					_ = s.Range(ctx, store.Pattern{}, func(string, store.Record) bool { return true })
				case 30:
					_, _ = s.Forget(ctx, store.Tombstone{Pattern: store.Pattern{Domain: "other.example"}, When: s.now})
				}
				s.Stats()
			}
		})
	}
	all.Wait()
}

// settle waits until ok: places bound themselves in the background.
func settle(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 4800 {
		if ok() {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Errorf("%s never came true", what)
}

// testRefusals floods the store with made-up recipients.
func testRefusals(t *testing.T, s *suite) {
	const good = Entries / 2
	for i := range good {
		s.put(t, fmt.Sprintf("good%d@example.org", i), Valid(s.now))
	}
	settle(t, "what was put is kept", func() bool { return s.Stats().Entries >= good })
	flood := testkit.Rounds(6, 20) * Entries
	for i := range flood {
		key := fmt.Sprintf("flood%d@example.org", i)
		s.put(t, key, Unknown(key, s.now))
	}
	settle(t, "the refusals' share", func() bool {
		st := s.Stats()
		return st.Refusals <= Entries/10 && st.Entries <= Entries && st.Evicted+st.Errors >= uint64(flood-2*Entries)
	})
	lost := 0
	for i := range good {
		if _, err := s.Get(ctx, fmt.Sprintf("good%d@example.org", i)); err != nil {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("a flood of refusals evicted %d of %d valid records", lost, good)
	}
}

// testFloodOfValid floods the store with addresses that the backend accepts and
// are not asked for again, while others are in use.
func testFloodOfValid(t *testing.T, s *suite) {
	const used = Entries / 4
	key := func(i int) string { return fmt.Sprintf("used%d@example.org", i) }
	for i := range used {
		s.put(t, key(i), Valid(s.now.Add(-25*time.Hour)))
	}
	for i := range used { // a day later they were asked for again
		s.put(t, key(i), Valid(s.now))
		for range 4 {
			s.has(t, key(i), Valid(s.now))
		}
	}
	settle(t, "what was put is kept", func() bool { return s.Stats().Entries >= used })
	flood := testkit.Rounds(6, 20) * Entries
	for i := range flood {
		s.put(t, fmt.Sprintf("user+%d@example.org", i), Valid(s.now))
		if i%40 == 0 {
			_, _ = s.Get(ctx, key(i/40%used))
		}
	}
	settle(t, "the bound", func() bool {
		st := s.Stats()
		return st.Entries <= Entries && st.Evicted+st.Errors >= uint64(flood-2*Entries)
	})
	kept := 0
	for i := range used {
		if _, err := s.Get(ctx, key(i)); err == nil {
			kept++
		}
	}
	if kept < used*9/10 {
		t.Errorf("a flood of accepted addresses left %d of %d that are in use", kept, used)
	}
}

func testClosed(t *testing.T, s *suite) {
	s.put(t, "a@example.org", Valid(s.now))
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	_, errGet := s.Get(ctx, "a@example.org")
	_, errForget := s.Forget(ctx, store.Tombstone{When: s.now})
	for what, err := range map[string]error{
		"get": errGet, "forget": errForget,
		"put":    s.Put(ctx, "a@example.org", Valid(s.now)),
		"delete": s.Delete(ctx, "a@example.org"),
		"range":  s.Range(ctx, store.Pattern{}, func(string, store.Record) bool { return true }),
	} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s after close: %v, want ErrClosed", what, err)
		}
	}
	s.Stats()
}
