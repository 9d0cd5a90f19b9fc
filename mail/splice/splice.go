// SPDX-License-Identifier: BSD-2-Clause

// Package splice changes ranges of data that stays where it is: a message's body in a file. A
// splice is a list of ranges of the original and of what stands in their place; it takes the
// memory of the latter.
package splice

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"sort"
)

// Edit puts Text in the place of the octets from Start up to End of the original; nothing is
// removed if they are equal.
type Edit struct {
	Start, End int64
	Text       []byte
}

// Splice is the changed data. It implements io.ReaderAt, and reads the original when it is
// read itself.
type Splice struct {
	source io.ReaderAt
	pieces []piece
	size   int64
}

// piece is a run of the changed data.
type piece struct {
	at     int64 // in the changed data
	length int64
	from   int64 // in the original, if there is no text
	text   []byte
}

// New gives size octets of source with the edits done. What is inserted at one place
// stands in the order of edits, before what replaces something there. Edits that overlap or leave the original are an error.
func New(source io.ReaderAt, size int64, edits []Edit) (*Splice, error) {
	edits = slices.Clone(edits)
	slices.SortStableFunc(edits, func(a, b Edit) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(min(a.End-a.Start, 1), min(b.End-b.Start, 1)))
	})
	s := &Splice{source: source}
	var at int64 // in the original
	for _, e := range edits {
		if e.Start < at || e.End < e.Start || e.End > size {
			return nil, fmt.Errorf("change octets %d to %d of %d: they are changed already, or not there", e.Start, e.End, size)
		}
		s.add(piece{length: e.Start - at, from: at})
		s.add(piece{length: int64(len(e.Text)), text: e.Text})
		at = e.End
	}
	s.add(piece{length: size - at, from: at})
	return s, nil
}

func (s *Splice) add(p piece) {
	if p.length > 0 {
		p.at = s.size
		s.pieces = append(s.pieces, p)
		s.size += p.length
	}
}

// Size is how long the changed data is, in octets.
func (s *Splice) Size() int64 { return s.size }

// ReadAt implements io.ReaderAt.
func (s *Splice) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d", off)
	}
	i := sort.Search(len(s.pieces), func(i int) bool { return s.pieces[i].at+s.pieces[i].length > off })
	for ; i < len(s.pieces) && n < len(p); i++ {
		piece := &s.pieces[i]
		skip := off + int64(n) - piece.at
		want := p[n : n+int(min(int64(len(p)-n), piece.length-skip))]
		if piece.text != nil {
			n += copy(want, piece.text[skip:])
			continue
		}
		got, err := s.source.ReadAt(want, piece.from+skip)
		n += got
		if got < len(want) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return n, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
