// SPDX-License-Identifier: BSD-2-Clause

package bdb

import (
	"context"
	"io"

	"rcptgate/table"
)

// formatName begins every error of this package.
const formatName = "bdb"

type format struct{}

// New returns the reader of Berkeley DB's hash and btree files. It is one format
// and not two: the file says which it is, and Stat reports it.
func New() table.Format { return format{} }

// Scan calls f for every pair: hash files by bucket, btree files by key. Several
// values of one key are as many pairs. Deleted pairs are left out.
func (format) Scan(ctx context.Context, file io.ReaderAt, size int64, f func(key, value []byte) error) error {
	m, err := readMeta(file, size)
	if err != nil {
		return err
	}
	s := newScan(ctx, file, m, f)
	if m.kind == kindHash {
		return s.buckets()
	}
	return s.btree()
}

// Stat reads the meta page. Entries is always -1: see the package comment.
func (format) Stat(ctx context.Context, file io.ReaderAt, size int64) (table.Info, error) {
	if err := ctx.Err(); err != nil {
		return table.Info{}, err
	}
	m, err := readMeta(file, size)
	if err != nil {
		return table.Info{}, err
	}
	return m.info(), nil
}
