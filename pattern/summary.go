// SPDX-License-Identifier: BSD-2-Clause

package pattern

import (
	"context"
	"encoding/binary"
	"io"
	"strings"
	"sync/atomic"

	"rcptgate/table"
)

// Digest is what was found in a map file as a whole while it was read.
type Digest struct {
	// Bits are what its format noted: which forms of key there are, for instance. All are
	// set if nothing was noted.
	Bits uint64
	// Text is for people.
	Text string

	sieves []sieve // of the file, and of a draft of it
	of     any     // the content
}

// Keys is [Address.Keys] for those keys that the table may have, alone or with a NUL and more
// behind them.
func (d *Digest) Keys(a *Address, forms Forms, literal bool, f func(form Form, key string) bool) {
	a.Keys(forms, literal, func(form Form, key string) bool { return !d.mayHave(a.hash(key)) || f(form, key) })
}

func (d *Digest) mayHave(hash uint64) bool {
	for i := range d.sieves {
		if d.sieves[i].has(hash) {
			return true
		}
	}
	return false
}

// Summary gives the Digest of a table, and keeps it as long as the content is the same.
type Summary struct {
	table   table.Table
	content content // the table, if it says when its content changes
	seen    *atomic.Pointer[Digest]
}

// content is a table whose content changes: see package table/live.
type content interface {
	Generation() any
	Summaries() ([]string, error)
}

// NewSummary makes the Summary of a table, which was read by a format that uses [Summarised].
func NewSummary(t table.Table) Summary {
	c, _ := t.(content)
	return Summary{t, c, new(atomic.Pointer[Digest])}
}

// Get gives the digest: the same one as before as long as nothing has changed. The error is
// that of a table that could not be read.
func (s *Summary) Get(ctx context.Context) (*Digest, error) {
	if s.content == nil {
		text, found, err := s.table.Lookup(ctx, table.Summary)
		if !found || err != nil {
			return newDigest(nil, nil), err
		}
		return newDigest([]string{text}, nil), nil
	}
	now := s.content.Generation()
	if seen := s.seen.Load(); seen != nil && seen.of == now {
		return seen, nil
	}
	list, err := s.content.Summaries()
	if err != nil {
		return nil, err
	}
	d := newDigest(list, now)
	s.seen.Store(d)
	return d, nil
}

// summaryHead is the length of what a summary begins with: bits, and the length of the text.
// The text and the sieve follow.
const summaryHead = 16

// newDigest makes a digest of the summaries of a content, which it shares. Where there is
// none, every key may be there.
func newDigest(summaries []string, of any) *Digest {
	d := &Digest{of: of}
	for _, s := range summaries {
		if len(s) <= summaryHead {
			summaries = nil
			break
		}
		b := octets(s)
		end := summaryHead + binary.BigEndian.Uint64(b[8:summaryHead])
		d.Bits |= binary.BigEndian.Uint64(b)
		d.Text = strings.Clone(s[summaryHead:end])
		d.sieves = append(d.sieves, sieve(b[end:len(b)-1]))
	}
	if len(summaries) == 0 {
		d.Bits, d.sieves = ^uint64(0), []sieve{nil}
	}
	return d
}

// Summarised scans a file pair by pair through read, and adds what it found in the file as a
// whole under the key [table.Summary]: what notes gives, and a sieve of the keys, of each up
// to its first NUL. The last pair is passed on a second time: package table/live takes the
// last line of a text that may go on for uncertain, and that must not be the summary.
func Summarised(ctx context.Context, f table.Format, file io.ReaderAt, size int64, each func(key, value []byte) error,
	read func(key, value []byte, each func(key, value []byte) error) error, notes func() (bits uint64, text string),
) error {
	var lastKey, lastValue []byte
	var hashes []uint64
	err := f.Scan(ctx, file, size, func(key, value []byte) error {
		return read(key, value, func(key, value []byte) error {
			first, _, _ := strings.Cut(text(key), "\x00")
			hashes = append(hashes, hashOf(first))
			lastKey, lastValue = append(lastKey[:0], key...), append(lastValue[:0], value...)
			return each(key, value)
		})
	})
	if err != nil {
		return err
	}
	noted, words := notes()
	summary := binary.BigEndian.AppendUint64(nil, noted)
	summary = binary.BigEndian.AppendUint64(summary, uint64(len(words)))
	summary = append(append(summary, words...), newSieve(hashes)...)
	summary = append(summary, '.') // a NUL at the end of a value would be taken off
	if err := each([]byte(table.Summary), summary); err != nil || lastKey == nil {
		return err
	}
	return each(lastKey, lastValue)
}
