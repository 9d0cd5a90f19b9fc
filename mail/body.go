// SPDX-License-Identifier: BSD-2-Clause

package mail

import (
	"bytes"
	"io"
	"iter"
	"strings"
)

// All gives the part and everything in it, outermost first, in the message's order.
func (p *Part) All() iter.Seq[*Part] {
	return func(yield func(*Part) bool) { p.walk(yield) }
}

func (p *Part) walk(yield func(*Part) bool) bool {
	if !yield(p) {
		return false
	}
	for _, inner := range p.Parts {
		if !inner.walk(yield) {
			return false
		}
	}
	return true
}

// Raw gives the part's body as it stands in the message.
func (p *Part) Raw(data []byte) []byte { return data[p.Body:max(p.Body, p.End)] }

// Disposition gives the Content-Disposition.
func (p *Part) Disposition() Media { return ParseMedia(p.Header.Value("Content-Disposition")) }

// Encoding gives the Content-Transfer-Encoding in lower case, without comments; "" if there is
// none.
func (p *Part) Encoding() string {
	value, _, _ := strings.Cut(p.Header.Value("Content-Transfer-Encoding"), "(")
	return strings.ToLower(strings.Trim(value, " \t;\""))
}

// Decoded gives the part's body without its transfer encoding, at most max octets (RFC 2045
// section 6). What is not in the encoding's alphabet is passed over, as mail programs do.
func (p *Part) Decoded(data []byte, max int) []byte {
	raw := p.Raw(data)
	switch p.Encoding() {
	case "base64", "quoted-printable":
		out, _ := io.ReadAll(io.LimitReader(NewDecoder(p.Encoding(), bytes.NewReader(raw)), int64(max))) // memory
		return out
	}
	return raw[:min(len(raw), max)]
}

// Text gives the part's text in UTF-8, at most max octets of its body.
func (p *Part) Text(data []byte, max int) string {
	out, _ := ToUTF8(p.Media.Param("charset"), p.Decoded(data, max))
	return out
}
