// SPDX-License-Identifier: BSD-2-Clause

package part

import (
	"bytes"
	"encoding/base64"
	"html"
	"mime/quotedprintable"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/unicode/norm"

	"rcptgate/mail"
)

// lineMost is how long a line of new text may be where it is not encoded: RFC 5322 section
// 2.1.1 allows 998.
const lineMost = 900

// textLines gives text in lines without their ends, without those that are empty at its end.
func textLines(text string) []string {
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	text = strings.TrimRight(strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", ""), "\n")
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		for len(line) > lineMost {
			at := strings.LastIndexByte(line[:lineMost], ' ') + 1
			if at <= 1 {
				for at = lineMost; !utf8.RuneStart(line[at]); {
					at--
				}
			}
			out = append(out, line[:at])
			line = line[at:]
		}
		out = append(out, line)
	}
	return out
}

// htmlOf gives text as a paragraph of HTML.
func htmlOf(text string) string {
	return "<div>" + strings.Join(textLines(html.EscapeString(text)), "<br>\n") + "</div>"
}

// asciiHTML writes characters beyond ASCII as references, so that HTML is the same in every
// character set.
func asciiHTML(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r < utf8.RuneSelf {
			b.WriteRune(r)
			continue
		}
		b.WriteString("&#" + strconv.Itoa(int(r)) + ";")
	}
	return b.String()
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}

// isASCIISet reports whether a character set is ASCII, or is not named.
func isASCIISet(name string) bool {
	switch strings.ToLower(name) {
	case "", "us-ascii", "ascii", "ansi_x3.4-1968":
		return true
	}
	return false
}

// inCharset gives text in a character set. What it does not have is written in ASCII.
func inCharset(name, text string) []byte {
	if mail.IsUTF7(name) {
		return []byte(strings.ReplaceAll(fits(text, func(r rune) bool { return r < utf8.RuneSelf }), "+", "+-"))
	}
	enc := mail.Charset(name)
	if enc == nil || isASCIISet(name) {
		return []byte(fits(text, func(r rune) bool { return r < utf8.RuneSelf }))
	}
	if out, err := enc.NewEncoder().String(text); err == nil {
		return []byte(out)
	}
	known := map[rune]bool{}
	text = fits(text, func(r rune) bool {
		ok, seen := known[r]
		if !seen {
			_, err := enc.NewEncoder().String(string(r))
			ok = err == nil
			known[r] = ok
		}
		return ok
	})
	out, err := encoding.ReplaceUnsupported(enc.NewEncoder()).String(text)
	if err != nil {
		return []byte(fits(text, func(r rune) bool { return r < utf8.RuneSelf }))
	}
	return []byte(out)
}

// fits replaces the characters that are not available.
func fits(text string, has func(rune) bool) string {
	var b strings.Builder
	for _, r := range text {
		if has(r) {
			b.WriteRune(r)
			continue
		}
		b.WriteString(likeASCII(r))
	}
	return b.String()
}

// likeASCII writes a character as is usual where there is only ASCII.
func likeASCII(r rune) string {
	switch r {
	case '‘', '’', '‚', '‹', '›':
		return "'"
	case '“', '”', '„', '«', '»':
		return `"`
	case '–', '—', '‑', '‐', '−':
		return "-"
	case '…':
		return "..."
	case '€':
		return "EUR"
	case 'ß':
		return "ss"
	case 'æ':
		return "ae"
	case 'ø':
		return "o"
	case '•':
		return "*"
	}
	var b strings.Builder
	for _, d := range norm.NFKD.String(string(r)) {
		switch {
		case d < utf8.RuneSelf:
			b.WriteRune(d)
		case !unicode.Is(unicode.Mn, d):
			return "?"
		}
	}
	if b.Len() == 0 {
		return "?"
	}
	return b.String()
}

// quoted gives octets as quoted-printable, in lines of at most 76 octets, two more where a line
// begins with two hyphens.
func quoted(data []byte) []byte {
	var b bytes.Buffer
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write(data) // memory
	_ = w.Close()
	out := b.Bytes()
	if bytes.HasPrefix(out, []byte("--")) {
		out = append([]byte("=2D"), out[1:]...)
	}
	return bytes.ReplaceAll(out, []byte("\r\n--"), []byte("\r\n=2D-")) // no line is a boundary
}

// base64Lines gives octets as base64, in lines of 76 characters with CRLF between them.
func base64Lines(data []byte) []byte {
	const line = 57 // octets
	var out []byte
	for len(data) > 0 {
		n := min(line, len(data))
		if len(out) > 0 {
			out = append(out, "\r\n"...)
		}
		out = base64.StdEncoding.AppendEncode(out, data[:n])
		data = data[n:]
	}
	return out
}
