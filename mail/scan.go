// SPDX-License-Identifier: BSD-2-Clause

package mail

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
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
	// Delim is where the line of the boundary in front of the part begins, Next where that of
	// the one behind it does: End if there is none. Both are 0 for what is not in a multipart.
	Delim, Next int
	// Blank says that an empty line ends the header.
	Blank bool
	Depth int
	Parts []*Part // of a multipart, or the one message in a message/rfc822

	boundary string // that separates its parts
	ended    bool
	late     Header // fields about the content that stand behind what ends the header for us
}

// Boundary gives the boundary that separates the parts of a multipart, or "".
func (p *Part) Boundary() string { return p.boundary }

// Message is a message taken apart.
type Message struct {
	*Part
	Data []byte // of [Scan]
	// Malformed says in one word what is wrong first, or is "" if nothing is:
	//
	//	depth      more nested parts than Limits.Depth
	//	parts      more parts than Limits.Parts
	//	header     a header that is too long, has lines that are not fields, or ends at a bare CR
	//	           and goes on for programs that do not take that for a line end
	//	fields     more fields in one header than Limits.Fields
	//	boundary   a multipart without a boundary, without its last one, without parts, with parts
	//	           behind its last one, or with a line that only begins with its boundary
	//	duplicate  two different fields of one name, such as Content-Type, or a boundary that
	//	           programs read differently
	//	encoding   a multipart or message in base64 or quoted-printable
	//	name       a name longer than Limits.Name, or in more than NamesMax spellings
	//	repeated   the body begins with the message's own header ([ScanBody] only)
	Malformed string
}

// Scan takes a message apart. Data is kept.
func Scan(data []byte, limits Limits) *Message {
	limits.defaults()
	s := &scanner{Limits: limits, msg: &Message{Data: data}, all: true,
		octets: func(start, end int) ([]byte, error) { return data[start:end], nil }}
	s.msg.Part = s.begin(0, 0, "text/plain")
	for start, end := range lines(data) {
		s.line(newLine(data[start:end], start))
	}
	s.finish(len(data))
	return s.msg
}

// ScanBody takes apart the body of a message whose header is known already: its offsets are
// those of the body. It keeps neither the body nor more of it in memory than one header, and
// of the parts' headers only the fields whose names begin with "Content-". The error is that
// of reading the body.
func ScanBody(header Header, body io.ReaderAt, size int, limits Limits) (*Message, error) {
	limits.defaults()
	s := &scanner{Limits: limits, msg: &Message{}, octets: func(start, end int) ([]byte, error) {
		out := make([]byte, end-start)
		if n, err := body.ReadAt(out, int64(start)); n < len(out) {
			return nil, fmt.Errorf("read a part's header: %w", cmp.Or(err, io.ErrUnexpectedEOF))
		}
		return out, nil
	}}
	s.msg.Part = s.begin(0, 0, "text/plain")
	s.header = nil
	s.setHeader(s.msg.Part, header, 0)
	if err := readLines(io.NewSectionReader(body, 0, int64(size)), s.line); err != nil {
		return nil, err
	}
	s.finish(size)
	if repeats(header, body, size, limits.Header) {
		s.malformed("repeated")
	}
	return s.msg, s.err
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
	octets func(start, end int) ([]byte, error) // of the message
	all    bool                                 // keep whole headers of parts
	err    error
	open   []*Part
	header *headerState // of the innermost part, while its header is read
	late   *lateHeader  // of the innermost part, behind its header
	bare   bool         // the line before ends in a bare CR
	parts  int
	kept   int // octets of the parts' headers
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
	s.header = &headerState{}
	s.parts++
	return p
}

// line takes one line of the message.
func (s *scanner) line(l line) {
	if len(l.text) > 2 && l.text[0] == '-' && l.text[1] == '-' && !l.cut && s.boundary(l) {
		s.bare = l.bare
		return
	}
	switch {
	case s.header != nil:
		s.headerLine(l)
	case s.late != nil:
		s.lateLine(l)
	}
	s.before, s.bare = l.textEnd, l.bare
}

// headerLine takes one line of the innermost part's header.
func (s *scanner) headerLine(l line) {
	p := s.open[len(s.open)-1]
	if l.end-p.Start > s.Header {
		s.malformed("header")
		s.endHeader(l.start, l.start)
		return
	}
	switch s.header.take(l.text) {
	case lineField, lineMore:
		return
	case lineOdd:
		s.malformed("header")
		return
	case lineEmpty:
		s.endHeader(l.start, l.end)
		if !s.bare && !l.bare {
			return
		}
	case lineBody:
		s.malformed("header")
		s.endHeader(l.start, l.start)
	}
	if s.open[len(s.open)-1] == p && !p.IsMultipart() {
		s.late = newLate(p)
	}
}

// endHeader ends the innermost part's header, and begins its body.
func (s *scanner) endHeader(end, body int) {
	p := s.open[len(s.open)-1]
	p.Blank = body > end
	s.setHeader(p, s.takeHeader(p, end), body)
}

// takeHeader reads the innermost part's header, which ends at an offset.
func (s *scanner) takeHeader(p *Part, end int) Header {
	s.header = nil
	raw, err := s.octets(p.Start, end)
	if err != nil {
		s.err = err
	}
	header, over := parseHeader(raw, p.Start, s.Fields)
	if over {
		s.malformed("fields")
	}
	if !s.all && p != s.msg.Part {
		header = s.content(header)
	}
	return header
}

// headersMax is how much the headers of all parts together may take, as a multiple of the
// limit of one.
const headersMax = 4

// contentMax is how many fields about its content a part may have.
const contentMax = 64

// content gives copies of the fields that describe a part.
func (s *scanner) content(header Header) (out Header) {
	for _, f := range header {
		if !isContent(f.Name) {
			continue
		}
		if s.kept += len(f.Name) + len(f.Raw); s.kept > headersMax*s.Header || len(out) >= contentMax {
			s.malformed("header")
			break
		}
		f.Raw = bytes.Clone(f.Raw)
		out = append(out, f)
	}
	return out
}

// setHeader gives a part its header, and looks at what it says is in it.
func (s *scanner) setHeader(p *Part, header Header, body int) {
	p.Header, p.Body = header, body
	p.setMedia()
	if header.differ("Content-Type") || header.differ("Content-Transfer-Encoding") || header.differ("Content-Disposition") {
		s.malformed("duplicate")
	}
	s.checkNames(p)
	multipart := p.IsMultipart()
	message := p.isMessage()
	if enc := p.Encoding(); (multipart || message) && (enc == "base64" || enc == "quoted-printable") {
		s.malformed("encoding")
	}
	switch {
	case multipart:
		var sure bool
		if p.boundary, sure = boundaryOf(header.Value("Content-Type")); !sure {
			s.malformed("duplicate")
		}
		if p.boundary == "" || len(p.boundary) > s.Name {
			s.malformed("boundary")
			p.boundary = ""
		}
	case message:
		if s.room(p) {
			p.Parts = append(p.Parts, s.begin(body, p.Depth+1, "text/plain"))
		}
	}
}

// checkNames looks for names that are longer than a limit, that may stand behind more
// parameters than are read, or that have more spellings than are listed.
func (s *scanner) checkNames(p *Part) {
	long := false
	for _, field := range nameFields {
		for i := range p.Header {
			if f := &p.Header[i]; len(f.Raw) <= 3*maxParams || !strings.EqualFold(f.Name, field) {
				continue // too short for either
			}
			long = true
			media := ParseMedia(p.Header[i].Value())
			if media.More {
				s.malformed("header")
			}
			for _, param := range media.Params {
				if isNameParam(param.Name) && len(param.Value) > s.Name {
					s.malformed("name")
				}
			}
		}
	}
	if long {
		if n := p.names(); n.over {
			s.malformed("name")
		}
	}
}

// IsMultipart reports whether the part says that it has parts.
func (p *Part) IsMultipart() bool { return strings.HasPrefix(p.Media.Type, "multipart/") }

// isMessage reports whether the part is a message that programs show as one.
func (p *Part) isMessage() bool {
	switch p.Media.Type {
	case "message/rfc822", "message/global", "message/news":
		return true
	}
	return false
}

// setMedia reads the Content-Type; without one the type stays.
func (p *Part) setMedia() {
	if media := ParseMedia(p.Header.Value("Content-Type")); media.Type != "" {
		p.Media = media
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
// own last boundary is missing. One that has ended goes on if no other fits.
func (s *scanner) boundary(l line) bool {
	text := bytes.TrimRight(l.text, " \t")[2:]
	at, last, like, twice := -1, false, false, false
	for i := len(s.open) - 1; i >= 0; i-- {
		p := s.open[i]
		if p.boundary == "" || !bytes.HasPrefix(text, []byte(p.boundary)) {
			continue
		}
		rest := text[len(p.boundary):]
		ends := bytes.Equal(rest, []byte("--"))
		switch {
		case len(rest) > 0 && !ends:
			like = like || !p.ended
		case at >= 0 && !s.open[at].ended:
			twice = twice || !p.ended
		case p.ended && (ends || at >= 0):
		default:
			at, last = i, ends
		}
	}
	if twice || like && at < 0 {
		s.malformed("boundary")
	}
	if at < 0 {
		return false
	}
	s.separate(at, last, l)
	return true
}

// separate ends what is inside open[i], at its boundary, and begins its next part.
func (s *scanner) separate(i int, last bool, l line) {
	p := s.open[i]
	s.endAbove(i, l.start)
	if p.ended {
		s.malformed("boundary")
	}
	p.ended = last
	if !last && s.room(p) {
		media := "text/plain"
		if p.Media.Type == "multipart/digest" {
			media = "message/rfc822"
		}
		inner := s.begin(l.end, p.Depth+1, media)
		inner.Delim = l.start
		p.Parts = append(p.Parts, inner)
	}
	s.before = l.end
}

// endAbove ends all parts inside open[i]: they end with the line before the boundary.
func (s *scanner) endAbove(i, boundary int) {
	s.endLate()
	for j := len(s.open) - 1; j > i; j-- {
		p := s.open[j]
		if s.header != nil && j == len(s.open)-1 {
			s.endHeaderOnly(boundary)
		}
		s.checkEnd(p)
		p.End = max(min(s.before, boundary), p.Body)
		p.Next = p.End
		if j == i+1 {
			p.Next = boundary
		}
	}
	s.open = s.open[:i+1]
}

// endHeaderOnly ends a header that a boundary or the end of the message cuts off. Parts that
// its type would have are not looked for.
func (s *scanner) endHeaderOnly(at int) {
	p := s.open[len(s.open)-1]
	p.Header, p.Body = s.takeHeader(p, at), at
	p.setMedia()
}

// finish ends everything at the end of the message.
func (s *scanner) finish(size int) {
	s.endLate()
	if s.header != nil {
		s.endHeaderOnly(size)
	}
	for _, p := range s.open {
		p.End, p.Next = size, size
		s.checkEnd(p)
	}
}

// checkEnd looks whether a multipart that ends has parts, and its last boundary.
func (s *scanner) checkEnd(p *Part) {
	if p.boundary != "" && (!p.ended || len(p.Parts) == 0) {
		s.malformed("boundary")
	}
}
