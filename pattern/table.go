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

// Ignored says how many keys of the table are not patterns and match nothing, and gives the
// first one.
func (t *Table) Ignored(ctx context.Context) (n int, first string) {
	d, err := t.Summary.Get(ctx)
	if err != nil {
		return 0, ""
	}
	count, first, _ := strings.Cut(d.Text, " ")
	n, _ = strconv.Atoi(count)
	return n, first
}

// address looks for the keys of an address, of those forms that the file has.
func (t *Table) address(ctx context.Context, a *Address) (in bool, err error) {
	d, err := t.Summary.Get(ctx)
	if err != nil {
		return false, err
	}
	d.Keys(a, Forms(d.Bits), false, func(_ Form, key string) bool { // #nosec G115 -- of lists, bits are forms
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
	}, func() (uint64, string) { return uint64(forms), fmt.Sprintf("%d %s", ignored, first) })
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
