// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
	"errors"
	"fmt"
	"strings"
)

// Bounds of a header field, in octets.
const (
	fieldValueMax = 64 << 10
	fieldNameMax  = 256
	fieldLineMax  = 998 // RFC 5322 section 2.1.1, without CRLF
	foldAt        = 78  // the same section: where lines should end
)

// checkFieldName holds what RFC 5322 section 2.2 says of names.
func checkFieldName(name string) error {
	if name == "" || len(name) > fieldNameMax {
		return fmt.Errorf("header field name of %d octets: 1 to %d are allowed", len(name), fieldNameMax)
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == ':' {
			return fmt.Errorf("header field name %q: expected printable ASCII without \":\" and spaces", name)
		}
	}
	return nil
}

// foldValue checks a value and gives it in lines that can be sent.
func foldValue(name, value string) (string, error) {
	switch {
	case len(value) > fieldValueMax:
		return "", fmt.Errorf("a value of %d octets: at most %d are allowed", len(value), fieldValueMax)
	case strings.ContainsAny(value, "\r\x00"):
		return "", errors.New("the value has a CR or NUL")
	}
	value = strings.TrimPrefix(value, " ") // as in Field.Value: the front writes it
	if !strings.Contains(value, "\n") {
		value = fold(value, len(name)+2)
	}
	first := len(name) + 2
	for i, line := range strings.Split(value, "\n") {
		switch {
		case i > 0 && (line == "" || line[0] != ' ' && line[0] != '\t'):
			return "", errors.New("a line of the value does not begin with a space: it would end the header or begin another field")
		case i > 0 && strings.Trim(line, " \t") == "":
			return "", errors.New("a line of the value is empty")
		case len(line)+first > fieldLineMax:
			return "", fmt.Errorf("a line of the value is longer than %d octets and has no space to fold it at", fieldLineMax)
		}
		first = 0
	}
	return value, nil
}

// fold breaks a value at spaces into lines of at most 78 octets where that is possible;
// used is what stands before it on the first line.
func fold(value string, used int) string {
	if used+len(value) <= foldAt {
		return value
	}
	var b strings.Builder
	for used+len(value) > foldAt {
		at := foldPoint(value, foldAt-used)
		if at < 0 {
			break
		}
		b.WriteString(value[:at])
		b.WriteByte('\n')
		value, used = value[at:], 0
	}
	b.WriteString(value)
	return b.String()
}

// foldPoint is where to break: before the last run of spaces that begins within limit, else
// the first one after it. Both sides have something else than spaces; -1 is nowhere.
func foldPoint(value string, limit int) int {
	first, last := len(value)-len(strings.TrimLeft(value, " \t")), len(strings.TrimRight(value, " \t"))
	best := -1
	for i := first + 1; i < last; i++ {
		if !isBlank(value[i]) || isBlank(value[i-1]) {
			continue
		}
		if i > limit && best >= 0 {
			break
		}
		if best = i; i > limit {
			break
		}
	}
	return best
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }
