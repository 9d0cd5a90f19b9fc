// SPDX-License-Identifier: BSD-2-Clause

package mail

import (
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// NamesMax is how many spellings of a part's name there may be.
const NamesMax = 64

// Filename gives the name that most programs show for the part, or "": the filename of its
// Content-Disposition, else the name of its Content-Type, each in the spelling of RFC 2231
// if there is one, without folders and control characters.
func (p *Part) Filename() string {
	for _, field := range nameFields {
		for i := range p.Header {
			if !strings.EqualFold(p.Header[i].Name, field) {
				continue
			}
			media := ParseMedia(p.Header[i].Value())
			for _, param := range slices.Backward(media.Params) { // those of RFC 2231 come last
				if !isNameParam(param.Name) {
					continue
				}
				if name := baseName(clean(cutName(param.Value))); name != "" {
					return name
				}
			}
		}
	}
	return ""
}

// nameFields are the fields that hold names, in the order of their weight.
var nameFields = [...]string{"Content-Disposition", "Content-Type"}

func isNameParam(name string) bool { return name == "filename" || name == "name" }

// Names gives every name that some program may find for the part, at most [NamesMax], each
// without folders and at most 1 KiB long. Programs differ in which of two fields or
// parameters counts, in what they decode, and in where they take a name to end; a filter that
// looks at one spelling alone is passed by with another. Names are:
//
//   - from every Content-Disposition and Content-Type field, every filename and name, also where
//     a semicolon is missing and in quoted text and comments; and Content-Name;
//   - encoded as RFC 2231 says, decoded and not, in the order of the numbers and in that of
//     the text, with and without what stands behind a missing number, the first and the last
//     of equal numbers;
//   - encoded words (RFC 2047), decoded once, twice and not, percent signs as well;
//   - quoted text with its backslashes obeyed and taken literally, the text up to an inner
//     quotation mark or semicolon, and all of it without quotation marks; of unquoted text
//     also the first word;
//   - with and without control and invisible characters, up to a NUL, up to and behind a
//     colon, without the dots and spaces at the end that Windows drops.
func (p *Part) Names() []string {
	n := p.names()
	return n.list
}

func (p *Part) names() (n nameSet) {
	for _, field := range nameFields {
		for _, header := range []Header{p.Header, p.late} {
			for i := range header {
				if strings.EqualFold(header[i].Name, field) {
					n.field(header[i].Value())
				}
			}
		}
	}
	for i := range p.Header {
		if strings.EqualFold(p.Header[i].Name, "Content-Name") {
			n.decoded(p.Header[i].Value())
		}
	}
	return n
}

// nameSet collects spellings.
type nameSet struct {
	list []string
	over bool // there are more
}

// field adds the names of one field, which programs read with and without its comments.
func (n *nameSet) field(value string) {
	n.params(value)
	if bare := withoutComments(value); bare != value {
		n.params(bare)
	}
}

func (n *nameSet) params(value string) {
	params, more := nameParams(value)
	n.over = n.over || more
	for _, p := range params {
		if !strings.Contains(p.name, "*") {
			n.param(p)
		}
	}
	for _, e := range extendedParams(params) {
		n.pieces(e.pieces)
		for _, p := range e.whole {
			n.pieces([]piece{p})
		}
	}
}

// nameParams finds the parameters that are names wherever they stand: programs differ in what
// separates parameters, and in where quoted text and comments end.
func nameParams(value string) (out []rawParam, more bool) {
	const word, prefix = "name", "file"
	for at := 0; at+len(word) < len(value); at++ {
		if value[at]|0x20 != word[0] || !strings.EqualFold(value[at:at+len(word)], word) {
			continue
		}
		begins, rest := at, value[at+len(word):]
		if n := at - len(prefix); n >= 0 && strings.EqualFold(value[n:at], prefix) {
			begins = n
		}
		if begins > 0 && isWordChar(value[begins-1]) {
			continue // of a longer word
		}
		star := ""
		if end := strings.IndexAny(rest, "= \t\":;,("); end > 0 {
			star, rest = rest[:end], rest[end:]
		}
		rest = strings.TrimLeft(rest, " \t\"")
		if star != "" && star[0] != '*' || rest == "" || rest[0] != '=' && rest[0] != ':' {
			continue
		}
		if len(out) >= maxParams {
			return out, true
		}
		p, _ := paramValue(rest[1:])
		p.name = strings.ToLower(value[begins:at+len(word)]) + star
		out = append(out, p)
	}
	return out, false
}

func isWordChar(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// param adds the spellings of one parameter.
func (n *nameSet) param(p rawParam) {
	n.decoded(p.value)
	raw := strings.TrimSpace(p.raw)
	if inner, quoted := strings.CutPrefix(raw, `"`); quoted {
		literal := strings.TrimSuffix(inner, `"`)
		n.decoded(literal)
		head, _, _ := strings.Cut(literal, `"`)
		n.decoded(strings.TrimRight(head, `\`))
		head, _, _ = strings.Cut(literal, ";")
		n.decoded(head)
	} else if words := strings.Fields(raw); len(words) > 1 {
		n.decoded(words[0])
	}
	n.decoded(strings.ReplaceAll(raw, `"`, ""))
	if inner, quoted := strings.CutPrefix(raw, `'`); quoted {
		n.decoded(strings.Trim(raw, `'`))
		inner, _, _ = strings.Cut(inner, `'`)
		n.decoded(inner)
	}
}

// pieces adds the spellings of a parameter in the way of RFC 2231.
func (n *nameSet) pieces(list []piece) {
	if len(list) == 0 {
		return
	}
	var plain strings.Builder
	inText := slices.Clone(list)
	for i := range inText {
		plain.WriteString(inText[i].value)
		inText[i].number = i
	}
	n.decoded(join(list))
	n.decoded(join(inText))
	n.decoded(join(inRow(list, false)))
	n.decoded(join(inRow(list, true)))
	as := plain.String()
	if parts := strings.SplitN(as, "'", 3); len(parts) == 3 && list[0].encoded {
		as = parts[2]
	}
	n.decoded(as)
}

// decoded adds a spelling with and without its encoded words and percent signs decoded.
func (n *nameSet) decoded(s string) {
	const most = 8 << 10 // encoded; a name of 1 KiB fits
	s = s[:min(len(s), most)]
	words := DecodeWords(s)
	n.add(words)
	n.add(text(s))
	if words != s {
		n.add(DecodeWords(words)) // encoded twice
		plain, _ := decodeWords(s, plainOctets)
		n.add(plain)
	}
	if strings.Contains(words, "%") {
		n.add(text(string(percentDecode(words))))
	}
	if strings.Contains(s, "\x1b") { // Japanese, without saying so
		japanese, _ := ToUTF8("iso-2022-jp", []byte(s))
		n.add(japanese)
	}
}

// plainOctets leaves out the character set of octets that are ASCII, as programs do that do not
// know it.
func plainOctets(set string, octets []byte) (string, bool) {
	for _, c := range octets {
		if c < ' ' || c > '~' {
			return ToUTF8(set, octets)
		}
	}
	return string(octets), true
}

// Spellings gives a decoded name as programs read it that cut it, or leave out what cannot be
// seen: see [Part.Names]. Folders are removed.
func Spellings(name string) []string {
	var n nameSet
	n.add(name)
	return n.list
}

// add adds a decoded name, and what is left of it in programs that cut it.
func (n *nameSet) add(s string) {
	s = cutName(s)
	n.one(s)
	head, _, cut := strings.Cut(s, "\x00")
	if cut {
		n.one(head)
	}
	s = clean(s)
	n.one(s)
	s = baseName(s)
	n.one(s)
	if i := strings.IndexByte(s, ':'); i >= 0 { // a drive, or a stream of a file
		n.one(baseName(s[:i]))
		n.one(baseName(s[strings.LastIndexByte(s, ':')+1:]))
	}
}

// one adds a name without its folders.
func (n *nameSet) one(s string) {
	if strings.ContainsAny(s, `/\`) {
		s = path.Base(strings.ReplaceAll(s, `\`, "/"))
	}
	if s == "" || s == "." || s == "/" || slices.Contains(n.list, s) {
		return
	}
	if len(n.list) >= NamesMax {
		n.over = true
		return
	}
	n.list = append(n.list, s)
}

// cutName cuts a name to the longest that there may be.
func cutName(s string) string {
	if len(s) <= DefaultLimits.Name {
		return s
	}
	return strings.ToValidUTF8(s[:DefaultLimits.Name], "")
}

// clean takes what cannot be seen from a name: control characters, and those that join, hide
// or turn others (Unicode's Cf).
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
}

// baseName takes folders from a name, and the dots and spaces at its end.
func baseName(s string) string {
	if s = path.Base(strings.ReplaceAll(s, `\`, "/")); s == "/" || s == "." {
		return ""
	}
	return strings.Trim(strings.TrimRight(s, ". \u00a0"), " ")
}

// Ext gives the extension of a name in lower case, without its dot: "exe"; "" if there is
// none.
func Ext(name string) string {
	name = baseName(clean(name))
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return ""
	}
	return strings.ToLower(strings.TrimSpace(name[i+1:]))
}
