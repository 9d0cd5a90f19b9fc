// SPDX-License-Identifier: BSD-2-Clause

package part

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"

	"rcptgate/mail"
	"rcptgate/mail/splice"
)

// builder collects the edits of a body.
type builder struct {
	view   *View
	edits  []splice.Edit
	header []field           // of the message
	fields map[*Part][]field // that are set in the parts' headers
	eight  map[*Part]bool
}

func (b *builder) edit(start, end int64, text []byte) {
	b.edits = append(b.edits, splice.Edit{Start: start, End: end, Text: text})
}

// part adds what is done to one part.
func (b *builder) part(p *Part) error {
	c := p.change
	switch {
	case c == nil || p.Parent != nil && p.Parent.replacedBy() != nil:
		return nil
	case c.removed && p.isLastToGo():
		lead, err := b.lineEnd(int64(p.part.Start))
		b.edit(int64(p.part.Start), int64(max(p.part.Body, p.part.End)), append(lead, "\r\n"...))
		return err
	case c.removed:
		b.edit(int64(p.part.Delim), int64(p.part.Next), nil)
	case c.header != nil:
		return b.replace(p, c)
	default:
		return b.append(p, c)
	}
	return nil
}

// isLastToGo reports whether all parts of the multipart are removed, and p is the last.
func (p *Part) isLastToGo() bool {
	for _, q := range p.Parent.Parts {
		if q.change == nil || !q.change.removed {
			return false
		}
	}
	return p.Parent.Parts[len(p.Parent.Parts)-1] == p
}

// replace writes another header and body.
func (b *builder) replace(p *Part, c *change) error {
	start, body, end := int64(p.part.Start), int64(p.part.Body), int64(max(p.part.Body, p.part.End))
	if p.Parent == nil {
		b.edit(0, b.view.msg.Size, append(bytes.TrimSuffix(c.body, []byte("\r\n")), "\r\n"...))
		written := map[string]bool{}
		for _, f := range c.header {
			if f.value == "inline" {
				continue // a message always is
			}
			written[strings.ToLower(f.name)] = true
			b.header = append(b.header, f)
		}
		for _, f := range b.view.msg.Fields {
			name := strings.ToLower(f.Name)
			if strings.HasPrefix(name, "content-") && !written[name] {
				written[name] = true
				b.header = append(b.header, field{name: f.Name})
			}
		}
		b.mimeVersion()
		return nil
	}
	header, err := b.otherFields(p)
	if err != nil {
		return err
	}
	lead, err := b.lineEnd(start)
	if err != nil {
		return err
	}
	for _, f := range c.header {
		header = appendField(header, f)
	}
	header = append(lead, header...)
	b.edit(start, body, append(header, "\r\n"...))
	text := bytes.TrimSuffix(c.body, []byte("\r\n"))
	if !p.lineEndFollows() {
		text = append(text, "\r\n"...)
	}
	b.edit(body, end, text)
	return nil
}

// mimeVersion adds the field without which what else the header says of MIME counts for
// nothing.
func (b *builder) mimeVersion() {
	const name = "MIME-Version"
	there := slices.ContainsFunc(b.header, func(f field) bool { return f.name == name })
	if !there && b.view.msg.CountHeader(name) == 0 {
		b.header = append(b.header, field{name, "1.0"})
	}
}

// otherFields gives the fields of an attached message that do not describe its content, as they
// are written; nothing for other parts.
func (b *builder) otherFields(p *Part) ([]byte, error) {
	if p.Parent.IsMultipart() {
		return nil, nil
	}
	raw := make([]byte, p.part.Body-p.part.Start)
	if n, err := b.view.body().ReadAt(raw, int64(p.part.Start)); n < len(raw) {
		return nil, fmt.Errorf("read a part's header: %w", err)
	}
	if err := b.view.spend(len(raw)); err != nil {
		return nil, err
	}
	header, _ := mail.ParseHeader(raw)
	var out []byte
	for _, f := range header {
		if !strings.HasPrefix(strings.ToLower(f.Name), "content-") {
			out = append(out, raw[f.Start:f.End]...)
		}
	}
	return out, nil
}

// append writes the texts that are appended to a part.
func (b *builder) append(p *Part, c *change) error {
	s, err := p.find()
	if err != nil {
		return err
	}
	text := p.newText(c.texts)
	if s.newline && !s.middle {
		text = "\r\n" + text
	}
	if s.middle || !s.newline || !p.lineEndFollows() {
		text += "\r\n"
	}
	charset, encoding := p.Charset, p.part.Encoding()
	if isASCIISet(charset) && !isASCII(text) && !s.eight {
		charset = "utf-8"
		b.set(p, field{"Content-Type", withCharset(p.part.Media, charset)})
		b.mimeVersion()
	}
	octets := inCharset(charset, text)
	switch {
	case encoding == "base64":
		octets = s.base64(octets)
	case encoding == "quoted-printable":
		octets = s.quoted(octets)
	case bytes.ContainsFunc(octets, func(r rune) bool { return r >= 0x80 }):
		b.eightBit(p)
	}
	b.edit(s.start, s.end, octets)
	return nil
}

// newText gives what is appended, in lines.
func (p *Part) newText(texts []string) string {
	flowed := strings.EqualFold(p.part.Media.Param("format"), "flowed")
	var lines []string
	for _, text := range texts {
		lines = append(lines, textLines(text)...)
	}
	for i, line := range lines {
		if flowed { // RFC 3676 section 4.2
			line = strings.TrimRight(line, " ")
		}
		if p.isBoundary(line) || flowed && (strings.HasPrefix(line, " ") || strings.HasPrefix(line, ">") || strings.HasPrefix(line, "From ")) {
			line = " " + line
		}
		lines[i] = line
	}
	return strings.Join(lines, "\r\n")
}

// isBoundary reports whether a line would end a multipart that the part is in.
func (p *Part) isBoundary(line string) bool {
	if !strings.HasPrefix(line, "--") {
		return false
	}
	line = strings.TrimRight(line[2:], " \t")
	for q := p.Parent; q != nil; q = q.Parent {
		if boundary := q.part.Boundary(); boundary != "" && strings.HasPrefix(line, boundary) {
			return true
		}
	}
	return false
}

// quoted gives octets as quoted-printable that fits the spot.
func (s *spot) quoted(octets []byte) []byte {
	out := quoted(octets)
	if s.middle { // between soft line breaks
		return append(append([]byte("=\r\n"), out...), "=\r\n"...)
	}
	if s.soft {
		return append([]byte("\r\n"), out...)
	}
	return out
}

// base64 gives octets as base64 that fits the spot.
func (s *spot) base64(octets []byte) []byte {
	data := append(append(bytes.Clone(s.before), octets...), s.after...)
	if s.middle { // the characters behind it keep their places
		data = append(bytes.Clone(s.before), octets...)
		for (len(data)+len(s.after))%3 != 0 {
			data = append(data, ' ')
		}
		data = append(data, s.after...)
	}
	out := base64Lines(data)
	if !s.first {
		out = append([]byte("\r\n"), out...)
	}
	if !s.last {
		out = append(out, "\r\n"...)
	}
	return out
}

// eightBit has a part, and all that it is in, say that there are octets above 127 (RFC 2045
// section 6.4).
func (b *builder) eightBit(p *Part) {
	if b.eight == nil {
		b.eight = map[*Part]bool{}
	}
	for q := p; q != nil && !b.eight[q]; q = q.Parent {
		b.eight[q] = true
		if e := q.part.Encoding(); e == "" || e == "7bit" {
			b.set(q, field{"Content-Transfer-Encoding", "8bit"})
		}
	}
	b.mimeVersion()
}

// set gives a part's header a field, instead of those of its name.
func (b *builder) set(p *Part, f field) {
	if p.Parent == nil {
		b.header = append(b.header, f)
		return
	}
	if b.fields == nil {
		b.fields = map[*Part][]field{}
	}
	b.fields[p] = append(b.fields[p], f)
}

// setFields writes the fields that were set in a part's header, and ends a header that nothing
// ends if text follows now.
func (b *builder) setFields(p *Part) error {
	if p.Parent == nil || b.fields[p] == nil && p.change == nil || p.replacedBy() != nil {
		return nil
	}
	start, body := int64(p.part.Start), int64(p.part.Body)
	lead, err := b.lineEnd(start)
	if err != nil {
		return err
	}
	added := lead
	for _, f := range b.fields[p] {
		text := appendField(nil, f)
		for _, old := range p.part.Header {
			if strings.EqualFold(old.Name, f.name) {
				b.edit(int64(old.Start), int64(old.End), text)
				text = nil
			}
		}
		added = append(added, text...)
	}
	if len(added) > 0 {
		b.edit(start, start, added)
	}
	if !p.part.Blank && (p.part.End <= p.part.Body || body == start && len(added) > 0) {
		var end []byte
		if body > start {
			if end, err = b.lineEnd(body); err != nil {
				return err
			}
		}
		b.edit(body, body, append(end, "\r\n"...))
	}
	return nil
}

// lineEnd gives the line end that is missing in front of an offset, at the end of a message.
func (b *builder) lineEnd(at int64) ([]byte, error) {
	if at == 0 || at < b.view.msg.Size {
		return nil, nil
	}
	var last [1]byte
	if n, err := b.view.body().ReadAt(last[:], at-1); n == 0 {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	if last[0] == '\n' || last[0] == '\r' {
		return nil, nil
	}
	return []byte("\r\n"), nil
}

// appendField writes a field, folded where that is possible.
func appendField(out []byte, f field) []byte {
	return append(out, f.name+": "+strings.ReplaceAll(f.value, "; ", ";\r\n\t")+"\r\n"...)
}

// withCharset gives a Content-Type with another character set.
func withCharset(m mail.Media, charset string) string {
	params := map[string]string{}
	for _, p := range m.Params {
		if _, seen := params[p.Name]; !seen {
			params[p.Name] = p.Value
		}
	}
	params["charset"] = charset
	if out := mime.FormatMediaType(m.Type, params); out != "" {
		return out
	}
	return m.Type + "; charset=" + charset
}

// safeLines gives text with CRLF at the ends of its lines.
func safeLines(text []byte) []byte {
	return bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
}

// source is the body as it was, without the view's bounds: the front reads it after the view's
// time.
func (v *View) source() io.ReaderAt {
	if v.msg.Body == nil {
		return eof{}
	}
	return v.msg.Body
}
