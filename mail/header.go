// SPDX-License-Identifier: BSD-2-Clause

package mail

import (
	"bytes"
	"strings"
)

// Field is one header field.
type Field struct {
	Name string // as it is written
	// Raw is what follows the colon, with its folding, without the line end that ends it.
	Raw []byte
	// Start and End are where the field stands in the message, its line end included.
	Start, End int
	colon      int // where it stands behind Start
}

// Value is the field's value unfolded (RFC 5322 section 2.2.3), without blanks around it.
func (f *Field) Value() string { return unfold(f.Raw) }

// Text is the value with its encoded words decoded (RFC 2047), for people.
func (f *Field) Text() string { return DecodeWords(f.Value()) }

// unfold takes line ends out of a value.
func unfold(raw []byte) string {
	if bytes.IndexAny(raw, "\r\n") >= 0 {
		raw = bytes.Map(func(r rune) rune {
			if r == '\r' || r == '\n' {
				return -1
			}
			return r
		}, bytes.ToValidUTF8(raw, []byte("\uFFFD")))
	}
	return string(bytes.Trim(raw, " \t"))
}

// Header is the fields of a header in their order.
type Header []Field

// Get gives the first field of that name, or nil. Case does not count.
func (h Header) Get(name string) *Field {
	for i := range h {
		if strings.EqualFold(h[i].Name, name) {
			return &h[i]
		}
	}
	return nil
}

// Value gives the unfolded value of the first field of that name, or "".
func (h Header) Value(name string) string {
	if f := h.Get(name); f != nil {
		return f.Value()
	}
	return ""
}

// Text gives the decoded value of the first field of that name, or "".
func (h Header) Text(name string) string { return DecodeWords(h.Value(name)) }

// Values gives the unfolded values of all fields of that name.
func (h Header) Values(name string) []string {
	var out []string
	for i := range h {
		if strings.EqualFold(h[i].Name, name) {
			out = append(out, h[i].Value())
		}
	}
	return out
}

// differ reports whether there are fields of that name with different values: programs
// disagree on which one counts.
func (h Header) differ(name string) bool {
	var first *Field
	for i := range h {
		if !strings.EqualFold(h[i].Name, name) {
			continue
		}
		if first != nil && !bytes.Equal(h[i].Raw, first.Raw) {
			return true
		}
		first = &h[i]
	}
	return false
}

// lineKind is what a line of a header is.
type lineKind uint8

const (
	lineField lineKind = iota
	lineMore           // of the field before
	lineOdd            // not a field, but passed over: a line of an mbox that got in
	lineEmpty          // ends the header
	lineBody           // cannot belong to a header: ends it, and belongs to the body
)

// headerState knows whether there is a field that the next line can continue.
type headerState struct{ field bool }

// take says what the next line is. It has no line end.
func (h *headerState) take(text []byte) lineKind {
	switch {
	case len(text) == 0:
		return lineEmpty
	case (text[0] == ' ' || text[0] == '\t') && h.field:
		return lineMore
	case text[0] == ' ' || text[0] == '\t' || bytes.HasPrefix(text, []byte("From ")) || bytes.HasPrefix(text, []byte(">From ")):
		return lineOdd
	}
	name, _, ok := bytes.Cut(text, []byte(":"))
	if name = bytes.TrimRight(name, " \t"); !ok || len(name) == 0 || !isFieldName(name) {
		return lineBody
	}
	h.field = true
	return lineField
}

// isFieldName reports whether name may be a field's (RFC 5322 section 2.2).
func isFieldName(name []byte) bool {
	for _, c := range name {
		if c <= ' ' || c > '~' || c == ':' {
			return false
		}
	}
	return true
}

// ParseHeader reads a header up to its empty line, and gives what follows.
func ParseHeader(data []byte) (Header, []byte) {
	var state headerState
	at := 0
	for start, end := range lines(data) {
		kind := state.take(trimEOL(data[start:end]))
		if kind != lineBody {
			at = end
		}
		if kind >= lineEmpty {
			break
		}
	}
	header, _ := parseHeader(data[:at], 0, DefaultLimits.Fields)
	return header, data[at:]
}

// parseHeader reads the fields of a header that begins at an offset of its message. It
// reports whether there are more than the limit.
func parseHeader(data []byte, offset, limit int) (fields Header, over bool) {
	var state headerState
	for start, end := range lines(data) {
		text := trimEOL(data[start:end])
		switch state.take(text) {
		case lineMore:
			if over {
				continue
			}
			f := &fields[len(fields)-1]
			f.Raw = data[f.Start-offset+f.colon+1 : start+len(text)]
			f.End = offset + end
		case lineField:
			if len(fields) >= limit {
				over = true
				continue
			}
			colon := bytes.IndexByte(text, ':')
			fields = append(fields, Field{Name: string(bytes.TrimRight(text[:colon], " \t")), Raw: text[colon+1:],
				Start: offset + start, End: offset + end, colon: colon})
		case lineOdd, lineEmpty, lineBody:
		}
	}
	return fields, over
}

// trimEOL takes the line end from a line.
func trimEOL(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line
}

// DecodeWords decodes the encoded words of a value (RFC 2047), also where blanks around them
// are missing. Octets that are not UTF-8 are read as Windows-1252, as mail without a declared
// character set mostly is. A word that cannot be decoded stays as it is.
func DecodeWords(value string) string {
	out, _ := DecodeWordsOK(value)
	return out
}

// DecodeWordsOK is [DecodeWords] and reports whether every encoded word could be decoded.
func DecodeWordsOK(value string) (string, bool) {
	if !strings.Contains(value, "=?") {
		return text(value), true
	}
	return decodeWords(value, ToUTF8)
}
