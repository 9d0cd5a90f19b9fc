// SPDX-License-Identifier: BSD-2-Clause

package bdb_test

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"rcptgate/kit/testkit"
	"rcptgate/table/tabletest"
	"rcptgate/test/lab"
)

// shape is how one random database is made.
type shape struct {
	kind     string
	header   []string
	dup      bool
	pageSize int
	seed     uint64
}

func randomShape(kind string, seed uint64) shape {
	r := rand.New(rand.NewPCG(seed, 53))
	s := shape{kind: kind, seed: seed, pageSize: 512 << r.IntN(8)}
	s.header = []string{"type=" + kind, "db_pagesize=" + strconv.Itoa(s.pageSize)}
	add := func(chance int, line string) bool {
		if r.IntN(chance) != 0 {
			return false
		}
		s.header = append(s.header, line)
		return true
	}
	add(2, "db_lorder="+[]string{"1234", "4321"}[r.IntN(2)])
	add(3, "chksum=1")
	if add(3, "duplicates=1") {
		s.dup = true
		add(2, "dupsort=1")
	}
	if kind == "hash" {
		nelem := 4096 // without a fill factor the MTAs' number: see nothingLost
		if add(4, "h_ffactor="+strconv.Itoa(1+r.IntN(60))) {
			nelem = 1 + r.IntN(2000)
		}
		add(3, "h_nelem="+strconv.Itoa(nelem))
	} else if !s.dup {
		add(4, "recnum=1")
	}
	return s
}

// octets returns n random octets: all values, or few, which makes keys alike.
func octets(r *rand.Rand, n int) string {
	b := make([]byte, n)
	few := r.IntN(3) == 0
	for i := range b {
		b[i] = byte(r.Uint32())
		if few {
			b[i] %= 3
		}
	}
	return string(b)
}

// size returns a length: mostly short, at times around a page, at times to 70,000.
func (s shape) size(r *rand.Rand) int {
	switch n := r.IntN(100); {
	case n < 70:
		return r.IntN(40)
	case n < 93:
		return r.IntN(200)
	case n < 98:
		return r.IntN(2 * s.pageSize)
	}
	return r.IntN(1<<r.IntN(17)) * 70000 / 65536
}

// pairs makes the content. Budget bounds its octets, and with it the time taken.
func (s shape) pairs(entries, budget int) []pair {
	r := rand.New(rand.NewPCG(s.seed, 54))
	n := int(math.Exp(r.Float64() * math.Log(float64(entries)+1)))
	var all []pair
	seen := map[pair]bool{} // sorted duplicates must differ
	for range n - 1 {
		p := pair{octets(r, s.size(r)), octets(r, s.size(r))}
		if s.dup && len(all) > 0 && r.IntN(3) > 0 {
			p.key = all[len(all)-1-r.IntN(min(len(all), 3))].key
		}
		if budget -= len(p.key) + len(p.value) + 8; budget < 0 {
			break
		}
		if !seen[p] {
			seen[p] = true
			all = append(all, p)
		}
	}
	return all
}

// written is what a file made of pairs has in it, in the file's order: that of a btree without duplicates is known, any
// other is what db_dump prints.
func (s shape) written(t *testing.T, name string, pairs []pair) []pair {
	t.Helper()
	if s.kind != "btree" || s.dup || tabletest.Big() {
		return dumped(t, name)
	}
	last := map[string]string{}
	for _, p := range pairs {
		last[p.key] = p.value
	}
	var all []pair
	for _, key := range slices.Sorted(maps.Keys(last)) {
		all = append(all, pair{key, last[key]})
	}
	return all
}

// TestRandomDatabases holds Scan against db_dump, entry by entry. RCPTGATE_TABLE_BIG=1
// makes ten times as many databases, up to a hundred times as large.
//
// With small pages and keys larger than those libdb 5.3 itself now and then fails
// to make a hash file, or makes one that its db_verify finds damaged (overflow
// pages linked twice): Scan must refuse none but those.
func TestRandomDatabases(t *testing.T) {
	loader := dbLoad(t)
	verify := need(t, lab.DatabaseKit, "usr/bin/db5.3_verify")
	count, entries, budget := 20, 5000, 100_000
	if tabletest.Big() {
		count, entries, budget = 200, 100_000, 16<<20
	}
	for _, kind := range []string{"hash", "btree"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			total, refused, name := 0, 0, filepath.Join(testkit.Dir(t), "x.db")
			for seed := range uint64(count) {
				s := randomShape(kind, seed)
				what := fmt.Sprintf("seed %d, %v", seed, s.header)
				_ = os.Remove(name) // the file of the seed before
				cmd := exec.Command(loader.path, name)
				pairs := s.pairs(entries, budget)
				cmd.Stdin = bytes.NewReader(dumpText(s.header, pairs))
				if cmd.Run() != nil {
					refused++
					continue
				}
				got, err := scanned(mustRead(t, name))
				if err != nil && exec.Command(verify.path, name).Run() != nil {
					refused++
					continue
				}
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				samePairs(t, what, got, s.written(t, name, pairs))
				total += len(got)
			}
			t.Logf("%d files, %d pairs; %d files that libdb could not make whole", count, total, refused)
			if refused > count/5 {
				t.Errorf("%d of %d files refused", refused, count)
			}
		})
	}
}
