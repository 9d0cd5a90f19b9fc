// SPDX-License-Identifier: BSD-2-Clause

package mail

import (
	"bytes"
	"strings"
)

// lateHeader is what may be more of a part's header: behind a line that is not a field, which
// some programs pass over, or behind an empty line that a bare CR makes, which others do not
// see. What is said there of the content's name counts; the structure stays as it is.
type lateHeader struct {
	part  *Part
	lines int
	name  string // of the field that the next line may continue
	raw   []byte
	grown bool // there is something of it behind the header
}

// newLate is what may be more of a header. The first line may continue its last field.
func newLate(p *Part) *lateHeader {
	h := &lateHeader{part: p}
	if n := len(p.Header); n > 0 && isContent(p.Header[n-1].Name) {
		h.name, h.raw = p.Header[n-1].Name, bytes.Clone(p.Header[n-1].Raw)
	}
	return h
}

// lateLine takes one line behind the header. An empty line ends it.
func (s *scanner) lateLine(l line) {
	h := s.late
	if h.lines++; len(l.text) == 0 && !l.bare && !s.bare || h.lines > s.Fields {
		s.endLate()
		return
	}
	if h.name != "" && len(l.text) > 0 && isBlank(l.text[0]) {
		h.raw, h.grown = append(h.raw, l.text...), true
		return
	}
	s.lateField()
	name, raw, ok := bytes.Cut(l.text, []byte(":"))
	if name = bytes.TrimRight(name, " \t"); ok && isFieldName(name) && isContent(string(name)) {
		h.name, h.raw, h.grown = string(name), bytes.Clone(raw), true
	}
}

// lateField adds the field that was collected.
func (s *scanner) lateField() {
	h := s.late
	if !h.grown {
		h.name = ""
		return
	}
	s.malformed("header")
	if s.kept += len(h.name) + len(h.raw); s.kept <= headersMax*s.Header && len(h.part.late) < contentMax {
		h.part.late = append(h.part.late, Field{Name: h.name, Raw: h.raw})
	}
	h.name, h.raw, h.grown = "", nil, false
}

func (s *scanner) endLate() {
	if s.late != nil {
		s.lateField()
		s.late = nil
	}
}

// isContent reports whether a field describes the content of a part.
func isContent(name string) bool {
	const prefix = "content-"
	return len(name) > len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
}
