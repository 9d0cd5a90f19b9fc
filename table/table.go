// SPDX-License-Identifier: BSD-2-Clause

// Package table holds what the readers of the MTAs' map files have in common: the
// question a check puts to a table, the contract of a file format, and the
// spelling TYPE:FILE.
//
// Each format is a folder of its own (table/text, table/bdb, table/cdb,
// table/lmdb) that reads octets and knows no file names, locks or indexes. Package
// table/open is the list of formats; table/index keeps a scanned file in memory;
// table/live keeps that index fresh while the MTA rewrites the file. Everything
// here only reads: no file of the MTA is ever created, changed or repaired.
package table

import (
	"context"
	"fmt"
	"io"
)

// Table is a map file in use: what checks and routes ask. A key that the table
// does not hold is ("", false, nil). An error means "could not look", never
// absence. Keys are compared octet by octet: case rules are the caller's.
// Implementations are safe for concurrent use.
type Table interface {
	Lookup(ctx context.Context, key string) (value string, found bool, err error)
}

// Format reads one kind of file. Implementations have no state and are safe for
// concurrent use. The file is hostile: no content of it may crash or hang a
// reader, or make it work or allocate more than a few times the file's size.
type Format interface {
	// Scan calls f for every pair in the file's own order. Key and value are the
	// octets that stand in the file, a trailing NUL included, and are valid only
	// during the call. Scan ends with the first error of f and returns it as it
	// is; a damaged or foreign file is a *FormatError; an error of file or ctx is
	// wrapped. Pairs may have been passed to f before damage is found.
	Scan(ctx context.Context, file io.ReaderAt, size int64, f func(key, value []byte) error) error
	// Stat describes the file from its first pages, without reading it all.
	Stat(ctx context.Context, file io.ReaderAt, size int64) (Info, error)
}

// Summary is the key under which a format may add what it found in the file as a whole. It
// is not an entry, and no key of a file.
const Summary = "\x00summary"

// Info is what a file says of itself.
type Info struct {
	Type    string // "Berkeley DB hash", "CDB", "LMDB", "text"
	Version string // "9", "" if the format has none
	Detail  string // "little endian, 4096-octet pages, checksums"; "" if there is nothing to say
	Entries int64  // pairs in the file; -1 if it does not say
	Pages   int64  // pages in the file; 0 if the format has none
}

// FormatError says what is wrong with a file's content, and where.
type FormatError struct {
	Format string // "lmdb"
	Offset int64  // octets from the beginning of the file; -1 if it concerns the whole file
	Line   int    // counted from 1, for text; 0 otherwise
	Err    error
}

// Error begins with the format and ends with the place.
func (e *FormatError) Error() string {
	switch {
	case e.Line > 0:
		return fmt.Sprintf("%s: line %d: %v", e.Format, e.Line, e.Err)
	case e.Offset >= 0:
		return fmt.Sprintf("%s: %v, at offset %d", e.Format, e.Err, e.Offset)
	}
	return fmt.Sprintf("%s: %v", e.Format, e.Err)
}

// Unwrap returns the cause.
func (e *FormatError) Unwrap() error { return e.Err }

// Damaged makes a FormatError for a place in a file. Format and args are those of
// fmt.Errorf.
func Damaged(in string, offset int64, format string, args ...any) error {
	return &FormatError{Format: in, Offset: offset, Err: fmt.Errorf(format, args...)}
}

// DamagedLine makes a FormatError for a line of a text file, counted from 1.
func DamagedLine(in string, line int, format string, args ...any) error {
	return &FormatError{Format: in, Offset: -1, Line: line, Err: fmt.Errorf(format, args...)}
}
