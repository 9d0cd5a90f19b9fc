// SPDX-License-Identifier: BSD-2-Clause

package mail

import (
	"encoding/base64"
	"strings"
	"unicode/utf16"
)

// IsUTF7 reports whether a character set is UTF-7 (RFC 2152), which few programs write and
// some read.
func IsUTF7(name string) bool {
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "utf-7", "utf7", "unicode-1-1-utf-7":
		return true
	}
	return false
}

// decodeUTF7 gives UTF-7 as UTF-8. It reports whether it is UTF-7 throughout; what is not stays.
func decodeUTF7(data []byte) (string, bool) {
	var out strings.Builder
	ok := true
	for len(data) > 0 {
		c := data[0]
		data = data[1:]
		if c != '+' {
			if c >= 0x80 {
				ok = false
				out.WriteString("\uFFFD")
				continue
			}
			out.WriteByte(c)
			continue
		}
		n := 0
		for n < len(data) && IsBase64(data[n]) {
			n++
		}
		units, err := base64.RawStdEncoding.DecodeString(string(data[:n]))
		ends := n < len(data) && data[n] == '-'
		switch {
		case n == 0 && ends: // "+-"
			out.WriteByte('+')
		case n == 0 || err != nil:
			ok = false
			out.WriteByte('+')
			out.Write(data[:n])
		default:
			out.WriteString(string(utf16.Decode(bigEndian(units))))
		}
		if data = data[n:]; ends {
			data = data[1:]
		}
	}
	return out.String(), ok
}

func bigEndian(b []byte) (units []uint16) {
	for i := 0; i+1 < len(b); i += 2 {
		units = append(units, uint16(b[i])<<8|uint16(b[i+1]))
	}
	return units
}
