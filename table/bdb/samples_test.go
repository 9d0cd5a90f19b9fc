// SPDX-License-Identifier: BSD-2-Clause

package bdb_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rcptgate/table/bdb"
)

// samples are the small files in testdata: each NAME.db with what db_dump prints of
// it in NAME.dump. RCPTGATE_BDB_SAMPLES=1 makes them anew with db_load.
var samples = []struct {
	name   string
	header string
	pairs  func() []pair
}{
	{"hash", "type=hash db_pagesize=512", plain(60)},
	{"hash-empty", "type=hash db_pagesize=512", plain(0)},
	{"hash-one", "type=hash db_pagesize=512 h_nelem=4096", plain(1)},
	{"hash-big-endian", "type=hash db_pagesize=512 db_lorder=4321 chksum=1", plain(60)},
	{"hash-fill", "type=hash db_pagesize=512 h_ffactor=4 h_nelem=30", plain(9)},
	{"hash-overflow", "type=hash db_pagesize=512", large(2500)},
	{"hash-dup", "type=hash db_pagesize=512 duplicates=1", many(4, 40)},
	{"hash-dup-sorted", "type=hash db_pagesize=512 duplicates=1 dupsort=1 chksum=1 db_lorder=4321", many(4, 60)},
	{"hash-64k", "type=hash db_pagesize=65536", plain(3)},
	{"btree", "type=btree db_pagesize=512", plain(60)},
	{"btree-empty", "type=btree db_pagesize=512", plain(0)},
	{"btree-big-endian", "type=btree db_pagesize=512 db_lorder=4321 chksum=1", plain(150)},
	{"btree-recnum", "type=btree db_pagesize=512 recnum=1", plain(60)},
	{"btree-overflow", "type=btree db_pagesize=512 chksum=1", large(2500)},
	{"btree-dup", "type=btree db_pagesize=512 duplicates=1 db_lorder=4321", many(4, 60)},
	{"btree-dup-sorted", "type=btree db_pagesize=512 duplicates=1 dupsort=1", many(3, 150)},
}

// plain makes n pairs as in an alias file, with the final NUL of Sendmail's.
func plain(n int) func() []pair {
	return func() []pair {
		var all []pair
		for i := range n {
			all = append(all, pair{fmt.Sprintf("user%02d\x00", i), fmt.Sprintf("%d@host%d.example.org\x00", i*i, i%7)})
		}
		return all
	}
}

// large makes values, and one key, that need overflow pages.
func large(n int) func() []pair {
	return func() []pair {
		r := rand.New(rand.NewPCG(1, 2))
		all := plain(5)()
		all[1].value = octets(r, n)
		all[2].value = octets(r, 200)
		all[3].key = "long" + octets(r, n/2)
		return append(all, pair{"empty", ""})
	}
}

// many makes keys of which one has n values, some on overflow pages.
func many(keys, n int) func() []pair {
	return func() []pair {
		r := rand.New(rand.NewPCG(3, 4))
		all := plain(keys)()
		for i := range n {
			all = append(all, pair{"list", fmt.Sprintf("member%03d", (i*37)%n)})
		}
		return append(all, pair{"list", octets(r, 700)}, pair{"few", "b"}, pair{"few", "a"}, pair{"few", "c"})
	}
}

func sampleFile(name string) string { return filepath.Join("testdata", name+".db") }

func TestMakeSamples(t *testing.T) {
	if os.Getenv("RCPTGATE_BDB_SAMPLES") == "" {
		t.Skip("makes the files in testdata: RCPTGATE_BDB_SAMPLES=1")
	}
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range samples {
		name := filepath.Join(dir, s.name+".db")
		_ = os.Remove(name) // it may not be there
		load(t, name, strings.Fields(s.header), s.pairs())
		out := dbDump(t).run(t, dir, nil, name)
		if err := os.WriteFile(filepath.Join(dir, s.name+".dump"), out, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSamples needs no tool: it holds Scan against what db_dump printed once.
func TestSamples(t *testing.T) {
	for _, s := range samples {
		t.Run(s.name, func(t *testing.T) {
			want := parseDump(t, mustRead(t, filepath.Join("testdata", s.name+".dump")))
			samePairs(t, s.name, mustScan(t, sampleFile(s.name)), want)
			if len(want) != len(s.pairs()) {
				t.Errorf("%d pairs, the sample was made of %d", len(want), len(s.pairs()))
			}
		})
	}
}

func TestStat(t *testing.T) {
	for name, want := range map[string]string{
		"hash":             "Berkeley DB hash, version 9, little endian, 512-octet pages, -1 entries",
		"hash-dup-sorted":  "Berkeley DB hash, version 9, big endian, 512-octet pages, checksums, sorted duplicates, -1 entries",
		"hash-64k":         "Berkeley DB hash, version 9, little endian, 65536-octet pages, -1 entries",
		"btree-big-endian": "Berkeley DB btree, version 9, big endian, 512-octet pages, checksums, -1 entries",
		"btree-dup":        "Berkeley DB btree, version 9, big endian, 512-octet pages, duplicates, -1 entries",
	} {
		data := mustRead(t, sampleFile(name))
		file := &countingFile{data: data}
		info, err := bdb.New().Stat(context.Background(), file, int64(len(data)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := fmt.Sprintf("%s, version %s, %s, %d entries", info.Type, info.Version, info.Detail, info.Entries)
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		if file.octets > 4096 {
			t.Errorf("%s: Stat read %d octets", name, file.octets)
		}
	}
}
