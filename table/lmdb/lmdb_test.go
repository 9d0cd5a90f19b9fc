// SPDX-License-Identifier: BSD-2-Clause

package lmdb_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"rcptgate/table/lmdb"
	"rcptgate/table/tabletest"
)

// samples were written by mdb_load, and their dumps by mdb_dump.
func samples(t testing.TB) []tabletest.Sample {
	t.Helper()
	var all []tabletest.Sample
	for _, name := range []string{"empty", "one", "mixed"} {
		data, err := os.ReadFile(filepath.Join("testdata", name+".lmdb"))
		if err != nil {
			t.Fatal(err)
		}
		dump, err := os.ReadFile(filepath.Join("testdata", name+".dump"))
		if err != nil {
			t.Fatal(err)
		}
		pairs, err := tabletest.ParseHexDump(dump)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, tabletest.Sample{Name: name, Data: data, Pairs: pairs, Page: 4096})
	}
	return all
}

func TestFormat(t *testing.T) {
	for _, s := range samples(t) {
		tabletest.Run(t, lmdb.New(), s)
	}
}

// TestRefused changes one field of a sound file each and wants an error that names it.
func TestRefused(t *testing.T) {
	sound := samples(t)[1].Data // 3 pages of 4096: two meta pages and a leaf
	for _, tc := range []struct {
		name, says string
		change     func(b []byte)
	}{
		{"magic", "magic number", func(b []byte) { b[16]++ }},
		{"other order", "big-endian", func(b []byte) { binary.BigEndian.PutUint32(b[16:], 0xbeefc0de) }},
		{"32 bits", "32-bit", func(b []byte) { copy(b[12:], b[16:20]); clear(b[16:20]) }},
		{"version", "data version 2", func(b []byte) { b[20] = 2 }},
		{"second meta page", "magic number", func(b []byte) { b[4096+16]++ }},
		{"no meta flag", "not a meta page", func(b []byte) { b[10] = 0 }},
		{"page size", "pages of 1000 octets", func(b []byte) { binary.LittleEndian.PutUint32(b[40:], 1000) }},
		{"page sizes differ", "meta pages disagree on", func(b []byte) { binary.LittleEndian.PutUint32(b[4096+40:], 8192) }},
		{"more pages than the file", "truncated", both(136, 77)},
		{"pages overflow", "truncated", both(136, ^uint64(0))},
		{"duplicates", "dupsort", both16(92, 0x04)},
		{"integer keys", "integer keys", both16(92, 0x08)},
		{"depth", "deep", both16(94, 999)},
		{"depth is a lie", "level", both16(94, 2)},
		{"entries", "the meta page says", both(120, 2)},
		{"leaves", "the meta page says", both(104, 2)},
		{"root is a meta page", "refers to page 1", both(128, 1)},
		{"root beyond the file", "refers to page 3", both(128, 3)},
		{"entries without a tree", "without a tree", both(128, ^uint64(0))},
		{"page number", "says that it is page 9", func(b []byte) { b[8192] = 9 }},
		{"free room", "free room", func(b []byte) { b[8192+12] = 3 }},
		{"node place", "lies outside", func(b []byte) { binary.LittleEndian.PutUint16(b[8192+16:], 4095) }},
		{"key length", "key of 65535", node(6, 0xff, 0xff)},
		{"data length", "reaches beyond", node(0, 0xff, 0xff)},
		{"subtree", "named database", node(4, 2, 0)},
		{"duplicate node", "dupsort", node(4, 4, 0)},
		{"unknown node", "flags 0x80", node(4, 0x80, 0)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data := bytes.Clone(sound)
			tc.change(data)
			if got, err := tabletest.Scan(lmdb.New(), data); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%q, %v; want an error with %q", got, err, tc.says)
			}
		})
	}
}

// TestTreeRefused damages the tree of a file with branch pages and overflow pages.
func TestTreeRefused(t *testing.T) {
	sound := samples(t)[2].Data
	le := binary.LittleEndian
	newer := 0
	if le.Uint64(sound[4096+144:]) > le.Uint64(sound[144:]) {
		newer = 4096
	}
	root := int(le.Uint64(sound[newer+128:])) * 4096
	first, second := root+int(le.Uint16(sound[root+16:])), root+int(le.Uint16(sound[root+18:]))
	for _, tc := range []struct {
		name, says string
		change     func(b []byte)
	}{
		{"one page twice", "out of order", func(b []byte) { copy(b[second:second+6], b[first:first+6]) }},
		{"pages out of order", "out of order", func(b []byte) {
			one := bytes.Clone(b[first : first+6])
			copy(b[first:first+6], b[second:second+6])
			copy(b[second:second+6], one)
		}},
		{"a loop", "level|more than once|deeper", func(b []byte) { le.PutUint16(b[first:], uint16(root/4096)) }},
		{"a page too few", "the meta page says", func(b []byte) { le.PutUint16(b[root+12:], le.Uint16(b[root+12:])-2) }},
		{"a branch without a leaf", "level 1 of", both16(94, 1)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data := bytes.Clone(sound)
			tc.change(data)
			if _, err := tabletest.Scan(lmdb.New(), data); err == nil || !regexp.MustCompile(tc.says).MatchString(err.Error()) {
				t.Errorf("%v; want an error with %q", err, tc.says)
			}
		})
	}
}

// TestFanOut is a small file whose tree claims exponentially many pages: each branch page names the next
// level's one many times. It must end with the file's number of pages, not with what the tree claims.
func TestFanOut(t *testing.T) {
	const page, levels = 4096, 20
	le := binary.LittleEndian
	data := make([]byte, page*(2+levels))
	copy(data, samples(t)[1].Data[:2*page])
	for level := range levels {
		p := data[(2+level)*page:]
		le.PutUint64(p, uint64(2+level))
		le.PutUint16(p[10:], 0x01)
		le.PutUint16(p[12:], 16+2*100)
		le.PutUint16(p[14:], page-8)
		for i := range 100 {
			le.PutUint16(p[16+2*i:], page-8)
		}
		le.PutUint16(p[page-8:], uint16(3+level))
	}
	for _, set := range []func([]byte){both(136, 1+levels), both(128, 2), both16(94, levels+1)} {
		set(data)
	}
	if _, err := tabletest.Scan(lmdb.New(), data); err == nil {
		t.Error("no error")
	}
	// The same with a last level of empty leaves, so that the tree is well formed but for its width.
	p := data[(1+levels)*page:]
	le.PutUint16(p[10:], 0x02)
	le.PutUint16(p[12:], 16)
	both16(94, levels)(data)
	if _, err := tabletest.Scan(lmdb.New(), data); err == nil || !strings.Contains(err.Error(), "more than once") {
		t.Errorf("%v; want pages met more than once", err)
	}
}

// both sets a field of both meta pages.
func both(at int, to uint64) func([]byte) {
	return func(b []byte) {
		binary.LittleEndian.PutUint64(b[at:], to)
		binary.LittleEndian.PutUint64(b[4096+at:], to)
	}
}

func both16(at int, to uint16) func([]byte) {
	return func(b []byte) {
		binary.LittleEndian.PutUint16(b[at:], to)
		binary.LittleEndian.PutUint16(b[4096+at:], to)
	}
}

// node changes two octets of the only node.
func node(at int, lo, hi byte) func([]byte) {
	return func(b []byte) {
		n := 8192 + int(binary.LittleEndian.Uint16(b[8192+16:])) + at
		b[n], b[n+1] = lo, hi
	}
}

func FuzzScan(f *testing.F) {
	for _, s := range samples(f) {
		if len(s.Data) < 20_000 { // small ones mutate best
			f.Add(s.Data)
		}
	}
	tabletest.Fuzz(f, lmdb.New())
}
