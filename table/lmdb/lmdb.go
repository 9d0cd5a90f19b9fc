// SPDX-License-Identifier: BSD-2-Clause

// Package lmdb reads OpenLDAP LMDB files as "postmap lmdb:" writes them: one
// unnamed database in one file (MDB_NOSUBDIR), without duplicates. The format is
// that of lmdb.h and mdb.c of LMDB 0.9 (data version 1).
//
// A file is an array of pages. Pages 0 and 1 are the meta pages; the one with the
// newer transaction number is active. It names the root of a B+ tree of branch
// and leaf pages. Every page begins with 16 octets: its own number (64 bits), two
// unused octets, flags (16 bits), and where free room begins and ends (16 bits
// each); then come 16-bit offsets of nodes, sorted by key. A node is 8 octets (for a
// leaf: size of the data as two 16-bit halves, flags, length of the key; for a
// branch the number of a page in the first 48 bits, length of the key), the key, and
// the data. Data too large for a page lies on overflow pages of its own, and the
// node holds their first number. The page's size stands in the meta page, in the
// description of the tree of free pages.
//
// Limits: files of 64-bit little-endian machines. Named databases, duplicates
// (dupsort) and integer or reversed keys are refused with an error that says so. The
// format has no checksums: damage within a value shows nowhere; damage to the tree
// shows as keys out of order, or as a wrong number of pages or entries.
package lmdb

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"rcptgate/kit/term"
	"rcptgate/table"
)

const (
	name = "lmdb"

	pageHead    = 16
	metaSize    = 152 // a meta page's header and what follows it
	magic       = 0xbeefc0de
	dataVersion = 1
	noPage      = ^uint64(0)
	maxDepth    = 32 // CURSOR_STACK of mdb.c

	minPage = 256
	maxPage = 32 << 10 // MAX_PAGESIZE of mdb.c

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagOverflow = 0x04
	flagMeta     = 0x08

	nodeOverflow  = 0x01
	nodeSubtree   = 0x02
	nodeDuplicate = 0x04
)

// treeFlags are what a tree can be and Postfix's never are.
var treeFlags = []struct {
	bit  uint16
	word string
}{
	{0x04, "duplicates (dupsort)"},
	{0x02, "reversed keys"},
	{0x08, "integer keys"},
	{0x10, "duplicates of a fixed size"},
	{0x20, "integer duplicates"},
	{0x40, "reversed duplicates"},
}

// New returns the format. It has no state.
func New() table.Format { return format{} }

type format struct{}

// meta is the active meta page.
type meta struct {
	pageSize int64
	pages    uint64 // in the file, by the meta page: the last one's number and one
	txn      uint64
	tree     tree
}

// tree is the description of the one database.
type tree struct {
	flags, depth           uint16
	branch, leaf, overflow uint64 // pages
	entries, root          uint64
}

// readMeta reads both meta pages and returns the newer.
func readMeta(file io.ReaderAt, size int64) (meta, error) {
	first, err := metaAt(file, size, 0, 0)
	if err != nil {
		return meta{}, err
	}
	second, err := metaAt(file, size, first.pageSize, 1)
	if err != nil {
		return meta{}, err
	}
	if first.pageSize != second.pageSize {
		return meta{}, table.Damaged(name, first.pageSize, "the meta pages disagree on the page size: %d and %d octets", first.pageSize, second.pageSize)
	}
	if second.txn > first.txn {
		first = second
	}
	return first, first.check(size)
}

func metaAt(file io.ReaderAt, size, offset int64, number uint64) (meta, error) {
	var b [metaSize]byte
	if size-offset < metaSize {
		return meta{}, table.Damaged(name, offset, "the file of %d octets ends before meta page %d does", size, number)
	}
	if _, err := io.ReadFull(io.NewSectionReader(file, offset, metaSize), b[:]); err != nil {
		return meta{}, table.Damaged(name, offset, "reading meta page %d: %w", number, err)
	}
	le := binary.LittleEndian
	switch {
	case le.Uint32(b[16:]) == magic:
	case binary.BigEndian.Uint32(b[16:]) == magic, le.Uint32(b[12:]) == magic, binary.BigEndian.Uint32(b[12:]) == magic:
		return meta{}, table.Damaged(name, offset, "written by a 32-bit or big-endian machine, which is not supported")
	default:
		return meta{}, table.Damaged(name, offset, "meta page %d lacks LMDB's magic number", number)
	}
	if v := le.Uint32(b[20:]); v != dataVersion {
		return meta{}, table.Damaged(name, offset+20, "data version %d, supported is %d", v, dataVersion)
	}
	if le.Uint64(b[:]) != number || le.Uint16(b[10:])&flagMeta == 0 {
		return meta{}, table.Damaged(name, offset, "page %d is not a meta page", number)
	}
	m := meta{pageSize: int64(le.Uint32(b[40:])), pages: le.Uint64(b[136:]) + 1, txn: le.Uint64(b[144:])}
	if m.pageSize < minPage || m.pageSize > maxPage || m.pageSize&(m.pageSize-1) != 0 {
		return meta{}, table.Damaged(name, offset+40, "pages of %d octets", m.pageSize)
	}
	d := b[88:]
	m.tree = tree{
		flags: le.Uint16(d[4:]), depth: le.Uint16(d[6:]), branch: le.Uint64(d[8:]), leaf: le.Uint64(d[16:]),
		overflow: le.Uint64(d[24:]), entries: le.Uint64(d[32:]), root: le.Uint64(d[40:]),
	}
	return m, nil
}

// check judges a meta page against the file.
func (m *meta) check(size int64) error {
	if most := uint64(size / m.pageSize); m.pages > most || m.pages < 2 { // #nosec G115 -- a size is not negative
		return table.Damaged(name, 136, "the meta page says %s, the file has %d: truncated", term.Count(m.pages, "page"), most)
	}
	if m.tree.depth > maxDepth {
		return table.Damaged(name, 94, "a tree %s deep", term.Count(m.tree.depth, "page"))
	}
	var odd []string
	for _, f := range treeFlags {
		if m.tree.flags&f.bit != 0 {
			odd = append(odd, f.word)
		}
	}
	if len(odd) > 0 {
		return table.Damaged(name, 92, "a database with %s, which no MTA writes", strings.Join(odd, ", "))
	}
	return nil
}

// Stat implements table.Format.
func (format) Stat(_ context.Context, file io.ReaderAt, size int64) (table.Info, error) {
	m, err := readMeta(file, size)
	if err != nil {
		return table.Info{}, err
	}
	return table.Info{
		Type:    "LMDB",
		Version: fmt.Sprint(dataVersion),
		Detail:  fmt.Sprintf("little endian, 64 bits, %d-octet pages, depth %d, transaction %d", m.pageSize, m.tree.depth, m.txn),
		Entries: int64(m.tree.entries), // #nosec G115 -- a number for people
		Pages:   int64(m.pages),        // #nosec G115 -- as above
	}, nil
}
