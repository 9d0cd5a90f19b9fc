// SPDX-License-Identifier: BSD-2-Clause

package bdb

import (
	"bytes"
	"math/bits"

	"rcptgate/kit/term"
)

// Types of items on hash pages, and the octets that references take.
const (
	hashOctets   = 1
	hashSeveral  = 2
	hashOverflow = 3
	hashTree     = 4

	hashOverflowSize = 12
	hashTreeSize     = 8
)

// mtaPreset is the number of keys that Sendmail and Postfix ask for when they make
// a hash file, and from which the library then counts.
const mtaPreset = 4096

// buckets walks a hash file.
func (s *scan) buckets() error {
	holes := 0
	for b := uint32(0); b <= s.maxBucket; b++ {
		at := 96 + 4*bits.Len32(b)
		no := uint64(b) + uint64(s.spares[bits.Len32(b)])
		if no >= uint64(s.pages) {
			return s.bad(0, at, "bucket %d is page %d, the file has %s", b, no, term.Count(s.pages, "page"))
		}
		hole, err := s.bucket(b, uint32(no), at)
		if err != nil {
			return err
		}
		if hole {
			holes++
			if err := s.mayBeHole(b, uint32(no)); err != nil {
				return err
			}
		}
	}
	if s.unsorted != nil && !s.bigKeys {
		return s.unsorted
	}
	return s.nothingLost(holes > 0)
}

// mayBeHole checks that bucket b may consist of a page that was never written. A
// new file has its last bucket written, and splitting a bucket writes both halves:
// without a fill factor a file begins with two buckets, and only the first of them
// can be a hole. With one, the writer asked for some number that is not kept.
func (s *scan) mayBeHole(b, no uint32) error {
	if b == s.maxBucket || s.fill == 0 && s.maxBucket > 1 {
		return s.bad(no, 0, "is zero, but bucket %d must have been written", b)
	}
	return nil
}

// nothingLost compares the count of keys with the meta page's, which shows a file
// that is half written. The library counts every key, but begins with the size that
// the writer asked for: 4,096 in both MTAs, otherwise nothing, and in a file that
// db_load made of another's dump with that file's count. It does not count at all
// in an environment with locks, which leaves fewer keys counted than there are. A
// file whose writer asked for another size is refused, since it could as well have
// lost keys; rebuilding it with the MTA's tool helps.
func (s *scan) nothingLost(holes bool) error {
	keys := uint64(s.keys)
	if s.fill != 0 || s.version < 8 || keys <= s.count {
		return nil // the size asked for can be anything, or the count is none
	}
	extra := keys - s.count
	if extra == mtaPreset {
		return nil
	}
	if !holes && s.count > 0 && (extra%s.count == 0 || extra > mtaPreset && (extra-mtaPreset)%s.count == 0) {
		return nil
	}
	return s.bad(0, 88, "the header counts %d: %d were found", keys, s.count)
}

// bucket walks one bucket's chain of pages, beginning with page no, and says
// whether it was never written.
func (s *scan) bucket(b, no uint32, at int) (hole bool, err error) {
	from, prev := page{}, uint32(0)
	for {
		p, err := s.read(no, from, at)
		if err != nil {
			return false, err
		}
		if prev == 0 && p.neverWritten() {
			s.release(p)
			return true, nil
		}
		if p.prev != prev {
			err = s.bad(no, 12, "previous page is %d, %d is expected", p.prev, prev)
		} else {
			err = s.hashPage(p, b)
		}
		s.release(p)
		if err != nil || p.next == 0 {
			return false, err
		}
		from, at, prev, no = page{no: no}, 16, no, p.next
	}
}

// hashPage passes on the pairs of one page of bucket b.
func (s *scan) hashPage(p page, b uint32) error {
	if err := s.hashItems(p); err != nil {
		return err
	}
	s.hasLast = false
	end := s.pageSize
	for i := 0; i < p.entries; i += 2 {
		at, vat := s.offset(p, i), s.offset(p, i+1)
		key := p.b[at+1 : end]
		if p.b[at] == hashOverflow {
			var err error
			s.bigKeys = true
			if key, err = s.overflow(p, at, &s.key); err != nil {
				return err
			}
		}
		if right := s.bucketOf(key); right != b {
			return s.bad(p.no, at, "a key of bucket %d stands in bucket %d", right, b)
		}
		if p.kind == pageHash {
			s.onSortedPage(p, at, key)
		}
		s.count++
		if err := s.hashValue(p, key, vat, at); err != nil {
			return err
		}
		end = vat
	}
	return nil
}

// onSortedPage holds a key against the one before it on its page. Of two keys of
// which one is the beginning of the other, the library puts the longer first, but
// the shorter where an overflow item is involved; so that in a file with overflow
// keys the order on a page can be any, and only the end of the walk decides. It
// also keeps several pairs for an empty key.
func (s *scan) onSortedPage(p page, at int, key []byte) {
	if s.hasLast && s.unsorted == nil {
		n := min(len(s.last), len(key))
		c := bytes.Compare(s.last[:n], key[:n])
		if c > 0 || c == 0 && len(s.last) <= len(key) && len(key) > 0 {
			s.unsorted = s.bad(p.no, at, "keys are not in the order of a sorted page")
		}
	}
	s.remember(key)
}

// bucketOf returns the bucket that a key belongs to.
func (s *scan) bucketOf(key []byte) uint32 {
	h := hashOf(key)
	if b := h & s.highMask; b <= s.maxBucket {
		return b
	}
	return h & s.lowMask
}

// hashItems checks all items of a page before any is used: each ends where the
// one before it begins, has a known type, and the size of its type.
func (s *scan) hashItems(p page) error {
	if p.kind != pageHash && p.kind != pageHashUnsorted {
		return s.bad(p.no, 25, "has type %d, a hash page (%d or %d) is expected", p.kind, pageHash, pageHashUnsorted)
	}
	low, err := s.room(p)
	if err != nil {
		return err
	}
	if p.entries%2 != 0 {
		return s.bad(p.no, 20, "has an odd number of items, %d", p.entries)
	}
	end := s.pageSize
	for i := range p.entries {
		at := s.offset(p, i)
		if at < low || at >= end {
			return s.bad(p.no, s.head+2*i, "item %d at %d is not between %d and %d", i, at, low, end)
		}
		if !s.hashItemFits(p.b[at], end-at, i) {
			return s.bad(p.no, at, "item %d has type %d and takes %s", i, p.b[at], term.Count(end-at, "octet"))
		}
		end = at
	}
	if end != low {
		return s.bad(p.no, 22, "the lowest item is at %d, the header says %d", end, low)
	}
	return nil
}

// hashItemFits says whether item i of a page may have this type and size.
func (s *scan) hashItemFits(kind byte, size, i int) bool {
	switch kind {
	case hashOctets:
		return true
	case hashSeveral:
		return i%2 == 1 && s.dup
	case hashOverflow:
		return size == hashOverflowSize
	case hashTree:
		return size == hashTreeSize && i%2 == 1 && s.dup
	}
	return false
}

// hashValue passes on the value, or values, at the offset at, which end at end.
func (s *scan) hashValue(p page, key []byte, at, end int) error {
	switch p.b[at] {
	case hashSeveral:
		return s.several(p, key, at, end)
	case hashTree:
		return s.valueTree(p, at+4, key)
	case hashOverflow:
		value, err := s.overflow(p, at, &s.val)
		if err != nil {
			return err
		}
		return s.emit(key, value)
	}
	return s.emit(key, p.b[at+1:end])
}

// several passes on the values of one item, each between two copies of its length.
func (s *scan) several(p page, key []byte, at, end int) error {
	for pos := at + 1; pos < end; {
		if end-pos < 4 {
			return s.bad(p.no, pos, "%s left over after a duplicate", term.Count(end-pos, "octet"))
		}
		n := s.u16(p.b, pos)
		if n > end-pos-4 || s.u16(p.b, pos+2+n) != n {
			return s.bad(p.no, pos, "the lengths around a duplicate do not agree")
		}
		if err := s.emit(key, p.b[pos+2:pos+2+n]); err != nil {
			return err
		}
		pos += n + 4
	}
	return nil
}
