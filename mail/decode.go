// SPDX-License-Identifier: BSD-2-Clause

package mail

import (
	"encoding/base64"
	"io"
)

// NewDecoder reads in without its transfer encoding (RFC 2045 section 6): "base64" or
// "quoted-printable" in lower case; anything else is read as it is. What is not in the
// encoding's alphabet is passed over, and padding ends base64, as in most mail programs.
func NewDecoder(encoding string, in io.Reader) io.Reader {
	switch encoding {
	case "base64":
		return &decoder{in: in, take: new(base64Decoder).take}
	case "quoted-printable":
		return &decoder{in: in, take: new(QuotedPrintable).take}
	}
	return in
}

// decodeWindow is how much is decoded at once, in octets.
const decodeWindow = 16 << 10

// decoder is the reader of an encoding.
type decoder struct {
	in   io.Reader
	take func(out, raw []byte, last bool) (decoded []byte, ended bool)
	raw  []byte
	buf  []byte
	out  []byte // of buf, not read yet
	err  error
}

func (d *decoder) Read(p []byte) (int, error) {
	if d.raw == nil {
		d.raw = make([]byte, decodeWindow)
	}
	for len(d.out) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		n, err := d.in.Read(d.raw)
		var ended bool
		if d.buf, ended = d.take(d.buf[:0], d.raw[:n], err == io.EOF); ended {
			err = io.EOF
		}
		d.out, d.err = d.buf, err
	}
	n := copy(p, d.out)
	d.out = d.out[n:]
	return n, nil
}

// base64Decoder decodes what is base64, and passes over the rest.
type base64Decoder struct {
	in []byte // of the alphabet, not decoded yet
}

// take appends what raw stands for to out. Padding ends it (RFC 2045 section 6.8).
func (d *base64Decoder) take(out, raw []byte, last bool) ([]byte, bool) {
	for _, c := range raw {
		if c == '=' {
			last = true
			break
		}
		if IsBase64(c) {
			d.in = append(d.in, c)
		}
	}
	whole := len(d.in) / 4 * 4
	if last && len(d.in)%4 > 1 {
		whole = len(d.in)
	}
	out, _ = base64.RawStdEncoding.AppendDecode(out, d.in[:whole]) // the alphabet was checked
	d.in = append(d.in[:0], d.in[whole:]...)
	return out, last
}

// IsBase64 reports whether c is in the alphabet of base64, padding aside.
func IsBase64(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '+' || c == '/'
}

// QuotedPrintable decodes quoted-printable octet by octet. What is not a valid escape stays.
// The zero value is ready.
type QuotedPrintable struct {
	// held are octets whose meaning depends on the next: "=" and at most one digit, or blanks
	// that count only if the line goes on, perhaps behind a "=".
	held []byte
	cr   bool // a soft line break's CR was the last octet
}

// heldMax bounds the blanks that are held.
const heldMax = 1 << 10

func (q *QuotedPrintable) take(out, raw []byte, last bool) ([]byte, bool) {
	for _, c := range raw {
		out = q.Next(out, c)
	}
	if last {
		out = q.End(out)
	}
	return out, false
}

// Next appends what is known behind the next octet.
func (q *QuotedPrintable) Next(out []byte, c byte) []byte {
	cr := q.cr
	q.cr = false
	if len(q.held) == 0 { // most octets
		switch {
		case c == '=' || isBlank(c):
			q.held = append(q.held, c)
			return out
		case c == '\n' && cr:
			return out
		}
		return append(out, c)
	}
	escape := q.held[0] == '='
	switch {
	case c == '\r' || c == '\n':
		soft := escape && !isHex(q.held[len(q.held)-1])
		lone := escape && !soft // "=A" at the end of a line
		if lone {
			out = append(out, q.held...)
		}
		q.held = q.held[:0]
		if soft {
			q.cr = c == '\r'
			return out
		}
		return append(out, c)
	case escape && len(q.held) == 1 && isHex(c):
		q.held = append(q.held, c)
		return out
	case escape && len(q.held) == 2 && isHex(q.held[1]) && isHex(c):
		out = append(out, unhex(q.held[1])<<4|unhex(c))
		q.held = q.held[:0]
		return out
	case isBlank(c) && len(q.held) < heldMax && !(escape && len(q.held) > 1 && isHex(q.held[1])):
		q.held = append(q.held, c)
		return out
	case c == '=' && !escape && len(q.held) < heldMax: // blanks, and perhaps a soft line break
		out = append(out, q.held...)
		q.held = append(q.held[:0], c)
		return out
	}
	out = append(out, q.held...)
	q.held = q.held[:0]
	return q.Next(out, c)
}

// End appends what the end of the text makes of the octets before it.
func (q *QuotedPrintable) End(out []byte) []byte {
	if len(q.held) > 0 && q.held[0] == '=' && (len(q.held) == 1 || isBlank(q.held[1])) || len(q.held) > 0 && isBlank(q.held[0]) {
		q.held = q.held[:0]
	}
	out = append(out, q.held...)
	q.held = q.held[:0]
	return out
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }
