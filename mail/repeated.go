// SPDX-License-Identifier: BSD-2-Clause

package mail

import (
	"bytes"
	"io"
	"strings"
)

// repeats reports whether a body begins with its own message's whole header and an empty line.
// Some MTAs give a milter the header twice, once more as a part of the body.
func repeats(header Header, body io.ReaderAt, size, most int) bool {
	if len(header) == 0 {
		return false
	}
	name := header[0].Name
	first := make([]byte, min(len(name)+1, size))
	if n, _ := body.ReadAt(first, 0); n < len(name)+1 || !strings.EqualFold(string(first[:n]), name+":") {
		return false // all ordinary mail
	}
	raw := make([]byte, min(size, most))
	n, _ := body.ReadAt(raw, 0) // an error comes again
	raw = raw[:n]
	end := bytes.Index(raw, []byte("\n\r\n"))
	if other := bytes.Index(raw, []byte("\n\n")); end < 0 || other >= 0 && other < end {
		end = other
	}
	if end < 0 {
		return false
	}
	again, over := parseHeader(raw[:end+1], 0, len(header))
	if over || len(again) != len(header) {
		return false
	}
	for i := range again {
		if !strings.EqualFold(again[i].Name, header[i].Name) || again[i].Value() != header[i].Value() {
			return false
		}
	}
	return true
}
