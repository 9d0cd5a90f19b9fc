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

// decodeWords decodes the encoded words of a value. Neighbours of one character set are
// joined before they are decoded: a character may be parted between two (against RFC 2047
// section 5, but common), and the state of ISO-2022-JP may go on.
func decodeWords(value string) (string, bool) {
	var out strings.Builder
	ok := true
	var pending []byte // decoded octets of neighbouring words
	var pendingSet string
	flush := func() {
		if pending != nil {
			s, fits := ToUTF8(pendingSet, pending)
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
		set, octets, length := encodedWord(value[start:])
		between := value[:start]
		if length == 0 {
			ok = false
			flush()
			out.WriteString(text(value[:start+2]))
			value = value[start+2:]
			continue
		}
		if pending == nil || strings.Trim(between, " \t") != "" {
			flush()
			out.WriteString(text(between))
		} else if !strings.EqualFold(set, pendingSet) {
			flush() // blanks between encoded words do not count (RFC 2047 section 6.2)
		}
		pending, pendingSet = append(pending, octets...), set
		if pending == nil {
			pending = []byte{}
		}
		value = value[start+length:]
	}
	flush()
	out.WriteString(text(value))
	return out.String(), ok
}

// maxWord is the longest text of an encoded word that is decoded, in octets. RFC 2047 section
// 2 allows 75 for the whole word; programs write longer ones.
const maxWord = 8192

// encodedWord reads "=?charset?encoding?text?=" at the beginning of s. Its length is 0 if
// that is none.
func encodedWord(s string) (set string, octets []byte, length int) {
	set, rest, ok := strings.Cut(s[2:], "?")
	if !ok || set == "" || len(set) > 64 || strings.ContainsAny(set, " \t=") || len(rest) < 2 || rest[1] != '?' {
		return "", nil, 0
	}
	end := strings.Index(rest[2:min(len(rest), 2+maxWord)], "?=")
	if end < 0 {
		return "", nil, 0
	}
	body := rest[2 : 2+end]
	set, _, _ = strings.Cut(set, "*") // RFC 2231 section 5: a language
	switch rest[0] {
	case 'b', 'B':
		octets, ok = decodeB(body)
	case 'q', 'Q':
		octets, ok = decodeQ(body)
	default:
		ok = false
	}
	if !ok {
		return "", nil, 0
	}
	return set, octets, len(s) - len(rest) + 2 + end + 2
}

// decodeB decodes base64, with or without its padding.
func decodeB(s string) ([]byte, bool) {
	s = strings.TrimRight(strings.TrimSpace(s), "=")
	out, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil && len(s)%4 == 1 { // one character too many: cut off
		out, err = base64.RawStdEncoding.DecodeString(s[:len(s)-1])
	}
	return out, err == nil
}

// decodeQ decodes the Q encoding (RFC 2047 section 4.2).
func decodeQ(s string) ([]byte, bool) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '_':
			out = append(out, ' ')
		case c == '=' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			out = append(out, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		case c == '=':
			return nil, false
		default:
			out = append(out, c)
		}
	}
	return out, true
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
