// SPDX-License-Identifier: BSD-2-Clause

package bdb_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"rcptgate/kit/testkit"
	"rcptgate/table/bdb"
)

// BenchmarkScan reads alias files of real size from disk, as db_load makes them.
func BenchmarkScan(b *testing.B) {
	for _, kind := range []string{"hash", "btree"} {
		for _, n := range []int{200_000, 1_000_000} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				name := filepath.Join(testkit.Dir(b), "x.db")
				pairs := make([]pair, n)
				for i := range pairs {
					pairs[i] = pair{fmt.Sprintf("user%07d\x00", i), fmt.Sprintf("user%d@host%d.example.org\x00", i, i%100)}
				}
				load(b, name, []string{"type=" + kind, "db_pagesize=4096"}, pairs)
				file, err := os.Open(name)
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { _ = file.Close() })
				info, err := file.Stat()
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(info.Size())
				b.ReportAllocs()
				for b.Loop() {
					found := 0
					err := bdb.New().Scan(context.Background(), file, info.Size(), func(_, _ []byte) error { found++; return nil })
					if err != nil || found != n {
						b.Fatalf("%d pairs, %v", found, err)
					}
				}
			})
		}
	}
}
