// SPDX-License-Identifier: BSD-2-Clause

package maillog

import (
	"strings"
)

// cutAt is where Sendmail cuts the sender in its log, in octets, brackets included.
const cutAt = 200

// sendmail takes "from=<a@b>, size=48211, class=0, nrcpts=2, ..., relay=name [192.0.2.1]".
func (r *reader) sendmail(id, text string) error {
	e := &r.entry
	id, piece, pieces := strings.Cut(id, "[") // a line that is too long for syslog: "5AS80abc012345[1]"
	if pieces && piece != "1]" {
		return nil
	}
	e.QueueID = id
	e.Sender, e.Unsure, text = logged(strings.TrimPrefix(text, "from="))
	// Size, class and recipients follow the sender at once; the message id comes later.
	rest, ok := []byte(text), false
	if e.Size, rest, ok = value(rest, ", size="); ok {
		if _, rest, ok = value(rest, ", class="); ok {
			e.Rcpts, _, ok = value(rest, ", nrcpts=")
		}
	}
	if !ok {
		return nil
	}
	if i := strings.LastIndex(text, ", relay="); i >= 0 && !pieces { // the last field, in the last piece
		relay := text[i:]
		e.Client = inBrackets(relay[max(strings.LastIndexByte(relay, '['), 0):]) // what identd said may come before
	}
	return r.each(e)
}

// logged gives the address that Sendmail's text begins with, whether it is cut off, and what
// follows it. What looks like the end in a quoted string, a comment or angle brackets is not it:
// Sendmail takes no address in which one of them is left open, but it may cut it there.
func logged(text string) (address string, cut bool, rest string) {
	var out []byte
	var state nesting
	for i := 0; i < len(text); {
		if state.none() && strings.HasPrefix(text[i:], ", size=") || len(out) == cutAt {
			rest = text[i:]
			break
		}
		c, n := unprinted(text[i:])
		out, i = append(out, c), i+n
		state.take(c)
	}
	address = string(out)
	cut = len(out) == cutAt && !(state.none() && strings.HasSuffix(address, ">"))
	if inner, ok := strings.CutPrefix(address, "<"); ok {
		address = strings.TrimSuffix(inner, ">")
	}
	return address, cut, rest
}

// nesting is what is open in an address (RFC 5322 section 3.2, as Sendmail reads it).
type nesting struct {
	escape, quoted bool
	comments       int
	angles         int
}

func (s *nesting) none() bool { return *s == nesting{} }

func (s *nesting) take(c byte) {
	switch {
	case s.escape:
		s.escape = false
	case c == '\\':
		s.escape = true
	case s.quoted:
		s.quoted = c != '"'
	case c == '(':
		s.comments++
	case c == ')':
		s.comments = max(s.comments-1, 0)
	case s.comments > 0:
	case c == '"':
		s.quoted = true
	case c == '<':
		s.angles++
	case c == '>':
		s.angles = max(s.angles-1, 0)
	}
}

// unprinted gives the octet that a text begins with, and in how many octets it is written: a
// backslash is doubled in the log, and what cannot be printed is "\t" or "\344".
func unprinted(text string) (octet byte, n int) {
	if text[0] != '\\' || len(text) < 2 {
		return text[0], 1
	}
	switch c := text[1]; {
	case c == '\\':
		return c, 2
	case c == 't':
		return '\t', 2
	case c == 'n':
		return '\n', 2
	case c == 'r':
		return '\r', 2
	case len(text) >= 4 && '0' <= c && c <= '3' && isOctal(text[2]) && isOctal(text[3]):
		return (c-'0')<<6 | (text[2]-'0')<<3 | (text[3] - '0'), 4
	}
	return '\\', 1
}

func isOctal(c byte) bool { return '0' <= c && c <= '7' }
