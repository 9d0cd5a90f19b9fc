// SPDX-License-Identifier: BSD-2-Clause

package part

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strings"

	"rcptgate/mail"
)

// Outcome says what AppendText did with a part.
type Outcome struct {
	Part *Part
	// Reason is "" if the text was appended, else why not:
	//
	//	signed      the part is signed (multipart/signed, or PKCS #7 that says so): any change
	//	            would break the signature
	//	encrypted   the part is encrypted, or PKCS #7 that does not say what it is
	//	report      a delivery report or a digest, which programs read
	//	type        neither text/plain nor text/html, or an attachment
	//	encoding    its base64 goes on behind its end, its transfer encoding is not known, or it
	//	            is a multipart in which no part can be found
	//	replaced    the part was removed or replaced before
	Reason string
}

// body finds the parts that a reader sees as the message's text.
func (p *Part) body(out []Outcome) []Outcome {
	reason := ""
	switch p.Type {
	case "multipart/signed":
		reason = "signed"
	case "application/pkcs7-mime", "application/x-pkcs7-mime":
		reason = "encrypted"
		if strings.HasPrefix(p.part.Media.Param("smime-type"), "signed") {
			reason = "signed"
		}
	case "multipart/encrypted":
		reason = "encrypted"
	case "multipart/report", "multipart/digest":
		reason = "report"
	}
	switch {
	case reason != "":
	case p.replacedBy() != nil:
		reason = "replaced"
	case p.Type == "multipart/alternative" && p.IsMultipart():
		for _, inner := range p.Parts {
			out = inner.body(out)
		}
		return out
	case p.IsMultipart():
		first := p.Parts[0]
		if i := slices.IndexFunc(p.Parts, func(q *Part) bool { return !q.IsAttachment() }); i > 0 {
			first = p.Parts[i]
		}
		return first.body(out)
	case p.part.IsMultipart():
		reason = "encoding"
	case p.IsAttachment() || p.Type != "text/plain" && p.Type != "text/html":
		reason = "type"
	}
	return append(out, Outcome{p, reason})
}

// spot is where a part's text can be continued.
type spot struct {
	start, end int64  // what is replaced, in the body
	before     []byte // decoded octets in front of and behind the new text, in that range
	after      []byte
	newline    bool // the text before does not end with a line end
	soft       bool // quoted-printable that ends in the middle of an escape
	middle     bool // the new text is followed by more
	first      bool // of base64: begins a line; lines end in CRLF
	last       bool // of base64: is followed by a line end
	eight      bool // the text has octets above 127
	reason     string
}

// tagFinder looks for the last </body> or </html> of decoded text.
type tagFinder struct {
	text       []byte // since the last "<", at most seven octets
	at         int64  // where that is
	body, html int64  // where the tags begin, or -1
}

func newTagFinder() *tagFinder { return &tagFinder{body: -1, html: -1} }

// take takes the next octet of the text, and where it stands.
func (t *tagFinder) take(c byte, at int64) {
	switch {
	case c == '<':
		t.text, t.at = append(t.text[:0], c), at
		return
	case len(t.text) == 0:
		return
	}
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	t.text = append(t.text, c)
	switch text := string(t.text); {
	case text == "</body":
		t.body, t.text = t.at, t.text[:0]
	case text == "</html":
		t.html, t.text = t.at, t.text[:0]
	case !strings.HasPrefix("</body", text) && !strings.HasPrefix("</html", text):
		t.text = t.text[:0]
	}
}

// place gives where text goes before the end of the document, or -1.
func (t *tagFinder) place() int64 {
	if t.body >= 0 {
		return t.body
	}
	return t.html
}

// find finds the spot of a part, and reads the part once, base64 twice.
func (p *Part) find() (*spot, error) {
	if p.spot != nil {
		return p.spot, nil
	}
	var s *spot
	var err error
	switch p.part.Encoding() {
	case "base64":
		s, err = p.findBase64()
	case "quoted-printable":
		s, err = p.findQuotedPrintable()
	case "", "7bit", "8bit", "binary":
		s, err = p.findPlain()
	default:
		s = &spot{reason: "encoding"}
	}
	if err != nil {
		return nil, fmt.Errorf("read a part: %w", err)
	}
	p.spot = s
	return s, nil
}

// each gives every octet of the part as it stands in the message, and where.
func (p *Part) each(take func(c byte, at int64)) error {
	in := bufio.NewReaderSize(p.raw(), 32<<10)
	for at := int64(p.part.Body); ; at++ {
		c, err := in.ReadByte()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		take(c, at)
	}
}

// atEnd is the spot behind everything.
func (p *Part) atEnd() *spot {
	end := int64(max(p.part.Body, p.part.End))
	return &spot{start: end, end: end}
}

func (p *Part) isHTML() bool { return p.Type == "text/html" }

// lineEndFollows reports whether a line end that belongs to a boundary stands behind the part.
func (p *Part) lineEndFollows() bool {
	q := p
	for q.Parent != nil && !q.Parent.IsMultipart() { // the message in a message/rfc822 ends with it
		q = q.Parent
	}
	return q.Parent != nil && q.part.End < q.part.Next
}

// beforeTag gives the spot in front of a tag instead of the one at the end.
func (s *spot) beforeTag(at int64) *spot {
	return &spot{start: at, end: at, middle: true, eight: s.eight}
}

func (p *Part) findPlain() (*spot, error) {
	s, tags, last := p.atEnd(), newTagFinder(), byte('\n')
	err := p.each(func(c byte, at int64) {
		tags.take(c, at)
		last = c
		s.eight = s.eight || c >= 0x80
	})
	s.newline = last != '\n'
	if at := tags.place(); p.isHTML() && at >= 0 {
		s = s.beforeTag(at)
	}
	return s, err
}

func (p *Part) findQuotedPrintable() (*spot, error) {
	s, tags, last := p.atEnd(), newTagFinder(), byte('\n')
	var q mail.QuotedPrintable
	var out []byte
	ending := byte(0) // of the text as it stands
	err := p.each(func(c byte, at int64) {
		out = q.Next(out[:0], c)
		for _, d := range out {
			begins := at
			if c != '<' {
				begins = at - 2 // "=3C"
			}
			tags.take(d, begins)
			last = d
			s.eight = s.eight || d >= 0x80
		}
		ending = c
	})
	out = q.End(out[:0])
	s.soft = ending == '=' // a soft line break without its line end
	if len(out) > 0 {
		last = out[len(out)-1]
	}
	s.newline = last != '\n'
	if at := tags.place(); p.isHTML() && at >= 0 {
		s = s.beforeTag(at)
	}
	return s, err
}

// quantum is four characters of base64, or fewer at its end.
type quantum struct {
	start, end int64
	text       []byte
	first      bool // on its line
}

// base64Scan goes over base64 as it stands.
type base64Scan struct {
	count    int64 // characters of the alphabet
	now      quantum
	previous byte
	end      int64 // of the last character, padding included
	padded   bool
	junk     bool // more behind the padding
	take     func(q *quantum, number int64)
}

func (b *base64Scan) next(c byte, at int64) {
	switch {
	case c == '=':
		b.padded = b.padded || b.count > 0
		b.end = at + 1
	case mail.IsBase64(c):
		b.junk = b.junk || b.padded
		if b.count%4 == 0 {
			b.now = quantum{start: at, first: b.previous == '\n', text: b.now.text[:0]}
		}
		b.now.text, b.now.end, b.end = append(b.now.text, c), at+1, at+1
		if b.count++; b.count%4 == 0 {
			b.take(&b.now, b.count/4-1)
		}
	}
	b.previous = c
}

// decoded gives what the characters stand for.
func (q *quantum) decoded() []byte {
	if len(q.text) < 2 {
		return nil
	}
	out, _ := base64.RawStdEncoding.DecodeString(string(q.text)) // the alphabet was checked
	return out
}

func (p *Part) findBase64() (*spot, error) {
	tags, last, eight := newTagFinder(), byte('\n'), false
	scan := &base64Scan{previous: '\n', end: int64(p.part.Body)}
	var at int64 // in the text
	octets := func(data []byte) {
		for _, c := range data {
			tags.take(c, at)
			last = c
			eight = eight || c >= 0x80
			at++
		}
	}
	scan.take = func(q *quantum, _ int64) { octets(q.decoded()) }
	if err := p.each(scan.next); err != nil {
		return nil, err
	}
	s := &spot{start: scan.end, end: scan.end, first: scan.count == 0, eight: eight}
	if scan.junk {
		return &spot{reason: "encoding"}, nil
	}
	if scan.count%4 != 0 {
		s.start, s.first = scan.now.start, scan.now.first
		s.before = scan.now.decoded()
		octets(s.before)
		s.eight = eight
	} else if scan.padded { // padding that is not needed would end the text
		s.start = scan.now.end
	}
	s.newline = last != '\n' && last != 0 // UTF-16 has a NUL behind it, or in front
	s.last = scan.end < int64(p.part.End) || p.lineEndFollows()
	if place := tags.place(); p.isHTML() && place >= 0 {
		return p.inBase64(place)
	}
	return s, nil
}

// inBase64 finds the spot before an octet of the text: the quantum that it is in is replaced.
func (p *Part) inBase64(place int64) (*spot, error) {
	s := &spot{middle: true}
	found := false
	scan := &base64Scan{previous: '\n'}
	scan.take = func(q *quantum, number int64) {
		if number == place/3 {
			data := q.decoded()
			s.start, s.end, s.first, found = q.start, q.end, q.first, true
			s.before, s.after = bytes.Clone(data[:place%3]), bytes.Clone(data[place%3:])
		}
	}
	behind := byte(0)
	err := p.each(func(c byte, at int64) {
		scan.next(c, at)
		if found && at == s.end {
			behind = c
		}
	})
	s.last = behind == '\r' || behind == '\n' || s.end == int64(p.part.End) && p.lineEndFollows()
	return s, err
}
