// SPDX-License-Identifier: BSD-2-Clause

package mail

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Param is one parameter of a structured field: filename=x.
type Param struct {
	Name  string // lower case, without the marks of RFC 2231
	Value string // decoded
}

// Media is a Content-Type or Content-Disposition, read as leniently as mail programs do.
type Media struct {
	Type   string // lower case: "text/plain", "attachment"
	Params []Param
	More   bool // there are more parameters than are read
}

// Param gives the first parameter of that name, or "".
func (m *Media) Param(name string) string {
	for _, p := range m.Params {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

// ParseMedia reads the value of a Content-Type or Content-Disposition field. Duplicate
// parameters, and the same parameter in the ways of RFC 2047 and RFC 2231, are all kept:
// programs differ in which they use.
func ParseMedia(value string) Media {
	m := Media{Type: mediaType(value)}
	params, more := rawParams(value)
	m.More = more
	for _, p := range params {
		if !strings.Contains(p.name, "*") {
			m.Params = append(m.Params, Param{p.name, DecodeWords(p.value)})
		}
	}
	for _, e := range extendedParams(params) {
		if len(e.pieces) > 0 {
			m.Params = append(m.Params, Param{e.name, join(e.pieces)})
		}
		for _, p := range e.whole {
			m.Params = append(m.Params, Param{e.name, join([]piece{p})})
		}
	}
	return m
}

// mediaType reads "type/subtype", or one word. Comments and blanks may stand anywhere in it (RFC
// 2045 section 5.1), and quotation marks around it; what follows the subtype is left out, as a
// semicolon may be missing.
func mediaType(value string) string {
	head, _, _ := strings.Cut(withoutComments(value), ";")
	head = strings.Trim(head, "\" \t")
	kind, sub, isPair := strings.Cut(head, "/")
	kind = firstWord(kind)
	if isPair {
		kind += "/" + firstWord(sub)
	}
	return strings.ToLower(kind)
}

// firstWord gives what stands before a blank or comma.
func firstWord(s string) string {
	s = strings.TrimLeft(s, " \t")
	if i := strings.IndexAny(s, " \t,\""); i >= 0 {
		s = s[:i]
	}
	return s
}

// withoutComments puts a blank in the place of each comment (RFC 5322 section 3.2.2). One that
// does not end goes on to the end.
func withoutComments(s string) string {
	if !strings.Contains(s, "(") {
		return s
	}
	var out strings.Builder
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && (quoted || depth > 0) && i+1 < len(s):
			if i++; depth == 0 {
				out.WriteString(s[i-1 : i+1])
			}
			continue
		case c == '"' && depth == 0:
			quoted = !quoted
		case c == '(' && !quoted:
			if depth++; depth == 1 {
				out.WriteByte(' ')
			}
		case c == ')' && depth > 0:
			depth--
			continue
		}
		if depth == 0 {
			out.WriteByte(c)
		}
	}
	return out.String()
}

// boundaryOf gives the boundary that a Content-Type names. It reports whether all programs read
// the same one.
func boundaryOf(value string) (boundary string, sure bool) {
	params, _ := rawParams(value)
	var found []string
	sure = true
	for _, p := range params {
		if p.name != "boundary" {
			continue
		}
		raw := strings.TrimSpace(p.raw)
		quoted := strings.HasPrefix(raw, `"`)
		if quoted && raw != `"`+p.value && raw != `"`+p.value+`"` || !quoted && strings.ContainsAny(raw, " \t(\"'") || DecodeWords(p.value) != p.value {
			sure = false
		}
		found = append(found, strings.TrimRight(p.value, " \t")) // it cannot end with a blank
	}
	for _, e := range extendedParams(params) {
		if e.name != "boundary" {
			continue
		}
		if len(e.pieces) > 0 {
			found = append(found, join(e.pieces))
		}
		for _, p := range e.whole {
			found = append(found, join([]piece{p}))
		}
	}
	if len(found) == 0 {
		return "", true
	}
	for _, b := range found[1:] {
		sure = sure && b == found[0]
	}
	return found[0], sure
}

// maxParams is how many parameters of a field are read.
const maxParams = 64

// rawParam is a parameter as it is written.
type rawParam struct {
	name  string // lower case
	value string // without quotation marks
	raw   string // as it is written
}

// rawParams reads the parameters of a field's value. It reports whether there are more.
func rawParams(value string) (out []rawParam, more bool) {
	head, rest, _ := strings.Cut(value, ";")
	if head = strings.TrimSpace(head); strings.Contains(head, "=") { // a missing semicolon
		_, rest, _ = strings.Cut(strings.TrimSpace(value), " ")
	}
	for rest != "" {
		if len(out) >= maxParams {
			return out, true
		}
		var p rawParam
		if p, rest = nextParam(rest); p.name != "" {
			out = append(out, p)
		}
	}
	return out, false
}

// nextParam reads one "name=value" up to its semicolon. The value may be quoted.
func nextParam(s string) (p rawParam, rest string) {
	s = strings.TrimLeft(s, "; \t")
	end := strings.IndexAny(s, "=;")
	if end < 0 || s[end] == ';' {
		_, rest, _ = strings.Cut(s, ";")
		return p, rest
	}
	if words := strings.Fields(s[:end]); len(words) > 0 { // a comment may stand before the name
		p.name = strings.ToLower(words[len(words)-1])
	}
	name := p.name
	p, rest = paramValue(s[end+1:])
	p.name = name
	return p, rest
}

// paramValue reads a value up to its semicolon, and gives what follows.
func paramValue(s string) (p rawParam, rest string) {
	s = strings.TrimLeft(s, " \t")
	if !strings.HasPrefix(s, `"`) {
		p.raw, rest, _ = strings.Cut(s, ";")
		p.value = strings.TrimSpace(p.raw)
		return p, rest
	}
	var out strings.Builder
	i := 1
	for ; i < len(s) && s[i] != '"'; i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		out.WriteByte(s[i])
	}
	p.value = out.String()
	i = min(i, len(s))
	tail, rest, _ := strings.Cut(s[i:], ";")
	p.raw = s[:i+len(tail)]
	return p, rest
}

// extended is a parameter in the ways of RFC 2231: whole ("name*"), and in pieces ("name*0").
type extended struct {
	name   string
	whole  []piece
	pieces []piece
}

// extendedParams gives the parameters whose names have an asterisk, in the order of the text.
func extendedParams(params []rawParam) (out []extended) {
	for _, p := range params {
		name, star, isStar := strings.Cut(p.name, "*")
		if !isStar {
			continue
		}
		i := slices.IndexFunc(out, func(e extended) bool { return e.name == name })
		if i < 0 {
			i = len(out)
			out = append(out, extended{name: name})
		}
		if star == "" {
			out[i].whole = append(out[i].whole, piece{encoded: true, value: p.value})
		} else {
			out[i].pieces = append(out[i].pieces, newPiece(star, p.value))
		}
	}
	return out
}

// piece is one part of a parameter that RFC 2231 sections 3 and 4 part or encode.
type piece struct {
	number  int
	proper  bool // the number is written as it should be
	encoded bool
	value   string
}

// newPiece reads what follows the first asterisk of a name: "0", "0*", "1*".
func newPiece(star, value string) piece {
	p := piece{value: value}
	digits, encoded := strings.CutSuffix(star, "*")
	p.encoded = encoded
	n, err := strconv.Atoi(digits)
	p.number, p.proper = n, err == nil && n >= 0 && strconv.Itoa(n) == digits
	return p
}

// inRow gives the pieces from number 0 on up to the first that is missing, as RFC 2231 has
// them. Of those that have one number it takes the first or the last.
func inRow(pieces []piece, last bool) (out []piece) {
	at := make(map[int]piece, len(pieces))
	for _, p := range pieces {
		if _, seen := at[p.number]; p.proper && (last || !seen) {
			at[p.number] = p
		}
	}
	for n := 0; ; n++ {
		p, ok := at[n]
		if !ok {
			return out
		}
		out = append(out, p)
	}
}

// join puts the pieces of a parameter together and decodes them.
func join(pieces []piece) string {
	pieces = slices.Clone(pieces)
	slices.SortStableFunc(pieces, func(a, b piece) int { return cmp.Compare(a.number, b.number) })
	set := ""
	var octets []byte
	for i, p := range pieces {
		if i == 0 && p.encoded {
			if parts := strings.SplitN(p.value, "'", 3); len(parts) == 3 {
				set, p.value = parts[0], parts[2]
			}
		}
		if p.encoded {
			octets = append(octets, percentDecode(p.value)...)
		} else {
			octets = append(octets, p.value...)
		}
	}
	out, _ := ToUTF8(set, octets)
	return out
}

func percentDecode(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			out = append(out, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
			continue
		}
		out = append(out, s[i])
	}
	return out
}
