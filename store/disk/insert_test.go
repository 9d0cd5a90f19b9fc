// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"context"
	"testing"
	"time"

	"rcptgate/store"
	"rcptgate/store/storetest"
)

// A line that is there although the filter knows nothing of it is replaced, and does
// not condemn the file.
func TestForeignLineIsReplaced(t *testing.T) {
	dir, now, ctx := t.TempDir(), time.Now(), context.Background()
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

// BenchmarkLine compares what a line costs with either statement.
func BenchmarkLine(b *testing.B) {
	full := storetest.Full("somebody@example.com", time.Now())
	usual := storetest.Valid(time.Now())
	for name, c := range map[string]struct {
		isNew bool
		rec   *store.Record
	}{"plain": {true, &usual}, "insert": {true, &full}, "replace": {false, &usual}} {
		b.Run(name, func(b *testing.B) {
			f, err := openFile(b.TempDir()+"/"+FileName, 1)
			if err != nil {
				b.Fatal(err)
			}
			defer f.close()
			ctx := context.Background()
			for i := range b.N {
				if i%batchSize == 0 {
					_, _ = f.conn.ExecContext(ctx, "BEGIN IMMEDIATE")
				}
				if err := f.put(ctx, c.isNew, values(int64(i+1), partNew, numbered(i), c.rec), c.rec); err != nil {
					b.Fatal(err)
				}
				if i%batchSize == batchSize-1 || i == b.N-1 {
					_, _ = f.conn.ExecContext(ctx, "COMMIT")
				}
			}
		})
	}
}
