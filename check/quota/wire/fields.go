// SPDX-License-Identifier: BSD-2-Clause

package wire

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const hexDigits = "0123456789ABCDEF"

// escaped reports whether an octet of a value is percent-encoded.
func escaped(c byte) bool { return c <= ' ' || c >= 0x7f || c == '%' || c == '=' }

// appendEscaped adds s, percent-encoded.
func appendEscaped(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; escaped(c) {
			dst = append(dst, '%', hexDigits[c>>4], hexDigits[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

// escapedLen is how many octets appendEscaped adds.
func escapedLen(s string) int {
	n := len(s)
	for i := range len(s) {
		if escaped(s[i]) {
			n += 2
		}
	}
	return n
}

// unescape reads a percent-encoded value. A % that is not followed by two hexadecimal digits
// is an error.
func unescape(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 {
		return s, nil
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			out = append(out, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", fmt.Errorf("%q ends within a percent-encoded octet", s)
		}
		c, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", fmt.Errorf("%q is not percent-encoded correctly", s)
		}
		out = append(out, byte(c))
		i += 2
	}
	return string(out), nil
}

// line takes the line end off and makes the text one string.
func line(text []byte) (string, error) {
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if len(text) > MaxLine {
		return "", fmt.Errorf("the line has more than %d octets", MaxLine)
	}
	for _, c := range text {
		if c < ' ' || c == 0x7f {
			return "", errors.New("the line has a control character")
		}
	}
	return string(text), nil
}

// word cuts the first word off.
func word(s string) (first, rest string) {
	first, rest, _ = strings.Cut(strings.TrimLeft(s, " "), " ")
	return first, rest
}

// eachField hands over the fields of a line, decoded. A field that set takes must not stand
// twice: whoever reads the other one would answer another question.
func eachField(s string, set func(name, value string) (taken bool, err error)) error {
	seen := ""
	for {
		var field string
		if field, s = word(s); field == "" {
			return nil
		}
		name, value, ok := strings.Cut(field, "=")
		if !ok || name == "" {
			return fmt.Errorf("%q is not a field", field)
		}
		value, err := unescape(value)
		if err != nil {
			return err
		}
		taken, err := set(name, value)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if taken {
			mark := " " + name + " "
			if strings.Contains(seen, mark) {
				return fmt.Errorf("%s stands there twice", name)
			}
			seen += mark
		}
	}
}

// number reads a size or a count.
func number(s string) (int64, error) {
	if s == "" || len(s) > 18 {
		return 0, fmt.Errorf("%q is not a number of at most 18 digits", s)
	}
	n := int64(0)
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, fmt.Errorf("%q is not a number", s)
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, nil
}

// maxSeconds bounds ages: a century.
const maxSeconds = 100 * 366 * 24 * 3600

func seconds(s string) (time.Duration, error) {
	n, err := number(s)
	if err != nil {
		return 0, err
	}
	return time.Duration(min(n, maxSeconds)) * time.Second, nil
}

// isToken reports whether s is an id or the name of a key: 1 to most of A-Z a-z 0-9 - _.
func isToken(s string, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

func token(into *string, value string, most int) error {
	if !isToken(value, most) {
		return fmt.Errorf("%q is not 1 to %d letters, digits, \"-\" or \"_\"", value, most)
	}
	*into = value
	return nil
}
