// SPDX-License-Identifier: BSD-2-Clause

package mail

import "strings"

// Address is one mailbox of a From, To or similar field.
type Address struct {
	Name    string // decoded, or ""
	Address string // without brackets
}

// addressesMax is how many addresses of a field are read.
const addressesMax = 1000

// Addresses reads the addresses of a field (RFC 5322 section 3.4) as leniently as mail
// programs do. Groups are passed over, their members are not.
func Addresses(value string) []Address {
	var out []Address
	var a addressReader
	for i := 0; i < len(value) && len(out) < addressesMax; i++ {
		if a.next(value[i]) {
			out = a.end(out)
		}
	}
	return a.end(out)
}

// addressReader collects one address.
type addressReader struct {
	words   []byte // outside brackets and comments
	inside  []byte // of the last brackets
	comment []byte
	bracket bool // inside brackets
	had     bool
	quoted  bool
	escaped bool
	depth   int // of comments
}

// next takes an octet. It reports whether it ends the address.
func (a *addressReader) next(c byte) bool {
	switch {
	case a.escaped:
		a.escaped = false
		a.put(c)
	case c == '\\' && (a.quoted || a.depth > 0):
		a.escaped = true
	case a.depth > 0:
		switch c {
		case '(':
			a.depth++
		case ')':
			a.depth--
		}
		if a.depth > 0 {
			a.put(c)
		}
	case c == '"':
		a.quoted = !a.quoted
		if a.bracket {
			a.put(c)
		}
	case a.quoted:
		a.put(c)
	case c == '(' && !a.bracket:
		a.depth = 1
	case c == '<':
		a.bracket, a.had, a.inside = true, true, nil
	case c == '>':
		a.bracket = false
	case (c == ',' || c == ';') && !a.bracket:
		return true
	case c == ':' && !a.bracket: // the name of a group
		a.words = nil
	default:
		a.put(c)
	}
	return false
}

func (a *addressReader) put(c byte) {
	switch {
	case a.depth > 0:
		a.comment = append(a.comment, c)
	case a.bracket:
		a.inside = append(a.inside, c)
	default:
		a.words = append(a.words, c)
	}
}

// end adds the address that was collected to out, if there is one.
func (a *addressReader) end(out []Address) []Address {
	words := strings.Join(strings.Fields(string(a.words)), " ")
	inside := strings.TrimSpace(string(a.inside))
	switch {
	case a.had:
		out = append(out, Address{Name: DecodeWords(words), Address: inside})
	case words != "":
		out = append(out, Address{Name: DecodeWords(strings.TrimSpace(string(a.comment))), Address: words})
	}
	*a = addressReader{}
	return out
}
