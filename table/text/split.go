// SPDX-License-Identifier: BSD-2-Clause

package text

import (
	"bytes"
	"errors"
)

var (
	errNUL    = errors.New("has a NUL octet")
	errColon  = errors.New(`is not "name: targets"; texthash: is for key-value files`)
	errTarget = errors.New("has a name without a target")
	errName   = errors.New("has no name before the colon")
	errDomain = errors.New("has a name with a domain; aliases are local")
	errQuote  = errors.New("has a quotation mark that is not closed")
	errValue  = errors.New(`is not "key value"`)
)

// looseBlank stands for white space between the words of a name, in which no NUL can be.
const looseBlank = 0

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\v' || c == '\f'
}

func trim(b []byte) []byte { return bytes.Trim(b, " \t\r\n\v\f") }

// splitAlias separates a logical line at the first colon outside quotes and comments.
// The name is returned without quotes, and with one blank (looseBlank) for white space outside of them.
func splitAlias(line []byte) (name, targets []byte, err error) {
	if err := check(line); err != nil {
		return nil, nil, err
	}
	// The name is written over the line's beginning: it is never longer than what it is read from.
	name = line[:0]
	blank, quoted := false, false
	var wrong error // reported only if a colon shows that an alias is meant
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quoted && c == '"', !quoted && c == '"':
			if quoted = !quoted; quoted && blank {
				name, blank = append(name, looseBlank), false
			}
			continue
		case c == '\\' && i+1 < len(line):
			i++
			c = line[i]
		case quoted:
		case c == ':':
			if wrong != nil {
				return nil, nil, wrong
			}
			return finishAlias(name, trim(line[i+1:]))
		case isSpace(c):
			blank = len(name) > 0
			continue
		case c == '@':
			wrong = errDomain
		}
		if blank {
			name, blank = append(name, looseBlank), false
		}
		name = append(name, c)
	}
	if quoted {
		return nil, nil, errQuote
	}
	return nil, nil, errColon
}

func finishAlias(name, targets []byte) ([]byte, []byte, error) {
	switch {
	case len(name) == 0:
		return nil, nil, errName
	case len(targets) == 0:
		return nil, nil, errTarget
	}
	return name, targets, nil
}

// splitPair separates a logical line at the first white space outside quotes.
func splitPair(line []byte) (key, value []byte, err error) {
	if err := check(line); err != nil {
		return nil, nil, err
	}
	quoted, i := false, 0
	for ; i < len(line); i++ {
		c := line[i]
		if c == '\\' {
			i++
		} else if c == '"' {
			quoted = !quoted
		} else if isSpace(c) && !quoted {
			break
		}
	}
	if quoted {
		return nil, nil, errQuote
	}
	i = min(i, len(line))
	if key, value = line[:i], trim(line[i:]); len(key) == 0 || len(value) == 0 {
		return nil, nil, errValue
	}
	return key, value, nil
}

func check(line []byte) error {
	if bytes.IndexByte(line, 0) >= 0 {
		return errNUL
	}
	if len(line) > 0 && isSpace(line[0]) {
		return errStart
	}
	return nil
}
