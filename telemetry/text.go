// SPDX-License-Identifier: BSD-2-Clause

package telemetry

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// Octets of one value, before escaping.
const (
	valueMax = 256
	textMax  = 512
)

// isBare reports whether s consists of octets that need no quotes: printable ASCII
// except space, '"', '=' and '\\'. It looks at eight octets at a time, since every value
// of every line passes here.
func isBare(s string) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(s); i += 8 {
		w := s[i : i+8]
		x := uint64(w[0]) | uint64(w[1])<<8 | uint64(w[2])<<16 | uint64(w[3])<<24 |
			uint64(w[4])<<32 | uint64(w[5])<<40 | uint64(w[6])<<48 | uint64(w[7])<<56
		quote, equals, backslash := x^'"'*ones, x^'='*ones, x^'\\'*ones                 // an octet that is it is 0
		found := (x - '!'*ones) | (quote - ones) | (equals - ones) | (backslash - ones) // below "!", or 0
		if (found&^x|x|(x+ones))&tops != 0 {                                            // or above "~"
			break
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < '!' || c > '~' || c == '"' || c == '=' || c == '\\' {
			return false
		}
	}
	return true
}

// shorten cuts s at limit octets, between runes.
func shorten(s string, limit int) (short string, cut bool) {
	if len(s) <= limit {
		return s, false
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit], true
}

// appendValue writes a value of a key=value line.
func appendValue(b []byte, s string, limit int) []byte {
	short, wasCut := shorten(s, limit)
	if short != "" && !wasCut && isBare(short) {
		return append(b, short...)
	}
	return appendQuoted(b, short, wasCut)
}

// appendQuoted writes Go's quoting, in which whatever is not printable is escaped;
// "..." behind the closing quote would be bare text, so it stands before it.
func appendQuoted(b []byte, s string, wasCut bool) []byte {
	b = strconv.AppendQuote(b, s)
	if wasCut {
		b = append(b[:len(b)-1], `..."`...)
	}
	return b
}

// appendMillis writes a duration as milliseconds with three decimals.
func appendMillis(b []byte, d time.Duration) []byte {
	us := max(d.Microseconds(), 0)
	b = strconv.AppendInt(b, us/1000, 10)
	us %= 1000
	return append(b, '.', byte('0'+us/100), byte('0'+us/10%10), byte('0'+us%10))
}

const hexDigits = "0123456789abcdef"

// appendJSON writes a JSON string (RFC 8259 section 7). What is no UTF-8 becomes
// U+FFFD; control and line-separating characters are escaped.
func appendJSON(b []byte, s string, limit int) []byte {
	s, wasCut := shorten(s, limit)
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < 0x7f && c != '"' && c != '\\' {
			b = append(b, c)
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		i += size
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, '\\', 'n')
		case r < 0x10000 && !strconv.IsPrint(r):
			b = append(b, '\\', 'u', hexDigits[r>>12], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
		case !strconv.IsPrint(r):
			b = append(b, `\ufffd`...)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	if wasCut {
		b = append(b, "..."...)
	}
	return append(b, '"')
}
