// SPDX-License-Identifier: BSD-2-Clause

package lmdb

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"rcptgate/kit/term"
	"rcptgate/table"
)

// Scan implements table.Format. The order is that of the keys.
func (format) Scan(ctx context.Context, file io.ReaderAt, size int64, f func(key, value []byte) error) error {
	m, err := readMeta(file, size)
	if err != nil {
		return err
	}
	if m.tree.root == noPage {
		if m.tree.entries != 0 {
			return table.Damaged(name, 136, "%d entries without a tree", m.tree.entries)
		}
		return nil
	}
	w := &walk{ctx: ctx, meta: m, file: file, long: table.NewWindow(file, size), f: f}
	if err := w.page(m.tree.root, 1); err != nil {
		return err
	}
	t := &m.tree
	if w.entries != t.entries || w.branches != t.branch || w.leaves != t.leaf || w.overflow != t.overflow {
		return table.Damaged(name, -1, "%d entries on %d branch, %d leaf and %d overflow pages; the meta page says %d on %d, %d and %d",
			w.entries, w.branches, w.leaves, w.overflow, t.entries, t.branch, t.leaf, t.overflow)
	}
	return nil
}

// walk goes through a tree once. In a sound tree no page is met twice, so the pages
// visited are bounded by those of the file.
type walk struct {
	ctx  context.Context //nolint:containedctx // a walk is one call
	meta meta
	file io.ReaderAt
	long *table.Window // for overflow pages
	f    func(key, value []byte) error

	bufs                                [maxDepth + 1][]byte // one page a level
	last                                []byte               // key passed last
	visited                             uint64
	entries, branches, leaves, overflow uint64
}

func (w *walk) damaged(page uint64, format string, args ...any) error {
	return table.Damaged(name, int64(page)*w.meta.pageSize, "page %d: %w", page, fmt.Errorf(format, args...)) // #nosec G115 -- below the number of pages
}

// visit counts a page, or n of them, before they are read.
func (w *walk) visit(page, n uint64) error {
	if page < 2 || page >= w.meta.pages || n > w.meta.pages-page {
		return table.Damaged(name, -1, "the tree refers to page %d and the %d after it, the file has %d", page, n-1, w.meta.pages)
	}
	if w.visited += n; w.visited > w.meta.pages {
		return w.damaged(page, "the tree refers to pages more than once")
	}
	return w.ctx.Err()
}

// page walks the subtree below a page.
func (w *walk) page(number uint64, depth int) error {
	if depth > int(w.meta.tree.depth) {
		return w.damaged(number, "deeper than the %s of the tree", term.Count(w.meta.tree.depth, "level"))
	}
	if err := w.visit(number, 1); err != nil {
		return err
	}
	p, err := w.read(number, depth)
	if err != nil {
		return err
	}
	leaf := p.flags() == flagLeaf
	if leaf != (depth == int(w.meta.tree.depth)) || !leaf && p.flags() != flagBranch {
		return w.damaged(number, "flags 0x%x on level %d of %d", p.flags(), depth, w.meta.tree.depth)
	}
	count, err := p.count()
	if err != nil {
		return w.damaged(number, "%w", err)
	}
	if leaf {
		w.leaves++
		return w.leaf(number, p, count)
	}
	w.branches++
	for i := range count {
		n, err := p.node(i)
		if err != nil {
			return w.damaged(number, "%w", err)
		}
		if err := w.page(n.child(), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// read fills the buffer of a level with a page.
func (w *walk) read(number uint64, depth int) (page, error) {
	size := w.meta.pageSize
	if w.bufs[depth] == nil {
		w.bufs[depth] = make([]byte, size)
	}
	p := page(w.bufs[depth])
	if n, err := w.file.ReadAt(p, int64(number)*size); n < len(p) { // #nosec G115 -- below the number of pages
		return nil, w.damaged(number, "reading it: %w", err)
	}
	if own := binary.LittleEndian.Uint64(p); own != number {
		return nil, w.damaged(number, "it says that it is page %d", own)
	}
	return p, nil
}

func (w *walk) leaf(number uint64, p page, count int) error {
	for i := range count {
		n, err := p.node(i)
		if err != nil {
			return w.damaged(number, "%w", err)
		}
		if w.entries > 0 && bytes.Compare(w.last, n.key) >= 0 {
			return w.damaged(number, "node %d: keys out of order", i)
		}
		w.last = append(w.last[:0], n.key...)
		value, err := w.value(number, p, &n)
		if err != nil {
			return err
		}
		w.entries++
		if err := w.f(n.key, value); err != nil {
			return err
		}
	}
	return nil
}

// value is a node's data, from its own page or from overflow pages.
func (w *walk) value(number uint64, p page, n *node) ([]byte, error) {
	size := int64(n.dataSize())
	switch n.flags {
	case 0:
		if size > int64(len(n.rest)) {
			return nil, w.damaged(number, "data of %d octets reaches beyond the page", size)
		}
		return n.rest[:size:size], nil
	case nodeOverflow:
	case nodeSubtree:
		return nil, w.damaged(number, "a named database, which no MTA writes")
	case nodeDuplicate, nodeDuplicate | nodeSubtree:
		return nil, w.damaged(number, "duplicates (dupsort), which no MTA writes")
	default:
		return nil, w.damaged(number, "node with flags 0x%x", n.flags)
	}
	if len(n.rest) < 8 {
		return nil, w.damaged(number, "reference to an overflow page reaches beyond the page")
	}
	first := binary.LittleEndian.Uint64(n.rest)
	pages := uint64((pageHead + size + w.meta.pageSize - 1) / w.meta.pageSize) // #nosec G115 -- not negative
	if err := w.visit(first, pages); err != nil {
		return nil, err
	}
	w.overflow += pages
	at := int64(first) * w.meta.pageSize // #nosec G115 -- below the number of pages
	head, err := w.long.At(at, pageHead)
	if err != nil {
		return nil, w.damaged(first, "reading it: %w", err)
	}
	if o := page(head); binary.LittleEndian.Uint64(o) != first || o.flags() != flagOverflow || uint64(binary.LittleEndian.Uint32(o[12:])) < pages {
		return nil, w.damaged(first, "not the first of %d overflow pages", pages)
	}
	value, err := w.long.At(at+pageHead, int(size))
	if err != nil {
		return nil, w.damaged(first, "reading %s: %w", term.Count(size, "octet"), err)
	}
	return value, nil
}

// page is a page's octets.
type page []byte

func (p page) flags() uint16 { return binary.LittleEndian.Uint16(p[10:]) }

// count is the number of nodes.
func (p page) count() (int, error) {
	lower, upper := int(binary.LittleEndian.Uint16(p[12:])), int(binary.LittleEndian.Uint16(p[14:]))
	if lower < pageHead || lower > len(p) || lower%2 != 0 || upper < lower || upper > len(p) {
		return 0, fmt.Errorf("free room from %d to %d", lower, upper)
	}
	return (lower - pageHead) / 2, nil
}

// node is one entry of a page.
type node struct {
	lo, hi, flags uint16
	key, rest     []byte // rest reaches to the end of the page
}

func (p page) node(i int) (node, error) {
	at := int(binary.LittleEndian.Uint16(p[pageHead+2*i:]))
	if at < pageHead || at > len(p)-8 {
		return node{}, fmt.Errorf("node %d at %d lies outside the page", i, at)
	}
	b := p[at:]
	n := node{lo: binary.LittleEndian.Uint16(b), hi: binary.LittleEndian.Uint16(b[2:]), flags: binary.LittleEndian.Uint16(b[4:])}
	klen := int(binary.LittleEndian.Uint16(b[6:]))
	if klen > len(b)-8 {
		return node{}, fmt.Errorf("node %d has a key of %d octets, which reaches beyond the page", i, klen)
	}
	n.key, n.rest = b[8:8+klen:8+klen], b[8+klen:]
	return n, nil
}

func (n *node) dataSize() uint32 { return uint32(n.hi)<<16 | uint32(n.lo) }
func (n *node) child() uint64 {
	return uint64(n.flags)<<32 | uint64(n.hi)<<16 | uint64(n.lo)
}
