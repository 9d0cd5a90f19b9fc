// SPDX-License-Identifier: BSD-2-Clause

// Package address reads mailbox addresses as they stand in SMTP commands (RFC 5321
// section 4.1.2, RFC 6531 for octets above 127) into [rcptgate.Mailbox].
//
// It is lenient, since it does not decide what is valid: the MTA has accepted the
// address and the backend will judge it. What it must get right is which spellings are
// one mailbox: case of the domain, Unicode and A-label forms of it, a trailing dot,
// quoting that quotes nothing. Two spellings are one only if that is certain. What
// cannot be turned back into the spelling is not folded: a domain that IDNA maps to
// another one (full-width letters, "ß" for "ss"), a letter whose lower case belongs to
// another letter, Unicode in another normal form.
package address

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"rcptgate"
)

// Parse reads an address with or without angle brackets, with or without a source
// route. It never fails: what has no "@" is a bare local part, and an address with
// CR, LF or NUL (see [rcptgate.HasControl]) keeps these in Path for the caller to refuse.
func Parse(s string) rcptgate.Mailbox {
	path := stripRoute(stripBrackets(s))
	at := splitAt(path)
	m := rcptgate.Mailbox{Path: path}
	if at < 0 {
		m.Local = canonicalLocal(path)
		return m
	}
	domain := stripDot(path[at+1:])
	m.Path = path[:at+1+len(domain)]
	m.Local = canonicalLocal(path[:at])
	m.Domain = Domain(domain)
	return m
}

// Target chooses the mailbox a question is about: the RCPT argument, or the MTA's
// {rcpt_addr} when the MTA has rewritten the address, so that its next hop belongs to the
// rewritten one. A macro that is empty, has no domain, or differs only in case is not a
// rewriting. One that differs only in how the mailbox is written shows that the MTA will
// write it its own way: the mailbox is then asked about in its canonical form.
func Target(recipient rcptgate.Mailbox, rcptAddr string) rcptgate.Mailbox {
	if rcptAddr == "" || rcptAddr == recipient.Path {
		return recipient
	}
	rewritten := Parse(rcptAddr)
	switch {
	case rewritten.Domain == "":
		return recipient
	case !Same(recipient, rewritten):
		return rewritten
	case strings.EqualFold(rewritten.Path, recipient.Path):
		return recipient
	}
	recipient.Path = recipient.Canonical()
	return recipient
}

// Same reports whether a and b are one mailbox except for the local part's case.
func Same(a, b rcptgate.Mailbox) bool {
	if a.Domain != b.Domain {
		return false
	}
	if rcptgate.IsASCII(a.Local) && rcptgate.IsASCII(b.Local) {
		return strings.EqualFold(a.Local, b.Local)
	}
	return rcptgate.FoldCase(a.Local) == rcptgate.FoldCase(b.Local)
}

// NeedsUTF8 reports whether asking about m needs SMTPUTF8: octets above 127 in the local
// part, or in a domain that has no A-labels.
func NeedsUTF8(m rcptgate.Mailbox) bool {
	return !rcptgate.IsASCII(m.Local) || !rcptgate.IsASCII(m.Domain)
}

// Wire gives the path to write into RCPT TO:<...>. It is the client's own spelling,
// except for a domain in Unicode, which becomes A-labels unless SMTPUTF8 is used for the
// address anyway.
func Wire(m rcptgate.Mailbox, smtputf8 bool) string {
	if smtputf8 || rcptgate.IsASCII(m.Path) {
		return m.Path
	}
	at := splitAt(m.Path)
	if at < 0 || !rcptgate.IsASCII(m.Domain) {
		return m.Path
	}
	return m.Path[:at+1] + m.Domain
}

// maxDomain bounds what is converted by IDNA, in octets (RFC 1035 section 2.3.4). The
// conversion takes time quadratic in the length of a label, and no name is longer.
const maxDomain = 255

// Domain gives the form in which domains are compared: lower case, A-labels, no trailing
// dot. A name in Unicode that IDNA refuses, that A-labels cannot be turned back into, or
// that is longer than 255 octets is only made lower case.
func Domain(s string) string {
	s = stripDot(s)
	switch {
	case rcptgate.IsLower(s):
		return s
	case rcptgate.IsASCII(s):
		return strings.ToLower(s)
	}
	if !utf8.ValidString(s) || len(s) > maxDomain {
		return rcptgate.FoldCase(s)
	}
	// Lower case first: IDNA refuses some capitals whose small letters it takes (U+04C0),
	// and both spellings are one domain.
	lower := rcptgate.FoldCase(s)
	a, err := idna.Lookup.ToASCII(lower)
	if err != nil {
		return lower
	}
	if u, err := idna.Lookup.ToUnicode(a); err != nil || u != lower {
		return lower
	}
	return a
}

// stripDot removes the one dot that may end a domain. More than one is not a domain, and
// stays.
func stripDot(s string) string {
	if bare, ok := strings.CutSuffix(s, "."); ok && !strings.HasSuffix(bare, ".") {
		return bare
	}
	return s
}

func stripBrackets(s string) string {
	if len(s) >= 2 && s[0] == '<' && s[len(s)-1] == '>' {
		return s[1 : len(s)-1]
	}
	return s
}

// stripRoute removes a source route, "@relay1,@relay2:" (RFC 5321 appendix C: it is
// accepted and ignored).
func stripRoute(s string) string {
	if s == "" || s[0] != '@' {
		return s
	}
	if _, rest, ok := strings.Cut(s, ":"); ok && strings.Contains(rest, "@") {
		return rest
	}
	return s
}

// splitAt finds the "@" before the domain, -1 if there is none. An "@" in a quoted string is not
// one, unless a quote is never closed.
func splitAt(s string) int {
	if strings.IndexByte(s, '"') < 0 {
		return strings.LastIndexByte(s, '@')
	}
	at, quoted := -1, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == '@' && !quoted:
			at = i
		}
	}
	if quoted {
		return strings.LastIndexByte(s, '@')
	}
	return at
}

// isQuoted reports whether s is one quoted string.
func isQuoted(s string) bool {
	if len(s) < 2 || s[0] != '"' {
		return false
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i == len(s)-1
		}
	}
	return false
}

// canonicalLocal removes quoting (RFC 5321 Quoted-string: qtextSMTP and quoted-pairs).
func canonicalLocal(local string) string {
	if isQuoted(local) {
		return unquote(local[1 : len(local)-1])
	}
	return local
}

func unquote(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		out = append(out, s[i])
	}
	return string(out)
}
