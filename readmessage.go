// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
	"bytes"
	"strings"
)

// Everything is what a message brings, and what may be done to it, where no MTA has a say:
// in commands and tests.
const Everything = WantMessage | WantHeader | WantBody | EditHeader | EditBody | EditSender | EditRecipients | Quarantine

// Bounds of a header that is kept: octets, and fields.
const (
	HeaderMax = 256 << 10
	FieldsMax = 1000
)

// ReadMessage makes a message of a file as mail programs save it (RFC 5322), its lines ending
// in CRLF or LF. A first line that begins with "From " is left out, and so is what is not a
// header field before the empty line. Of its header it keeps as much as a front does. The
// message's body may be a part of raw, which must not change afterwards.
func ReadMessage(raw []byte) *Message {
	m := NewMessage(Everything)
	var value []byte // of the last field, whose lines are joined once
	size := 0
	end := func() {
		n := len(m.Fields)
		if n == 0 {
			return
		}
		f := &m.Fields[n-1]
		if size += len(f.Name) + len(value); m.HeaderCut || n > FieldsMax || size > HeaderMax {
			m.Fields, m.HeaderCut = m.Fields[:n-1], true
			return
		}
		f.Value = string(value)
	}
	if bytes.HasPrefix(raw, []byte("From ")) {
		_, raw, _ = bytes.Cut(raw, []byte("\n"))
	}
	for len(raw) > 0 {
		line, rest, _ := bytes.Cut(raw, []byte("\n"))
		raw = rest
		text := strings.TrimSuffix(string(line), "\r")
		name, first, isField := strings.Cut(text, ":")
		switch {
		case text == "":
			end()
			body := crlf(raw)
			m.Body, m.Size = bytes.NewReader(body), int64(len(body))
			return m
		case text[0] == ' ' || text[0] == '\t':
			value = append(append(value, '\n'), text...)
		case isField && !strings.ContainsAny(name, " \t"):
			end()
			m.Fields, value = append(m.Fields, Field{Name: name}), append(value[:0], first...)
		}
	}
	end()
	m.Body = bytes.NewReader(nil)
	return m
}

// crlf makes CRLF of every line end. It gives b itself if there is nothing to change.
func crlf(b []byte) []byte {
	bare := bytes.Count(b, []byte("\n")) - bytes.Count(b, []byte("\r\n"))
	if bare == 0 {
		return b
	}
	out := make([]byte, 0, len(b)+bare)
	for {
		line, rest, found := bytes.Cut(b, []byte("\n"))
		if !found {
			return append(out, line...)
		}
		out = append(append(out, bytes.TrimSuffix(line, []byte("\r"))...), "\r\n"...)
		b = rest
	}
}
