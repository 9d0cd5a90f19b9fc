// SPDX-License-Identifier: BSD-2-Clause

// Package cdb reads constant databases (Bernstein, https://cr.yp.to/cdb/cdb.txt) as
// "postmap cdb:", makemap and the cdb tools write them.
//
// A file begins with 256 pointers (position, slots; 32 bits each, little endian) to
// hash tables at its end. Between the pointers and the first table lie the records
// in the order in which they were written: length of key, length of data (32 bits
// each), key, data. The records alone are read; the tables say where they end, and
// must point to exactly the records found.
//
// Limits: a file has at most 4 GiB (the format's own limit). A file from which
// records were blanked in place ("cdb -c -0") does not fulfil that and is refused.
// The format has no checksums: damage within a value shows nowhere.
package cdb

import (
	"context"
	"encoding/binary"
	"io"

	"rcptgate/kit/term"
	"rcptgate/table"
)

const (
	name     = "cdb"
	pointers = 256
	headSize = pointers * 8
)

// New returns the format. It has no state.
func New() table.Format { return format{} }

type format struct{}

// head is what the pointers say.
type head struct {
	end    int64 // of the records
	slots  int64 // of all tables; each record has two
	tables []slots
}

// slots is one hash table.
type slots struct{ pos, slots int64 }

func readHead(file io.ReaderAt, size int64) (head, error) {
	var buf [headSize]byte
	if size < headSize {
		return head{}, table.Damaged(name, -1, "the file has %s, a constant database at least %d", term.Count(size, "octet"), headSize)
	}
	if _, err := io.ReadFull(io.NewSectionReader(file, 0, headSize), buf[:]); err != nil {
		return head{}, table.Damaged(name, 0, "reading the pointers: %w", err)
	}
	h := head{end: size}
	for i := range pointers {
		pos := int64(binary.LittleEndian.Uint32(buf[8*i:]))
		n := int64(binary.LittleEndian.Uint32(buf[8*i+4:]))
		if pos == 0 && n == 0 {
			continue // a writer that leaves out empty tables
		}
		if pos < headSize || pos > size || n > (size-pos)/8 {
			return head{}, table.Damaged(name, int64(8*i), "table %d of %d slots at %d lies outside the file", i, n, pos)
		}
		h.end = min(h.end, pos)
		h.slots += n
		h.tables = append(h.tables, slots{pos: pos, slots: n})
	}
	if h.slots > (size-h.end)/8 {
		return head{}, table.Damaged(name, 0, "the tables have %d slots, more than fit behind the records", h.slots)
	}
	if len(h.tables) == 0 || h.end == size && size > headSize {
		return head{}, table.Damaged(name, 0, "no table: not a constant database, or one that was never finished")
	}
	return h, nil
}

// Scan implements table.Format. The order is that of writing. Damage to keys and
// lengths shows at the end: the tables must point to exactly the records read.
func (format) Scan(ctx context.Context, file io.ReaderAt, size int64, f func(key, value []byte) error) error {
	h, err := readHead(file, size)
	if err != nil {
		return err
	}
	r := table.NewWindow(file, size)
	var read tally
	for pos := int64(headSize); pos < h.end; {
		if read.count%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		lengths, err := r.At(pos, 8)
		if err != nil {
			return table.Damaged(name, pos, "reading the lengths of a record: %w", err)
		}
		klen, dlen := int64(binary.LittleEndian.Uint32(lengths)), int64(binary.LittleEndian.Uint32(lengths[4:]))
		if klen+dlen > h.end-pos-8 {
			return table.Damaged(name, pos, "record of %d and %s reaches beyond the last one's end", klen, term.Count(dlen, "octet"))
		}
		record, err := r.At(pos+8, int(klen+dlen))
		if err != nil {
			return table.Damaged(name, pos, "reading a record: %w", err)
		}
		read.add(hash(record[:klen]), uint32(pos)) // #nosec G115 -- the end of the records is a 32-bit pointer
		if err := f(record[:klen:klen], record[klen:]); err != nil {
			return err
		}
		pos += 8 + klen + dlen
	}
	return verify(ctx, r, &h, read)
}

// tally sums up records so that two orders of the same ones compare equal.
type tally struct {
	count int64
	sum   uint64
}

func (t *tally) add(hash, pos uint32) {
	x := (uint64(hash)<<32 | uint64(pos)) * 0x9e3779b97f4a7c15
	t.sum += x ^ x>>29
	t.count++
}

// hash is the format's own.
func hash(key []byte) uint32 {
	h := uint32(5381)
	for _, c := range key {
		h = (h<<5 + h) ^ uint32(c)
	}
	return h
}

// verify compares the records read with those the tables point to.
func verify(ctx context.Context, r *table.Window, h *head, read tally) error {
	var listed tally
	for _, t := range h.tables {
		for i := range t.slots {
			slot, err := r.At(t.pos+8*i, 8)
			if err != nil {
				return table.Damaged(name, t.pos+8*i, "reading a slot: %w", err)
			}
			if pos := binary.LittleEndian.Uint32(slot[4:]); pos != 0 {
				listed.add(binary.LittleEndian.Uint32(slot), pos)
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if read != listed {
		return table.Damaged(name, headSize, "the records (%d) are not those that the tables point to (%d)", read.count, listed.count)
	}
	return nil
}

// Stat implements table.Format. The tables have two slots for each record.
func (format) Stat(_ context.Context, file io.ReaderAt, size int64) (table.Info, error) {
	h, err := readHead(file, size)
	if err != nil {
		return table.Info{}, err
	}
	return table.Info{Type: "CDB", Entries: h.slots / 2}, nil
}
