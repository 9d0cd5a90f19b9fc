// SPDX-License-Identifier: BSD-2-Clause

package bdb

import "rcptgate/kit/term"

// Types of items on btree and recno pages; the top bit marks a deleted item.
const (
	treeOctets   = 1
	treeValues   = 2
	treeOverflow = 3
	treeDeleted  = 0x80

	treeItemHead     = 3
	treeRefSize      = 12
	treeInternalHead = 12
	recnoItemSize    = 8

	leafLevel = 1
)

// tree is a walk through one tree, leaf by leaf in key order.
type tree struct {
	s        *scan
	internal byte // types of its pages
	leaf     byte
	last     page // the leaf before, without its octets; zero before the first
	visit    func(p page) error
}

// btree walks a btree file.
func (s *scan) btree() error {
	t := tree{s: s, internal: pageBtreeInternal, leaf: pageBtreeLeaf}
	t.visit = s.pairs
	return t.walk(s.root, page{}, 88)
}

// valueTree walks the tree of one key's values, whose root's number stands at the
// offset at of p.
func (s *scan) valueTree(p page, at int, key []byte) error {
	t := tree{s: s}
	t.visit = func(leaf page) error { return s.values(leaf, key) }
	return t.walk(s.u32(p.b, at), p, at)
}

// walk goes through the tree below root.
func (t *tree) walk(root uint32, from page, at int) error {
	p, err := t.s.read(root, from, at)
	if err != nil {
		return err
	}
	defer t.s.release(p)
	if t.leaf == 0 {
		switch p.kind {
		case pageBtreeInternal, pageDupLeaf:
			t.internal, t.leaf = pageBtreeInternal, pageDupLeaf
		case pageRecnoInternal, pageRecnoLeaf:
			t.internal, t.leaf = pageRecnoInternal, pageRecnoLeaf
		default:
			return t.s.bad(root, 25, "has type %d, the root of a tree of values is expected", p.kind)
		}
	}
	if err := t.below(p, p.level); err != nil {
		return err
	}
	if t.last.next != 0 {
		return t.s.bad(t.last.no, 16, "next page is %d, but the tree ends here", t.last.next)
	}
	return nil
}

// below goes through the subtree of p, which must have the given level. Levels
// fall by one with each step, which bounds the depth.
func (t *tree) below(p page, level byte) error {
	if p.level != level || level == 0 {
		return t.s.bad(p.no, 24, "has level %d, %d is expected", p.level, max(level, leafLevel))
	}
	if level == leafLevel {
		return t.atLeaf(p)
	}
	if p.kind != t.internal {
		return t.s.bad(p.no, 25, "has type %d, an internal page (%d) is expected", p.kind, t.internal)
	}
	if err := t.s.treeItems(p); err != nil {
		return err
	}
	if p.entries == 0 {
		return t.s.bad(p.no, 20, "is an internal page without children")
	}
	for i := range p.entries {
		at := t.s.offset(p, i)
		if p.kind == pageBtreeInternal {
			at += 4
		}
		child, err := t.s.read(t.s.u32(p.b, at), p, at)
		if err != nil {
			return err
		}
		err = t.below(child, level-1)
		t.s.release(child)
		if err != nil {
			return err
		}
	}
	return nil
}

// atLeaf checks a leaf's place in the chain of leaves and visits it.
func (t *tree) atLeaf(p page) error {
	switch {
	case p.kind != t.leaf:
		return t.s.bad(p.no, 25, "has type %d, a leaf (%d) is expected", p.kind, t.leaf)
	case p.prev != t.last.no:
		return t.s.bad(p.no, 12, "previous page is %d, %d is expected", p.prev, t.last.no)
	case t.last.no != 0 && t.last.next != p.no:
		return t.s.bad(t.last.no, 16, "next page is %d, %d is expected", t.last.next, p.no)
	}
	t.last = page{no: p.no, next: p.next}
	if err := t.s.treeItems(p); err != nil {
		return err
	}
	return t.visit(p)
}

// treeItems checks all items of a page before any is used: they lie inside the
// page and fill it from the lowest to the end.
func (s *scan) treeItems(p page) error {
	low, err := s.room(p)
	if err != nil {
		return err
	}
	if p.kind == pageBtreeLeaf && p.entries%2 != 0 {
		return s.bad(p.no, 20, "has an odd number of items, %d", p.entries)
	}
	sum := 0
	for i := range p.entries {
		at := s.offset(p, i)
		if at < low || at%4 != 0 {
			return s.bad(p.no, s.head+2*i, "item %d at %d is below %d or not a multiple of four", i, at, low)
		}
		if s.sharesKey(p, i) {
			continue
		}
		n := s.treeItemSize(p, at)
		if n == 0 || n > s.pageSize-at {
			return s.bad(p.no, at, "item %d is none of this page", i)
		}
		sum += n
	}
	if sum != s.pageSize-low {
		return s.bad(p.no, 22, "items take %s, the header says %d", term.Count(sum, "octet"), s.pageSize-low)
	}
	return nil
}

// sharesKey says whether item i is the key of the pair before it once more.
func (s *scan) sharesKey(p page, i int) bool {
	return p.kind == pageBtreeLeaf && i%2 == 0 && i > 0 && s.dup && s.offset(p, i) == s.offset(p, i-2)
}

// treeItemSize returns the octets that the item at the offset at takes on its
// page, or 0 if that kind of page has no such item. The item may reach beyond the
// page.
func (s *scan) treeItemSize(p page, at int) int {
	if p.kind == pageRecnoInternal {
		return recnoItemSize
	}
	if s.pageSize-at < treeItemHead+1 {
		return 0
	}
	kind := p.b[at+2] &^ treeDeleted
	switch {
	case p.kind == pageBtreeInternal && (kind == treeOctets || kind == treeOverflow):
		return align(treeInternalHead + s.u16(p.b, at))
	case p.kind == pageBtreeInternal:
		return 0
	case kind == treeOctets:
		return align(treeItemHead + s.u16(p.b, at))
	case kind == treeOverflow, kind == treeValues && p.kind == pageBtreeLeaf && s.dup:
		return treeRefSize
	}
	return 0
}

func align(n int) int { return (n + 3) &^ 3 }

// pairs passes on the pairs of a leaf of the file's own tree.
func (s *scan) pairs(p page) error {
	var key []byte
	fresh := true // key is not that of item i
	for i := 0; i < p.entries; i += 2 {
		at, vat := s.offset(p, i), s.offset(p, i+1)
		fresh = fresh || !s.sharesKey(p, i)
		if p.b[vat+2]&treeDeleted != 0 {
			continue
		}
		if fresh {
			var err error
			if key, err = s.treeOctets(p, at, &s.key); err != nil {
				return err
			}
			if err := s.inTree(p, at, key); err != nil {
				return err
			}
			fresh = false
		}
		if err := s.treeValue(p, vat, key); err != nil {
			return err
		}
	}
	return nil
}

// treeValue passes on the value, or values, of one pair.
func (s *scan) treeValue(p page, at int, key []byte) error {
	if p.b[at+2] == treeValues {
		return s.valueTree(p, at+4, key)
	}
	value, err := s.treeOctets(p, at, &s.val)
	if err != nil {
		return err
	}
	return s.emit(key, value)
}

// values passes on the values that a leaf of a key's own tree holds.
func (s *scan) values(p page, key []byte) error {
	for i := range p.entries {
		at := s.offset(p, i)
		if p.b[at+2]&treeDeleted != 0 {
			continue
		}
		value, err := s.treeOctets(p, at, &s.val)
		if err != nil {
			return err
		}
		if err := s.emit(key, value); err != nil {
			return err
		}
	}
	return nil
}

// treeOctets returns an item's octets: from the page, or collected into buf.
func (s *scan) treeOctets(p page, at int, buf *[]byte) ([]byte, error) {
	switch p.b[at+2] &^ treeDeleted {
	case treeOverflow:
		return s.overflow(p, at, buf)
	case treeOctets:
		return p.b[at+treeItemHead:][:s.u16(p.b, at)], nil
	}
	return nil, s.bad(p.no, at, "a key cannot be a tree of values")
}
