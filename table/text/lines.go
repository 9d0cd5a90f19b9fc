// SPDX-License-Identifier: BSD-2-Clause

// Package text reads the files that people write and the MTAs make databases of:
// aliases(5) (Aliases, spelled "text:") and the pairs that makemap(8) and postmap(1)
// read (Pairs, "texthash:").
//
// Both consist of logical lines. A line that begins with white space continues the
// one before; empty lines and lines whose first visible character is "#" are left
// out, also in the middle of a logical line (postmap(1)). In aliases a backslash at
// the end of a line continues it too (Sendmail).
//
// aliases(5): a name, a colon, targets. The name may be quoted, has no domain, and
// loses its quotes; one of several words without quotes is both "two words" (postalias)
// and "two.words" (newaliases). Pairs: a key up to the first white space outside quotes,
// white space, a value; quotes stay part of the key, as postmap has it.
//
// As the MTAs' programs do, keys are made lower case (ASCII), and a line that cannot be
// read is left out with a warning and does not stop the others: the databases made of
// the same file lack it too. A file in which no line can be read is an error, and so is
// one with a NUL: it is binary, or has lost blocks, and its other names may be missing.
// All pairs of a key that occurs twice are passed on; for readers the first one counts.
//
// Limits: a logical line has at most 1 MiB; a longer one is left out.
package text

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"rcptgate/table"
)

const (
	format  = "text"
	maxLine = 1 << 20
)

// Warn is called with a *table.FormatError for every line that is left out. It may be nil.
type Warn func(err error)

// Aliases returns the format of aliases(5).
func Aliases(warn Warn) table.Format {
	return reader{kind: "aliases(5) text", warn: warn, backslash: true, split: splitAlias}
}

// Pairs returns the format that makemap and postmap read.
func Pairs(warn Warn) table.Format {
	return reader{kind: "key-value text", warn: warn, split: splitPair}
}

type reader struct {
	kind      string
	warn      Warn
	backslash bool
	split     func(line []byte) (key, value []byte, err error)
}

// Scan implements table.Format.
func (r reader) Scan(ctx context.Context, file io.ReaderAt, size int64, f func(key, value []byte) error) error {
	var head [16]byte
	if n, _ := file.ReadAt(head[:min(size, 16)], 0); bytes.IndexByte(head[:n], 0) >= 0 { // the scan meets the error
		return table.Damaged(format, 0, "the file is binary, not text")
	}
	l := lines{in: bufio.NewReaderSize(io.NewSectionReader(file, 0, size), 64<<10), backslash: r.backslash}
	good := 0
	var bad error
	for {
		if l.number%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		line, number, err := l.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, errLong) {
			return fmt.Errorf("reading text: %w", err)
		}
		var key, value []byte
		if err == nil {
			key, value, err = r.split(line)
		}
		if errors.Is(err, errNUL) {
			return table.DamagedLine(format, number, "%w: the file is damaged, or no text", err)
		}
		if err != nil {
			warning := table.DamagedLine(format, number, "%w", err)
			if bad == nil {
				bad = warning
			}
			if r.warn != nil {
				r.warn(warning)
			}
			continue
		}
		good++
		if err := pass(f, lower(key), value); err != nil {
			return err
		}
	}
	if good == 0 && bad != nil {
		return bad
	}
	return nil
}

// pass hands a pair on. A name of several words without quotes is two: postalias has blanks in its key, newaliases dots.
func pass(f func(key, value []byte) error, key, value []byte) error {
	if bytes.IndexByte(key, looseBlank) < 0 {
		return f(key, value)
	}
	for _, between := range []byte{' ', '.'} {
		if err := f(bytes.ReplaceAll(key, []byte{looseBlank}, []byte{between}), value); err != nil {
			return err
		}
	}
	return nil
}

// Stat implements table.Format. Text does not say how much it holds.
func (r reader) Stat(context.Context, io.ReaderAt, int64) (table.Info, error) {
	return table.Info{Type: r.kind, Entries: -1}, nil
}

// lower makes ASCII letters lower case in place.
func lower(key []byte) []byte {
	for i, c := range key {
		if 'A' <= c && c <= 'Z' {
			key[i] = c + 'a' - 'A'
		}
	}
	return key
}

// lines reads logical lines.
type lines struct {
	in        *bufio.Reader
	backslash bool
	number    int // physical lines read
	buf       []byte
}

var (
	errLong  = fmt.Errorf("the line is longer than %d octets", maxLine)
	errStart = errors.New("begins with white space, but there is no line to continue")
)

// next returns a logical line and the number of its first physical one. The line is
// valid until the next call.
func (l *lines) next() (line []byte, number int, err error) {
	l.buf = l.buf[:0]
	long, open := false, false // open: the line before ended with a backslash
	for {
		if (number > 0) && !open && !l.continues() {
			break
		}
		start := len(l.buf)
		n, err := l.physical(&long)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, number, err
		}
		piece := l.buf[start:]
		if text := bytes.TrimLeft(piece, " \t\r\v\f"); !open && (len(text) == 0 || text[0] == '#') {
			l.buf = l.buf[:start]
		} else if number == 0 {
			number = l.number
		}
		if open = l.backslash && bytes.HasSuffix(l.buf[start:], []byte{'\\'}); open {
			l.buf = l.buf[:len(l.buf)-1]
		}
		if n == 0 && err != nil {
			break
		}
	}
	switch {
	case number == 0:
		return nil, 0, io.EOF
	case long:
		return nil, number, errLong
	}
	return l.buf, number, nil
}

// continues reports whether the next physical line belongs to the one begun.
func (l *lines) continues() bool {
	next, err := l.in.Peek(1)
	return err == nil && (next[0] == ' ' || next[0] == '\t' || next[0] == '#' || next[0] == '\n' || next[0] == '\r')
}

// physical appends one line without its end to the buffer, and returns how many
// octets it took from the file. What is beyond maxLine is dropped.
func (l *lines) physical(long *bool) (int, error) {
	taken, start := 0, len(l.buf)
	for {
		piece, err := l.in.ReadSlice('\n')
		taken += len(piece)
		if len(l.buf)+len(piece) > maxLine {
			*long = true
		} else {
			l.buf = append(l.buf, piece...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if taken > 0 {
			l.number++
			text := bytes.TrimSuffix(bytes.TrimSuffix(l.buf[start:], []byte{'\n'}), []byte{'\r'})
			l.buf = l.buf[:start+len(text)]
		}
		return taken, err
	}
}
