// SPDX-License-Identifier: BSD-2-Clause

package bdb_test

import (
	"encoding/binary"
	"strings"
	"testing"
)

// put16 and put32 write into a page of a sample with 512-octet pages.
type edit func(data []byte)

func put8(page, at int, v byte) edit { return func(d []byte) { d[page*512+at] = v } }

func put16(page, at int, v uint16) edit {
	return func(d []byte) { binary.LittleEndian.PutUint16(d[page*512+at:], v) }
}

func put32(page, at int, v uint32) edit {
	return func(d []byte) { binary.LittleEndian.PutUint32(d[page*512+at:], v) }
}

func zero(page int) edit { return func(d []byte) { clear(d[page*512 : (page+1)*512]) } }

// TestCrafted breaks one rule at a time. Page numbers and offsets are those of the
// samples, as db_dump -da shows them.
func TestCrafted(t *testing.T) {
	for _, c := range []struct {
		sample string
		edits  []edit
		want   string
	}{
		// Pages.
		{"btree", []edit{put32(1, 484, 2)}, "page 1: points to page 2, which is already in use"},
		{"btree", []edit{put32(1, 484, 99)}, "page 1: points to page 99, the file has 8 pages"},
		{"btree", []edit{put32(1, 484, 0)}, "page 1: points to page 0"},
		{"btree", []edit{put16(2, 20, 0xfff0)}, "page 2: 65520 items and the lowest at 152 do not fit"},
		{"btree", []edit{put16(2, 22, 513)}, "page 2: 20 items and the lowest at 513 do not fit"},
		{"hash", []edit{put32(3, 16, 5)}, "page 3: points to page 5, which is already in use"},
		{"hash", []edit{put32(0, 96, 90)}, "page 0: bucket 0 is page 90"},
		// Overflow items.
		{"hash-overflow", []edit{put32(4, 12, 9)}, "page 4: previous page is 9, 3 is expected"},
		{"hash-overflow", []edit{put32(7, 16, 0)}, "an item of 2500 octets has 2430 on its overflow pages"},
		{"hash-overflow", []edit{put16(8, 22, 100)}, "page 8: the item is longer than its 2500 octets"},
		{"hash-overflow", []edit{put16(8, 22, 500)}, "page 8: the page has no room for 500 octets"},
		{"hash-overflow", []edit{put8(9, 25, 5)}, "page 9: has type 5, an overflow page (7) is expected"},
		{"hash-overflow", []edit{put32(1, 508, 0x7fffffff)}, "larger than the limit"},
		{"hash-overflow", []edit{put32(1, 508, 64<<20)}, "larger than the file"},
		// Hash.
		{"hash", []edit{put8(1, 511, 1)}, "stands in bucket 0"},
		{"hash", []edit{put16(1, 22, 260)}, "page 1: the lowest item is at 264, the header says 260"},
		{"hash", []edit{put16(1, 28, 504)}, "page 1: item 1 at 504 is not between 264 and 504"},
		{"hash", []edit{put16(1, 20, 15)}, "page 1: has an odd number of items, 15"},
		{"hash", []edit{put8(1, 25, 5)}, "page 1: has type 5, a hash page (13 or 2) is expected"},
		{"hash", []edit{put8(1, 504, 3)}, "page 1: item 0 has type 3 and takes 8 octets"},
		{"hash", []edit{put8(1, 504, 9)}, "page 1: item 0 has type 9 and takes 8 octets"},
		{"hash", []edit{put32(3, 12, 4)}, "page 3: previous page is 4, 5 is expected"},
		{"hash", []edit{zero(7)}, "page 7: is zero, but bucket 4 must have been written"},
		{"hash-one", []edit{put32(0, 88, 4098), zero(1)}, "page 0: the header counts 4098: 1 were found"},
		{"hash", []edit{put32(0, 88, 61)}, "page 0: the header counts 61: 60 were found"},
		{"hash", []edit{put32(0, 88, 4096+61)}, "page 0: the header counts 4157: 60 were found"},
		{"hash-dup", []edit{put8(1, 496, 2)}, "page 1: the lengths around a duplicate do not agree"},
		{"hash-dup", []edit{put32(0, 48, 0)}, "page 1: item 1 has type 2"},
		{"hash-dup", []edit{put8(3, 25, 5)}, "page 3: has type 5, the root of a tree of values is expected"},
		// Trees.
		{"btree", []edit{put32(3, 12, 9)}, "page 3: previous page is 9, 2 is expected"},
		{"btree", []edit{put32(3, 16, 7)}, "page 3: next page is 7, 4 is expected"},
		{"btree", []edit{put32(7, 16, 2)}, "page 7: next page is 2, but the tree ends here"},
		{"btree", []edit{put8(4, 24, 2)}, "page 4: has level 2, 1 is expected"},
		{"btree", []edit{put8(1, 24, 0)}, "page 1: has level 0, 1 is expected"},
		{"btree", []edit{put16(2, 22, 148)}, "page 2: items take 360 octets, the header says 364"},
		{"btree", []edit{put8(2, 25, 12)}, "page 2: has type 12, a leaf (5) is expected"},
		{"btree", []edit{put8(1, 25, 4)}, "page 1: has type 4, an internal page (3) is expected"},
		{"btree", []edit{put16(1, 20, 0), put16(1, 22, 512)}, "page 1: is an internal page without children"},
		{"btree", []edit{put16(2, 20, 19)}, "page 2: has an odd number of items, 19"},
		{"btree", []edit{put16(2, 26, 100)}, "page 2: item 0 at 100 is below 152"},
		{"btree", []edit{put16(2, 26, 502)}, "page 2: item 0 at 502 is below 152 or not a multiple of four"},
		{"btree", []edit{put16(2, 500, 0xfff0)}, "page 2: item 0 is none of this page"},
		{"btree", []edit{put8(2, 503, 'v')}, "page 2: keys are not in ascending order"},
		{"btree-dup-sorted", []edit{put8(11, 25, 9)}, "page 11: has type 9"},
		{"btree-dup-sorted", []edit{put8(8, 24, 3)}, "page 8: has level 3, 1 is expected"},
		// The meta page.
		{"btree", []edit{put32(0, 8, 5)}, "the meta page says it is page 5"},
	} {
		data := mustRead(t, sampleFile(c.sample))
		for _, e := range c.edits {
			e(data)
		}
		if _, err := hostile(t, data); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.sample, err, c.want)
		}
	}
	data := append(mustRead(t, sampleFile("btree")), make([]byte, 100)...)
	if _, err := hostile(t, data); err == nil || !strings.Contains(err.Error(), "not a multiple of the page size") {
		t.Errorf("a page begun at the end: %v", err)
	}
}

// TestCounts are those that a sound file of 60 keys can have.
func TestCounts(t *testing.T) {
	for _, keys := range []uint32{60, 4096 + 60, 2 * 60, 4096 + 2*60, 4096 + 3*60, 0, 59} {
		data := mustRead(t, sampleFile("hash"))
		put32(0, 88, keys)(data)
		if got, err := scanned(data); err != nil || len(got) != 60 {
			t.Errorf("%d keys counted: %d pairs, %v", keys, len(got), err)
		}
	}
}

// TestDeleted marks items as a delete in a file left open by a cursor does.
func TestDeleted(t *testing.T) {
	for _, c := range []struct {
		sample   string
		page, at int // the item's type
		key      string
	}{
		{"btree", 2, 478, "user00\x00"},
		{"btree-dup", 3, 502, "list"},
		{"hash-dup", 4, 502, "list"},
		{"btree-dup-sorted", 1, 374, "few"}, // the second of three values with one key item
	} {
		data := mustRead(t, sampleFile(c.sample))
		whole, err := scanned(data)
		if err != nil {
			t.Fatal(err)
		}
		data[c.page*512+c.at] |= 0x80
		got, err := scanned(data)
		if err != nil {
			t.Errorf("%s: %v", c.sample, err)
			continue
		}
		count := func(all []pair) (n int) {
			for _, p := range all {
				if p.key == c.key {
					n++
				}
			}
			return n
		}
		if len(got) != len(whole)-1 || count(got) != count(whole)-1 {
			t.Errorf("%s: %d pairs of %d, %d of %q, which were %d", c.sample, len(got), len(whole), count(got), c.key, count(whole))
		}
	}
}
