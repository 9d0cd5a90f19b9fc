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
//   - from every Content-Disposition and Content-Type field, every filename and name;
//   - encoded as RFC 2231 says, decoded and not, in the order of the numbers and in that of
//     the text;
//   - encoded words (RFC 2047), decoded and not, percent signs as well;
//   - quoted text with its backslashes obeyed and taken literally, the text up to an inner
//     quotation mark or semicolon, and all of it without quotation marks; of unquoted text
//     also the first word;
//   - with and without control and invisible characters, up to a NUL, up to and behind a
//     colon, without the dots and spaces at the end that Windows drops.
func (p *Part) Names() []string {
	var n nameSet
	for _, field := range nameFields {
		for i := range p.Header {
			if strings.EqualFold(p.Header[i].Name, field) {
				n.field(p.Header[i].Value())
			}
		}
	}
	return n.list
}

// nameSet collects spellings.
type nameSet struct{ list []string }

// field adds the names of one field.
func (n *nameSet) field(value string) {
	params, _ := rawParams(value)
	pieces := map[string][]piece{}
	var order []string
	for _, p := range params {
		base, star, isStar := strings.Cut(p.name, "*")
		if !isNameParam(base) {
			continue
		}
		if !isStar {
			n.param(p)
			continue
		}
		if _, seen := pieces[base]; !seen {
			order = append(order, base)
		}
		pieces[base] = append(pieces[base], newPiece(star, p.value))
	}
	for _, base := range order {
		n.pieces(pieces[base])
	}
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
	if strings.HasPrefix(raw, `'`) {
		n.decoded(strings.Trim(raw, `'`))
	}
}

// pieces adds the spellings of a parameter in the way of RFC 2231.
func (n *nameSet) pieces(list []piece) {
	var plain strings.Builder
	for _, p := range list {
		plain.WriteString(p.value)
	}
	n.decoded(join(slices.Clone(list)))
	inText := slices.Clone(list)
	for i := range inText {
		inText[i].number = i
	}
	n.decoded(join(inText))
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
	if strings.Contains(words, "%") {
		n.add(text(string(percentDecode(words))))
	}
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
	if s == "" || s == "." || s == "/" || len(n.list) >= NamesMax || slices.Contains(n.list, s) {
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
