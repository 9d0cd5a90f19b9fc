// SPDX-License-Identifier: BSD-2-Clause

package pattern

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"

	"rcptgate/table"
)

// Table is a map file whose keys are patterns. It must have been read by [Format] of the
// same kind.
type Table struct {
	table.Table
	Name string // its spelling, for people
	Summary
}

// NewTable makes a Table.
func NewTable(t table.Table, name string) *Table {
	return &Table{Table: t, Name: name, Summary: NewSummary(t)}
}

// Summary keeps the summary of a table's content, as long as that is the same.
type Summary struct {
	table   table.Table
	content interface{ Generation() any } // the table, if it says when its content changes
	seen    *atomic.Pointer[seenSummary]
}

type seenSummary struct {
	generation any
	text       string
}

// NewSummary makes the Summary of a table.
func NewSummary(t table.Table) Summary {
	content, _ := t.(interface{ Generation() any })
	return Summary{t, content, new(atomic.Pointer[seenSummary])}
}

// Get gives what the format of the table found in the file as a whole; "" if the table
// has no summary.
func (s *Summary) Get(ctx context.Context) (string, error) {
	if s.content == nil {
		text, _, err := s.table.Lookup(ctx, table.Summary)
		return text, err
	}
	now := s.content.Generation()
	if seen := s.seen.Load(); seen != nil && seen.generation == now {
		return seen.text, nil
	}
	text, _, err := s.table.Lookup(ctx, table.Summary)
	if err == nil {
		s.seen.Store(&seenSummary{now, strings.Clone(text)})
	}
	return text, err
}

// Ignored says how many keys of the table are not patterns and match nothing, and gives the
// first one.
func (t *Table) Ignored(ctx context.Context) (n int, first string) {
	value, err := t.Summary.Get(ctx)
	if value == "" || err != nil {
		return 0, ""
	}
	count, first, _ := strings.Cut(value[1:], " ")
	n, _ = strconv.Atoi(count)
	return n, first
}

// address looks for the keys of an address, of those forms that the file has.
func (t *Table) address(ctx context.Context, a *Address) (in bool, err error) {
	text, err := t.Summary.Get(ctx)
	if err != nil || text == "" {
		return false, err
	}
	a.Keys(Forms(text[0]), false, func(_ Form, key string) bool {
		_, in, err = t.Lookup(ctx, key)
		return !in && err == nil
	})
	return in, err
}

func (t *Table) exact(ctx context.Context, key string) (bool, error) {
	_, in, err := t.Lookup(ctx, key)
	return in, err
}

func (t *Table) name(ctx context.Context, name string, host bool) (in bool, err error) {
	if in, err = t.exact(ctx, name); in || err != nil || !host {
		return in, err
	}
	for dot := strings.IndexByte(name, '.'); dot >= 0 && !in && err == nil; dot = strings.IndexByte(name, '.') {
		in, err = t.exact(ctx, name[dot:])
		name = name[dot+1:]
	}
	return in, err
}

// Format reads a map file as a table of patterns: keys get the shape in which they are
// looked up, and stand for themselves, without globs; values are not looked at.
func Format(kind Kind, inner table.Format) table.Format {
	return keyFormat{inner, kind}
}

type keyFormat struct {
	table.Format
	kind Kind
}

// Scan implements [table.Format].
func (f keyFormat) Scan(ctx context.Context, file io.ReaderAt, size int64, each func(key, value []byte) error) error {
	var forms Forms
	var ignored int
	var first string
	return Summarised(ctx, f.Format, file, size, each, func(key, _ []byte, each func(key, value []byte) error) error {
		k, err := readKey(f.kind, string(trimNUL(key)))
		if err != nil {
			if ignored++; ignored == 1 {
				first = string(key)
			}
			return nil
		}
		if f.kind == Addresses {
			forms.Add(formOf(k))
		}
		return each([]byte(k), nil)
	}, func() []byte {
		return fmt.Appendf([]byte{byte(forms)}, "%d %s", ignored, first)
	})
}

// Summarised scans a file pair by pair through read, and adds what summary gives under the
// key [table.Summary]. The last pair is passed on a second time: package table/live takes the last
// line of a text that may go on for uncertain, and that must not be the summary.
func Summarised(ctx context.Context, f table.Format, file io.ReaderAt, size int64, each func(key, value []byte) error,
	read func(key, value []byte, each func(key, value []byte) error) error, summary func() []byte,
) error {
	var lastKey, lastValue []byte
	err := f.Scan(ctx, file, size, func(key, value []byte) error {
		return read(key, value, func(key, value []byte) error {
			lastKey, lastValue = append(lastKey[:0], key...), append(lastValue[:0], value...)
			return each(key, value)
		})
	})
	if err != nil {
		return err
	}
	if err := each([]byte(table.Summary), summary()); err != nil || lastKey == nil {
		return err
	}
	return each(lastKey, lastValue)
}

// trimNUL takes off the NUL with which some tools end strings.
func trimNUL(b []byte) []byte { return bytes.TrimSuffix(b, []byte{0}) }

// readKey makes a key of a table the one that is looked up.
func readKey(kind Kind, key string) (string, error) {
	if strings.ContainsRune(key, 0) {
		return "", fmt.Errorf("%q holds a NUL", key)
	}
	switch kind {
	case Addresses:
		p, err := literalKey(key)
		return p.key, err
	case Clients:
		addr, err := netip.ParseAddr(strings.TrimPrefix(strings.ToLower(key), "ipv6:"))
		if err != nil {
			return "", fmt.Errorf("%q is not an address", key)
		}
		return addr.Unmap().WithZone("").String(), nil
	case Hosts:
		key = hostKey(key)
	case Names:
	}
	if key == "" {
		return "", fmt.Errorf("an empty key")
	}
	return fold(key), nil
}

// literalKey reads an address pattern without globs, words, lists and expressions.
func literalKey(key string) (parsed, error) {
	if key == keyNull {
		return parsed{key: keyNull, form: FormNull}, nil
	}
	at := strings.LastIndexByte(key, '@')
	if at < 0 || strings.ContainsAny(key, "*?$!") || key[0] == '/' {
		return parsed{}, fmt.Errorf("%q: %s", key, `expected "user@domain", "@domain", "@.domain" or "user@"`)
	}
	return addressKey(key, fold(unquoted(key[:at])), key[at+1:])
}

// ExactKey reads a pattern that is an exact key, for files of pairs.
func ExactKey(text string) (Key, error) {
	if text == keyAny {
		return Key{FormAny, keyAny}, nil
	}
	p, err := literalKey(text)
	return Key{p.form, p.key}, err
}
