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

// headerScanner reads fields line by line.
type headerScanner struct {
	data   []byte
	fields Header
	limit  int // fields
	over   bool
	odd    bool // a line that is no field
}

// line adds one line of the header. It reports whether the header ends before it: an empty
// line, or one that cannot belong to a header.
func (h *headerScanner) line(start, end int) (ended, consumed bool) {
	text := trimEOL(h.data[start:end])
	if len(text) == 0 {
		return true, true
	}
	if text[0] == ' ' || text[0] == '\t' {
		if n := len(h.fields); n > 0 {
			f := &h.fields[n-1]
			f.Raw = h.data[f.Start+len(f.Name)+1 : start+len(text)]
			f.End = end
		} else {
			h.odd = true
		}
		return false, true
	}
	name, _, ok := bytes.Cut(text, []byte(":"))
	trimmed := bytes.TrimRight(name, " \t") // obsolete syntax: blanks before the colon
	if !ok || len(trimmed) == 0 || !isFieldName(trimmed) {
		if bytes.HasPrefix(text, []byte("From ")) || bytes.HasPrefix(text, []byte(">From ")) {
			h.odd = true
			return false, true // a line of an mbox that got in
		}
		h.odd = true
		return true, false
	}
	if len(h.fields) >= h.limit {
		h.over = true
		return false, true
	}
	h.fields = append(h.fields, Field{Name: string(name), Raw: text[len(name)+1:], Start: start, End: end})
	return false, true
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
	h := headerScanner{data: data, limit: DefaultLimits.Fields}
	at := 0
	for start, end := range lines(data) {
		ended, consumed := h.line(start, end)
		if consumed {
			at = end
		}
		if ended {
			break
		}
	}
	h.trimNames()
	return h.fields, data[at:]
}

// trimNames takes blanks before the colon from the names, once their length is not needed.
func (h *headerScanner) trimNames() {
	for i := range h.fields {
		h.fields[i].Name = strings.TrimRight(h.fields[i].Name, " \t")
	}
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
	return decodeWords(value)
}
