// SPDX-License-Identifier: BSD-2-Clause

package mail

import (
	"bytes"
	"strings"
)

// Limits bound how a message is taken apart.
type Limits struct {
	Depth  int // nested multiparts and messages
	Parts  int
	Fields int // in one header
	Header int // octets of one header
	Name   int // octets of a boundary or a file name
}

// DefaultLimits hold for fields that are 0.
var DefaultLimits = Limits{Depth: 20, Parts: 500, Fields: 1000, Header: 256 << 10, Name: 1024}

// Part is a message, or a part of one.
type Part struct {
	Header Header
	// Media is the Content-Type: text/plain if there is none, message/rfc822 in a
	// multipart/digest (RFC 2046 section 5.1.5).
	Media Media
	// Start is where the part's header begins, Body where its body begins, End where the
	// part ends: before the line end that belongs to the boundary.
	Start, Body, End int
	Depth            int
	Parts            []*Part // of a multipart, or the one message in a message/rfc822

	boundary string // that separates its parts
	preamble bool   // no part of it has begun yet
	ended    bool
}

// Message is a message taken apart.
type Message struct {
	*Part
	Data []byte
	// Malformed says in one word what is wrong first: "depth", "parts", "header",
	// "boundary" (the last one is missing), "fields", or "" if nothing is.
	Malformed string
}

// Scan takes a message apart. Data is kept.
func Scan(data []byte, limits Limits) *Message {
	limits.defaults()
	s := &scanner{Limits: limits, msg: &Message{Data: data}, data: data}
	s.msg.Part = s.begin(0, 0, "text/plain")
	for start, end := range lines(data) {
		s.line(start, end)
	}
	s.finish()
	return s.msg
}

func (l *Limits) defaults() {
	for _, p := range []struct {
		v *int
		d int
	}{{&l.Depth, DefaultLimits.Depth}, {&l.Parts, DefaultLimits.Parts}, {&l.Fields, DefaultLimits.Fields}, {&l.Header, DefaultLimits.Header}, {&l.Name, DefaultLimits.Name}} {
		if *p.v <= 0 {
			*p.v = p.d
		}
	}
}

// scanner goes over a message line by line. Open holds the parts that the current line is
// in, the outermost first.
type scanner struct {
	Limits
	msg    *Message
	data   []byte
	open   []*Part
	header *headerScanner // of the innermost part, while its header is read
	parts  int
	before int // where the line before ends, without its line end
}

// malformed remembers the first thing that is wrong.
func (s *scanner) malformed(word string) {
	if s.msg.Malformed == "" {
		s.msg.Malformed = word
	}
}

// begin opens a part whose header starts at an offset.
func (s *scanner) begin(at, depth int, media string) *Part {
	p := &Part{Start: at, Body: at, Depth: depth, Media: Media{Type: media}}
	s.open = append(s.open, p)
	s.header = &headerScanner{data: s.data, limit: s.Fields}
	s.parts++
	return p
}

// line takes one line of the message.
func (s *scanner) line(start, end int) {
	if line := s.data[start:end]; len(line) > 2 && line[0] == '-' && line[1] == '-' && s.boundary(start, end) {
		return
	}
	if s.header != nil {
		s.headerLine(start, end)
	}
	s.before = start + len(trimEOL(s.data[start:end]))
}

// headerLine takes one line of the innermost part's header.
func (s *scanner) headerLine(start, end int) {
	p := s.open[len(s.open)-1]
	if end-p.Start > s.Header {
		s.malformed("header")
		s.endHeader(start)
		return
	}
	ended, consumed := s.header.line(start, end)
	if s.header.over {
		s.malformed("fields")
	}
	if s.header.odd {
		s.malformed("header")
		s.header.odd = false
	}
	switch {
	case ended && consumed:
		s.endHeader(end)
	case ended:
		s.endHeader(start)
	}
}

// endHeader begins the body of the innermost part.
func (s *scanner) endHeader(body int) {
	p := s.open[len(s.open)-1]
	s.header.trimNames()
	p.Header, p.Body = s.header.fields, body
	s.header = nil
	if value := p.Header.Value("Content-Type"); value != "" {
		p.Media = ParseMedia(value)
	}
	switch {
	case strings.HasPrefix(p.Media.Type, "multipart/"):
		p.boundary = p.Media.Param("boundary")
		if p.boundary == "" || len(p.boundary) > s.Name {
			s.malformed("boundary")
			p.boundary = ""
		}
		p.preamble = true
	case p.Media.Type == "message/rfc822" || p.Media.Type == "message/global":
		if s.room(p) {
			p.Parts = append(p.Parts, s.begin(body, p.Depth+1, "text/plain"))
		}
	}
}

// room reports whether a part may have another one in it.
func (s *scanner) room(p *Part) bool {
	switch {
	case p.Depth+1 > s.Depth:
		s.malformed("depth")
	case s.parts >= s.Parts:
		s.malformed("parts")
	default:
		return true
	}
	return false
}

// boundary reports whether a line separates the parts of an open multipart, and if so ends
// what is inside. The innermost is looked at first; an outer one ends the inner ones, whose
// own last boundary is missing.
func (s *scanner) boundary(start, end int) bool {
	line := bytes.TrimRight(trimEOL(s.data[start:end]), " \t")[2:]
	for i := len(s.open) - 1; i >= 0; i-- {
		p := s.open[i]
		if p.boundary == "" || p.ended || !bytes.HasPrefix(line, []byte(p.boundary)) {
			continue
		}
		rest := line[len(p.boundary):]
		last := bytes.Equal(rest, []byte("--"))
		if len(rest) > 0 && !last {
			continue
		}
		s.endAbove(i, start)
		p.preamble = false
		if last {
			p.ended = true
		} else if s.room(p) {
			media := "text/plain"
			if p.Media.Type == "multipart/digest" {
				media = "message/rfc822"
			}
			p.Parts = append(p.Parts, s.begin(end, p.Depth+1, media))
		}
		s.before = end
		return true
	}
	return false
}

// endAbove ends all parts inside open[i]: they end with the line before the boundary.
func (s *scanner) endAbove(i, boundary int) {
	for j := len(s.open) - 1; j > i; j-- {
		p := s.open[j]
		if s.header != nil && j == len(s.open)-1 {
			s.endHeaderOnly(boundary)
		}
		if p.boundary != "" && !p.ended {
			s.malformed("boundary")
		}
		p.End = max(min(s.before, boundary), p.Body)
	}
	s.open = s.open[:i+1]
}

// endHeaderOnly ends a header that a boundary or the end of the message cuts off.
func (s *scanner) endHeaderOnly(at int) {
	p := s.open[len(s.open)-1]
	s.header.trimNames()
	p.Header, p.Body = s.header.fields, at
	s.header = nil
	if value := p.Header.Value("Content-Type"); value != "" {
		p.Media = ParseMedia(value)
	}
}

// finish ends everything at the end of the message.
func (s *scanner) finish() {
	if s.header != nil {
		s.endHeaderOnly(len(s.data))
	}
	for _, p := range s.open {
		p.End = len(s.data)
		if p.boundary != "" && !p.ended {
			s.malformed("boundary")
		}
	}
}
