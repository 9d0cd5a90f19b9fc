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
	head, _, _ := strings.Cut(value, ";")
	if blank := strings.IndexAny(strings.TrimSpace(head), " \t("); blank >= 0 { // a comment, or a missing semicolon
		head = strings.TrimSpace(head)[:blank]
	}
	m := Media{Type: strings.ToLower(strings.TrimSpace(head))}
	params, more := rawParams(value)
	m.More = more
	pieces := map[string][]piece{}
	var order []string
	for _, p := range params {
		base, star, isStar := strings.Cut(p.name, "*")
		if !isStar {
			m.Params = append(m.Params, Param{p.name, DecodeWords(p.value)})
			continue
		}
		if _, seen := pieces[base]; !seen {
			order = append(order, base)
		}
		pieces[base] = append(pieces[base], newPiece(star, p.value))
	}
	for _, base := range order {
		m.Params = append(m.Params, Param{base, join(pieces[base])})
	}
	return m
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
	s = strings.TrimLeft(s[end+1:], " \t")
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

// piece is one part of a parameter that RFC 2231 sections 3 and 4 part or encode.
type piece struct {
	number  int
	encoded bool
	value   string
}

// newPiece reads what follows the first asterisk of a name: "", "0", "0*", "1*".
func newPiece(star, value string) piece {
	p := piece{value: value}
	if star == "" {
		p.encoded = true
		return p
	}
	digits, encoded := strings.CutSuffix(star, "*")
	p.encoded = encoded
	p.number, _ = strconv.Atoi(digits)
	return p
}

// join puts the pieces of a parameter together and decodes them.
func join(pieces []piece) string {
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
