// SPDX-License-Identifier: BSD-2-Clause

package mail

import (
	"bytes"
	"encoding/base64"
	"iter"
	"path"
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

// Decoded gives the part's body without its transfer encoding, at most max octets (RFC 2045
// section 6). What is not in the encoding's alphabet is passed over, as mail programs do.
func (p *Part) Decoded(data []byte, max int) []byte {
	raw := p.Raw(data)
	switch strings.ToLower(strings.TrimSpace(p.Header.Value("Content-Transfer-Encoding"))) {
	case "base64":
		return decodeBase64(raw, max)
	case "quoted-printable":
		return decodeQuotedPrintable(raw, max)
	}
	return raw[:min(len(raw), max)]
}

// Text gives the part's text in UTF-8, at most max octets of its body.
func (p *Part) Text(data []byte, max int) string {
	out, _ := ToUTF8(p.Media.Param("charset"), p.Decoded(data, max))
	return out
}

// Names gives every name that the part says it has, without folders, as programs find them:
// filename and name, in all spellings.
func (p *Part) Names() []string {
	var out []string
	disposition := p.Disposition()
	for _, params := range [][]Param{disposition.Params, p.Media.Params} {
		for _, param := range params {
			if param.Name == "filename" || param.Name == "name" {
				out = append(out, path.Base(strings.ReplaceAll(param.Value, `\`, "/")))
			}
		}
	}
	return out
}

// decodeBase64 decodes what is base64 in data and passes over the rest.
func decodeBase64(data []byte, max int) []byte {
	in := make([]byte, 0, min(len(data), max/3*4+8))
	for _, c := range data {
		if c == '=' {
			break // padding ends it (RFC 2045 section 6.8)
		}
		if 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '+' || c == '/' {
			if in = append(in, c); len(in) >= max/3*4+4 {
				break
			}
		}
	}
	if len(in)%4 == 1 {
		in = in[:len(in)-1]
	}
	out := make([]byte, base64.RawStdEncoding.DecodedLen(len(in)))
	n, _ := base64.RawStdEncoding.Decode(out, in) // the alphabet was checked
	return out[:min(n, max)]
}

// decodeQuotedPrintable decodes quoted-printable; what is no valid escape stays.
func decodeQuotedPrintable(data []byte, max int) []byte {
	out := make([]byte, 0, min(len(data), max))
	for from, to := range lines(data) {
		if len(out) >= max {
			break
		}
		line := trimEOL(data[from:to])
		end := data[from+len(line) : to]
		line = bytes.TrimRight(line, " \t")
		if len(line) > 0 && line[len(line)-1] == '=' {
			line, end = line[:len(line)-1], nil // a soft line break
		}
		for i := 0; i < len(line); i++ {
			if line[i] == '=' && i+2 < len(line) && isHex(line[i+1]) && isHex(line[i+2]) {
				out = append(out, unhex(line[i+1])<<4|unhex(line[i+2]))
				i += 2
				continue
			}
			out = append(out, line[i])
		}
		out = append(out, end...)
	}
	return out[:min(len(out), max)]
}
