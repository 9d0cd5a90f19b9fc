// SPDX-License-Identifier: BSD-2-Clause

package script

import "bytes"

// plainNumbers writes 1_000_000 as 1000000: Starlark has no "_" in numbers, Python and TOML
// have. Spaces take the place of what is left out, so that errors keep their columns. Text in
// strings and comments stays.
func plainNumbers(text []byte) []byte {
	if !bytes.Contains(text, []byte("_")) {
		return text
	}
	out := bytes.Clone(text)
	for i := 0; i < len(out); {
		switch c := out[i]; {
		case c == '#':
			i += lengthTo(out[i:], '\n')
		case c == '"' || c == '\'':
			i += quotedLength(out[i:])
		case isWordByte(c):
			n := numberLength(out[i:])
			if isDigit(c) {
				closeUp(out[i : i+n])
			}
			i += n
		default:
			i++
		}
	}
	return out
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// isWordByte reports whether an octet belongs to a name or a number.
func isWordByte(c byte) bool {
	return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c >= 0x80
}

// lengthTo is the number of octets before one of a kind, or all.
func lengthTo(text []byte, end byte) int {
	if n := bytes.IndexByte(text, end); n >= 0 {
		return n
	}
	return len(text)
}

// quotedLength is that of the string with which text begins, its quotation marks included. One
// without an end, which the parser will complain of, ends with its line.
func quotedLength(text []byte) int {
	mark, long := text[:1], false
	if len(text) >= 3 && text[1] == text[0] && text[2] == text[0] {
		mark, long = text[:3], true
	}
	for i := len(mark); i < len(text); i++ {
		switch {
		case text[i] == '\\':
			i++ // also in a raw string
		case bytes.HasPrefix(text[i:], mark):
			return i + len(mark)
		case text[i] == '\n' && !long:
			return i
		}
	}
	return len(text)
}

// numberLength is that of the name or number with which text begins: a number goes on over a
// point, and over the sign of its exponent.
func numberLength(text []byte) int {
	number, hex := isDigit(text[0]), len(text) > 1 && text[1]|0x20 == 'x'
	n := 1
	for n < len(text) {
		c, before := text[n], text[n-1]
		sign := (c == '+' || c == '-') && before|0x20 == 'e' && !hex
		if !isWordByte(c) && (!number || c != '.' && !sign) {
			break
		}
		n++
	}
	return n
}

// closeUp removes each "_" between two digits, and fills up with spaces.
func closeUp(number []byte) {
	isHex := len(number) > 1 && number[1]|0x20 == 'x'
	digit := func(i int) bool {
		return i < len(number) && (isDigit(number[i]) || isHex && i > 1 && number[i]|0x20 >= 'a' && number[i]|0x20 <= 'f')
	}
	out := make([]byte, 0, len(number))
	for i, c := range number {
		if c != '_' || i == 0 || !digit(i-1) || !digit(i+1) {
			out = append(out, c)
		}
	}
	for n := copy(number, out); n < len(number); n++ {
		number[n] = ' '
	}
}
