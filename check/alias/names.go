// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"

	"rcptgate/address"
	"rcptgate/table"
)

// Use says what a file is read for, and so which reader it needs.
type Use uint8

// The uses.
const (
	UseAliases Use = iota // an alias database
	UseMap                // virtusertable, virtual_alias_maps
	UseClass              // a domain a line
	UseUsers              // passwd(5)
)

// String is the use in one word.
func (u Use) String() string {
	return [...]string{"aliases", "map", "class", "passwd"}[u]
}

// NamesFormat gives the reader for a use that no type of table has: class files and
// passwd(5); ok is false for the others. Of a line only the name counts: it becomes a
// key without a value.
func NamesFormat(u Use) (f table.Format, ok bool) {
	switch u {
	case UseClass:
		return nameLines{"class file", className}, true
	case UseUsers:
		return nameLines{"passwd(5)", userName}, true
	case UseAliases, UseMap:
	}
	return nil, false
}

// nameLines reads a file with a name on each line.
type nameLines struct {
	kind string
	name func(line []byte) []byte // nil: none in this line
}

// maxNameLine bounds a line; more is no list of names.
const maxNameLine = 64 << 10

// Scan implements table.Format.
func (n nameLines) Scan(ctx context.Context, file io.ReaderAt, size int64, f func(key, value []byte) error) error {
	in := bufio.NewScanner(io.NewSectionReader(file, 0, size))
	in.Buffer(nil, maxNameLine)
	for line := 1; in.Scan(); line++ {
		if line%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if bytes.IndexByte(in.Bytes(), 0) >= 0 {
			return table.DamagedLine(n.kind, line, "a NUL octet")
		}
		if name := n.name(in.Bytes()); len(name) > 0 {
			if err := f(name, nil); err != nil {
				return err
			}
		}
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("%s: %w", n.kind, err)
	}
	return nil
}

// Stat implements table.Format.
func (n nameLines) Stat(context.Context, io.ReaderAt, int64) (table.Info, error) {
	return table.Info{Type: n.kind, Entries: -1}, nil
}

// className reads a line as Sendmail reads a class file (F=w): the first word, and
// nothing of a line that begins with "#".
func className(line []byte) []byte {
	fields := bytes.Fields(line)
	if len(fields) == 0 || fields[0][0] == '#' {
		return nil
	}
	return []byte(address.Domain(string(fields[0])))
}

// userName reads a line of passwd(5). Lines of NIS ("+", "-name") are no users.
func userName(line []byte) []byte {
	name, _, ok := bytes.Cut(line, []byte{':'})
	if !ok || len(name) == 0 || name[0] == '+' || name[0] == '-' || name[0] == '#' {
		return nil
	}
	return name
}
