// SPDX-License-Identifier: BSD-2-Clause

package bdb

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"rcptgate/kit/term"
	"rcptgate/table"
)

const (
	pageHead    = 26 // header of a page without checksum
	pageHeadSum = 32 // and with one
	pageSumAt   = 28

	pageHashUnsorted  = 2
	pageBtreeInternal = 3
	pageRecnoInternal = 4
	pageBtreeLeaf     = 5
	pageRecnoLeaf     = 6
	pageOverflow      = 7
	pageDupLeaf       = 12
	pageHash          = 13

	// maxItem bounds one key or value, in octets.
	maxItem = 64 << 20
)

// page is one page with its header taken apart.
type page struct {
	no         uint32
	b          []byte
	kind       byte
	level      byte
	entries    int
	low        int // offset of the lowest item; on overflow pages the octets used
	prev, next uint32
}

// scan is one walk through a file.
type scan struct {
	*meta
	ctx  context.Context
	file io.ReaderAt
	emit func(key, value []byte) error

	used     []uint64 // a bit for each page that was read
	free     [][]byte // page buffers not in use
	key, val []byte   // overflow items
	last     []byte   // the previous key of a tree or a sorted page
	hasLast  bool

	// Hash files.
	count    uint64 // keys seen
	bigKeys  bool   // some are overflow items
	unsorted error  // the first key out of order on a sorted page
}

func newScan(ctx context.Context, file io.ReaderAt, m *meta, f func(key, value []byte) error) *scan {
	s := &scan{meta: m, ctx: ctx, file: file, emit: f, used: make([]uint64, (uint64(m.pages)+63)/64)}
	s.used[0] = 1 // the meta page
	return s
}

// bad is an error about the octet at within a page.
func (s *scan) bad(no uint32, at int, format string, args ...any) error {
	return table.Damaged(formatName, int64(no)*int64(s.pageSize)+int64(at), "page %d: %s", no, fmt.Sprintf(format, args...))
}

// buffer lends a page buffer; it goes back with release.
func (s *scan) buffer() []byte {
	if n := len(s.free); n > 0 {
		b := s.free[n-1]
		s.free = s.free[:n-1]
		return b
	}
	return make([]byte, s.pageSize)
}

func (s *scan) release(p page) { s.free = append(s.free, p.b) }

// read reads the page no, which from (a page and an offset in it) points to. The
// page's buffer must be released, unless there is an error. The type is left to
// the caller to check.
func (s *scan) read(no uint32, from page, at int) (page, error) {
	if err := s.ctx.Err(); err != nil {
		return page{}, fmt.Errorf("%s: reading page %d: %w", formatName, no, err)
	}
	if no == 0 || no >= s.pages {
		return page{}, s.bad(from.no, at, "points to page %d, the file has %s", no, term.Count(s.pages, "page"))
	}
	if s.used[no/64]&(1<<(no%64)) != 0 {
		return page{}, s.bad(from.no, at, "points to page %d, which is already in use elsewhere", no)
	}
	s.used[no/64] |= 1 << (no % 64)
	b := s.buffer()
	p, err := s.load(no, b)
	if err != nil {
		s.free = append(s.free, b)
	}
	return p, err
}

// load fills b with the page no and takes its header apart.
func (s *scan) load(no uint32, b []byte) (page, error) {
	if err := readFull(s.file, b, int64(no)*int64(s.pageSize)); err != nil {
		return page{}, err
	}
	p := page{
		no: no, b: b, level: b[24], kind: b[25],
		prev: s.u32(b, 12), next: s.u32(b, 16),
		entries: s.u16(b, 20), low: s.u16(b, 22),
	}
	if p.neverWritten() {
		return p, nil
	}
	if s.checksum && !s.sumHolds(b, pageSumAt) {
		return page{}, s.bad(no, pageSumAt, "checksum does not hold")
	}
	if says := s.u32(b, 8); says != no {
		return page{}, s.bad(no, 8, "says it is page %d", says)
	}
	return p, nil
}

// neverWritten recognises a hole in the file.
func (p page) neverWritten() bool {
	var zero [pageHead]byte
	return bytes.Equal(p.b[:pageHead], zero[:])
}

// room checks that the offsets of a page's items lie before its items, and
// returns the offset of the lowest item.
func (s *scan) room(p page) (int, error) {
	low := p.low
	if low == 0 && p.entries == 0 && s.pageSize == maxPageSize {
		low = maxPageSize // which does not fit into two octets
	}
	if end := s.head + 2*p.entries; low < end || low > s.pageSize {
		return 0, s.bad(p.no, 20, "%d items and the lowest at %d do not fit a page of %d octets", p.entries, low, s.pageSize)
	}
	return low, nil
}

// offset returns where item i of a page begins. The page has passed room.
func (s *scan) offset(p page, i int) int { return s.u16(p.b, s.head+2*i) }

// overflow collects an item from its chain of pages into buf, which grows with
// what was really read and not with what the item claims. The item's page number
// and length stand at at+4 and at+8 of p, for hash and btree pages alike.
func (s *scan) overflow(p page, at int, buf *[]byte) ([]byte, error) {
	first, size := s.u32(p.b, at+4), s.u32(p.b, at+8)
	if size > maxItem {
		return nil, s.bad(p.no, at+8, "an item of %d octets is larger than the limit of %d", size, maxItem)
	}
	if int64(size) > int64(s.pages)*int64(s.pageSize) {
		return nil, s.bad(p.no, at+8, "an item of %d octets is larger than the file", size)
	}
	out := (*buf)[:0]
	from, where, prev := p, at+4, uint32(0)
	for no := first; ; {
		o, err := s.read(no, from, where)
		if err != nil {
			return nil, err
		}
		s.release(o) // what is read below stays until the next read
		switch {
		case o.kind != pageOverflow:
			return nil, s.bad(no, 25, "has type %d, an overflow page (%d) is expected", o.kind, pageOverflow)
		case o.prev != prev:
			return nil, s.bad(no, 12, "previous page is %d, %d is expected", o.prev, prev)
		case o.low > s.pageSize-s.head:
			return nil, s.bad(no, 22, "the page has no room for %s", term.Count(o.low, "octet"))
		case uint64(len(out))+uint64(o.low) > uint64(size):
			return nil, s.bad(no, 22, "the item is longer than its %s", term.Count(size, "octet"))
		}
		out = append(out, o.b[s.head:s.head+o.low]...)
		*buf = out
		if o.next == 0 {
			break
		}
		from, where, prev, no = page{no: no}, 16, no, o.next
	}
	if len(out) != int(size) {
		return nil, s.bad(p.no, at+8, "an item of %d octets has %d on its overflow pages", size, len(out))
	}
	return out, nil
}

// inTree checks a tree's key against the one before it and remembers it.
func (s *scan) inTree(p page, at int, key []byte) error {
	if s.hasLast {
		if c := bytes.Compare(s.last, key); c > 0 || c == 0 && !s.dup {
			return s.bad(p.no, at, "keys are not in ascending order")
		}
	}
	s.remember(key)
	return nil
}

func (s *scan) remember(key []byte) { s.last, s.hasLast = append(s.last[:0], key...), true }
