// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"context"
	"errors"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/store/storetest"
)

// A line that is there although the filter knows nothing of it is replaced, and does
// not condemn the file.
func TestForeignLineIsReplaced(t *testing.T) {
	t.Parallel()
	dir, now, ctx := testkit.Dir(t), time.Now(), context.Background()
	s := open(t, dir, 1000)
	_ = s.Put(ctx, numbered(1), storetest.Valid(now))
	written(t, s)
	blind := newFilter(1000)
	blind.complete.Store(true)
	f := s.file.Load()
	filterOf(t, s)
	f.filters.current.Store(blind)
	rec := storetest.Valid(now)
	rec.Standing.Text = "the second"
	_ = s.Put(ctx, numbered(1), rec)
	written(t, s)
	if got, err := s.Get(ctx, numbered(1)); err != nil || got.Standing.Text != "the second" {
		t.Errorf("got %+v, %v", got.Standing, err)
	}
	if s.file.Load() != f || s.aside.Load() != nil {
		t.Error("the file was set aside")
	}
}

// A line under a domain that is not its key's, as earlier versions wrote findings and
// recipients that begin with "@", is as good as absent.
func TestLineOfAnEarlierVersion(t *testing.T) {
	t.Parallel()
	ctx, now := context.Background(), time.Now()
	s := open(t, testkit.Dir(t), 1000)
	const key = "@evil.example x@example.org"
	_ = s.Put(ctx, key, storetest.Unknown(key, now))
	written(t, s)
	if _, err := s.file.Load().conn.ExecContext(ctx, "UPDATE answers SET domain = 'evil.example'"); err != nil {
		t.Fatal(err)
	}
	if rec, err := s.Get(ctx, key); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("found %+v, %v", rec.Standing, err)
	}
	_ = s.Put(ctx, key, storetest.Valid(now))
	written(t, s)
	n := 0
	_ = s.Range(ctx, store.Pattern{}, func(_ string, rec store.Record) bool {
		n++
		if rec.Standing.Class != store.Valid {
			t.Errorf("listed: %+v", rec.Standing)
		}
		return true
	})
	if n != 1 {
		t.Errorf("%d records are listed", n)
	}
	if n, err := s.Forget(ctx, store.Tombstone{Pattern: store.Pattern{Domain: "example.org"}, When: now}); n != 1 || err != nil {
		t.Errorf("forgot %d, %v", n, err)
	}
}

// BenchmarkLine compares what a line costs with either statement.
func BenchmarkLine(b *testing.B) {
	full := storetest.Full("somebody@example.com", time.Now())
	usual := storetest.Valid(time.Now())
	for name, c := range map[string]struct {
		isNew bool
		rec   *store.Record
	}{"plain": {true, &usual}, "insert": {true, &full}, "replace": {false, &usual}} {
		b.Run(name, func(b *testing.B) {
			f, err := openFile(b.TempDir()+"/"+FileName, 1, openTimeout)
			if err != nil {
				b.Fatal(err)
			}
			defer f.close()
			ctx := context.Background()
			for i := range b.N {
				if i%batchSize == 0 {
					_, _ = f.conn.ExecContext(ctx, "BEGIN IMMEDIATE")
				}
				if err := f.put(ctx, c.isNew, &entry{int64(i + 1), partNew, numbered(i), c.rec}); err != nil {
					b.Fatal(err)
				}
				if i%batchSize == batchSize-1 || i == b.N-1 {
					_, _ = f.conn.ExecContext(ctx, "COMMIT")
				}
			}
		})
	}
}
