// SPDX-License-Identifier: BSD-2-Clause

package lists

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"

	"rcptgate/address"
	"rcptgate/table"
)

// ClassFile reads a file as Sendmail reads a class file (F=w): of each line the first word,
// a domain; nothing of a line that begins with "#". A name becomes a key without a value.
func ClassFile() table.Format { return nameLines{"class file", className} }

// Passwd reads the names of users in a file such as /etc/passwd.
func Passwd() table.Format { return nameLines{"passwd(5)", userName} }

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
