// SPDX-License-Identifier: BSD-2-Clause

// Package open is the list of formats: it leads from a table's spelling to its
// reader, for the daemon (Live) and for commands that look at a file once (File).
package open

import (
	"context"
	"fmt"

	"rcptgate/table"
	"rcptgate/table/bdb"
	"rcptgate/table/cdb"
	"rcptgate/table/live"
	"rcptgate/table/lmdb"
	"rcptgate/table/text"
)

// Format returns the reader of a type. Warn, if not nil, is called for each line of a
// text that is left out.
func Format(t table.Type, warn func(error)) (table.Format, error) {
	switch t {
	case table.Hash, table.Btree: // the file itself says which of the two it is
		return bdb.New(), nil
	case table.CDB:
		return cdb.New(), nil
	case table.LMDB:
		return lmdb.New(), nil
	case table.Text:
		return text.Aliases(warn), nil
	case table.TextHash:
		return text.Pairs(warn), nil
	}
	return nil, fmt.Errorf("tables of type %q cannot be read", t)
}

// Live returns a table that follows its file, into which nothing has been read. The
// configuration's Format is set here.
func Live(cfg live.Config) (*live.Live, error) {
	if _, err := Format(cfg.Spec.Type, nil); err != nil {
		return nil, err
	}
	cfg.Format = func(warn func(error)) table.Format {
		f, _ := Format(cfg.Spec.Type, warn) // tried above
		return f
	}
	return live.New(cfg), nil
}

// File is a map file as it was when it was opened, for commands.
type File struct {
	*live.Snapshot
	Spec   table.Spec
	format table.Format
}

// Open opens a file and, if it is not too large for that, copies it under the locks
// of its writers. Warn is called for each line of a text that is left out.
func Open(ctx context.Context, spec table.Spec, warn func(error)) (*File, error) {
	format, err := Format(spec.Type, warn)
	if err != nil {
		return nil, err
	}
	snap, err := live.Read(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", spec, err)
	}
	return &File{Snapshot: snap, Spec: spec, format: format}, nil
}

// Scan passes every pair of the file, in its order and as it stands there. An error
// that is live.ErrBusy says that the file changed meanwhile.
func (f *File) Scan(ctx context.Context, each func(key, value []byte) error) error {
	err := f.format.Scan(ctx, f, f.Size, each)
	if changed := f.Unchanged(); changed != nil {
		return fmt.Errorf("%s: %w", f.Spec, changed)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.Spec, err)
	}
	return nil
}

// Stat describes the file.
func (f *File) Stat(ctx context.Context) (table.Info, error) {
	info, err := f.format.Stat(ctx, f, f.Size)
	if err != nil {
		return table.Info{}, fmt.Errorf("%s: %w", f.Spec, err)
	}
	return info, nil
}
