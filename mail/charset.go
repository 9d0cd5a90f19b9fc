// SPDX-License-Identifier: BSD-2-Clause

package mail

import (
	"bytes"
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
)

// text gives octets without a declared character set as UTF-8.
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	out, err := charmap.Windows1252.NewDecoder().String(s)
	if err != nil {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return out
}

// Charset gives the encoding of that name (RFC 2045 section 5.1), nil if it is not known.
func Charset(name string) encoding.Encoding {
	name = strings.ToLower(strings.TrimSpace(name))
	switch name { // names that mail has and HTML has not
	case "ascii", "ansi_x3.4-1968", "646":
		name = "us-ascii"
	case "cp1252":
		name = "windows-1252"
	case "iso-8859-8-i":
		name = "iso-8859-8"
	}
	enc, err := htmlindex.Get(name)
	if err != nil {
		return nil
	}
	return enc
}

// ToUTF8 turns octets of a character set into UTF-8. It reports whether the character set is
// known and fits; if not, the octets are taken for UTF-8 or Windows-1252.
func ToUTF8(name string, data []byte) (string, bool) {
	lower := strings.ToLower(name)
	if IsUTF7(name) {
		return decodeUTF7(data)
	}
	if (lower == "" || lower == "utf-8" || lower == "utf8" || lower == "us-ascii") && utf8.Valid(data) {
		return string(data), true
	}
	enc := Charset(name)
	if enc == nil {
		return text(string(data)), false
	}
	out, err := enc.NewDecoder().Bytes(data)
	if err != nil {
		return text(string(data)), false
	}
	return string(out), true
}

// decodeWords decodes the encoded words of a value with toUTF8. Neighbours of one character set
// are joined before they are decoded: a character may be parted between two (against RFC 2047
// section 5, but common), and the state of ISO-2022-JP may go on.
func decodeWords(value string, toUTF8 func(set string, octets []byte) (string, bool)) (string, bool) {
	var out strings.Builder
	ok := true
	var pending []byte // decoded octets of neighbouring words
	var pendingSet string
	flush := func() {
		if pending != nil {
			s, fits := toUTF8(pendingSet, pending)
			out.WriteString(s)
			ok = ok && fits
			pending = nil
		}
	}
	for len(value) > 0 {
		start := strings.Index(value, "=?")
		if start < 0 {
			break
		}
		w := encodedWord(value[start:])
		between := value[:start]
		ok = ok && w.exact
		if w.length == 0 {
			flush()
			out.WriteString(text(value[:start+2]))
			value = value[start+2:]
			continue
		}
		if pending == nil || strings.Trim(between, " \t") != "" {
			flush()
			out.WriteString(text(between))
		} else if !strings.EqualFold(w.set, pendingSet) {
			flush() // blanks between encoded words do not count (RFC 2047 section 6.2)
		}
		pending, pendingSet = append(pending, w.octets...), w.set
		if pending == nil {
			pending = []byte{}
		}
		value = value[start+w.length:]
	}
	flush()
	out.WriteString(text(value))
	return out.String(), ok
}

// maxWord is the longest text of an encoded word that is decoded, in octets. RFC 2047 section
// 2 allows 75 for the whole word; programs write longer ones.
const maxWord = 8192

// word is an encoded word.
type word struct {
	set    string
	octets []byte
	length int  // as it is written; 0: it is not one
	exact  bool // it is as RFC 2047 has it
}

// encodedWord reads "=?charset?encoding?text?=" at the beginning of s.
func encodedWord(s string) (w word) {
	set, rest, ok := strings.Cut(s[2:], "?")
	if !ok || set == "" || len(set) > 64 || strings.ContainsAny(set, " \t=") || len(rest) < 2 || rest[1] != '?' {
		return word{}
	}
	end := strings.Index(rest[2:min(len(rest), 2+maxWord)], "?=")
	if end < 0 {
		return word{}
	}
	body := rest[2 : 2+end]
	w.set, _, _ = strings.Cut(set, "*") // RFC 2231 section 5: a language
	switch rest[0] {
	case 'b', 'B':
		w.octets, w.exact = decodeB(body)
	case 'q', 'Q':
		w.octets, w.exact = decodeQ(body)
	default:
		return word{}
	}
	w.length = len(s) - len(rest) + 2 + end + 2
	return w
}

// decodeB decodes base64, with or without its padding, also inside. What is not of its alphabet
// is passed over; it reports whether there is any of that.
func decodeB(s string) (out []byte, exact bool) {
	exact = true
	var run []byte // of the alphabet
	flush := func() {
		if len(run)%4 == 1 { // one character too many: cut off
			run = run[:len(run)-1]
		}
		out, _ = base64.RawStdEncoding.AppendDecode(out, run) // the alphabet was checked
		run = run[:0]
	}
	s = strings.TrimRight(strings.TrimSpace(s), "=")
	for _, c := range []byte(s) {
		switch {
		case IsBase64(c):
			run = append(run, c)
		case c == '=':
			flush()
			exact = false
		default:
			exact = false
		}
	}
	flush()
	return out, exact
}

// decodeQ decodes the Q encoding (RFC 2047 section 4.2). It reports whether every escape is one.
func decodeQ(s string) (out []byte, exact bool) {
	out, exact = make([]byte, 0, len(s)), true
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '_':
			out = append(out, ' ')
		case c == '=' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			out = append(out, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		default:
			out = append(out, c)
			exact = exact && c != '='
		}
	}
	return out, exact
}

func isHex(c byte) bool { return bytes.IndexByte([]byte("0123456789abcdefABCDEF"), c) >= 0 }

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}
