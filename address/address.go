// SPDX-License-Identifier: BSD-2-Clause

// Package address reads mailbox addresses as they stand in SMTP commands (RFC 5321
// section 4.1.2, RFC 6531 for octets above 127) into [rcptgate.Mailbox].
//
// It is lenient, since it does not decide what is valid: the MTA took the address
// already and the backend will judge it. What it must get right is which spellings
// are one mailbox: case of the domain, Unicode and A-label forms of it, a trailing
// dot, quoting that quotes nothing.
package address

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"

	"rcptgate"
)

// Parse reads an address with or without angle brackets, with or without a source
// route. It never fails: what has no "@" is a bare local part, and an address with
// CR, LF or NUL (see [HasControl]) keeps these in Path for the caller to refuse.
func Parse(s string) rcptgate.Mailbox {
	path := stripRoute(stripBrackets(s))
	at := splitAt(path)
	m := rcptgate.Mailbox{Path: path}
	if at < 0 {
		m.Local = canonicalLocal(path)
		return m
	}
	m.Local = canonicalLocal(path[:at])
	m.Domain = Domain(path[at+1:])
	return m
}

// Target chooses the mailbox a question is about: the RCPT argument, or the MTA's
// {rcpt_addr} when the MTA has rewritten the address, so that its next hop belongs
// to the rewritten one. A macro that is empty, has no domain, or differs only in
// case or quoting is no rewriting.
func Target(recipient rcptgate.Mailbox, rcptAddr string) rcptgate.Mailbox {
	if rcptAddr == "" || rcptAddr == recipient.Path {
		return recipient
	}
	rewritten := Parse(rcptAddr)
	if rewritten.Domain == "" || Same(recipient, rewritten) {
		return recipient
	}
	return rewritten
}

// Same reports whether a and b are one mailbox but for the local part's case.
func Same(a, b rcptgate.Mailbox) bool {
	return a.Domain == b.Domain && strings.EqualFold(a.Local, b.Local)
}

// HasControl reports whether s holds CR, LF or NUL, which would end an SMTP command
// early. Such a recipient is answered 501 5.1.3 before anything is asked.
func HasControl(s string) bool {
	for i := range len(s) {
		if c := s[i]; c == '\r' || c == '\n' || c == 0 {
			return true
		}
	}
	return false
}

// NeedsUTF8 reports whether asking about m needs SMTPUTF8: a local part with octets
// above 127. A domain alone can always be written in ASCII.
func NeedsUTF8(m rcptgate.Mailbox) bool { return !isASCII(m.Local) }

// Wire gives the path to write into RCPT TO:<...>. It is the client's own spelling,
// but for a domain that only Unicode can write, which becomes A-labels unless utf8
// is offered for the address anyway.
func Wire(m rcptgate.Mailbox, smtputf8 bool) string {
	if smtputf8 || isASCII(m.Path) {
		return m.Path
	}
	at := splitAt(m.Path)
	if at < 0 || !isASCII(m.Domain) {
		return m.Path
	}
	return m.Path[:at+1] + m.Domain
}

// Domain gives the form in which domains are compared: lower case, A-labels, no
// trailing dot. A name that IDNA refuses is only lower-cased.
func Domain(s string) string {
	s = strings.TrimRight(s, ".")
	if isASCII(s) {
		return strings.ToLower(s)
	}
	// Lower case first: IDNA refuses some capitals whose small letters it takes (U+04C0),
	// and both spellings are one domain.
	lower := strings.ToLower(strings.ToValidUTF8(s, "?"))
	if utf8.ValidString(s) {
		if a, err := idna.Lookup.ToASCII(lower); err == nil {
			return strings.TrimRight(strings.ToLower(a), ".") // other writings of the dot are dots now
		}
	}
	return lower
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

// splitAt finds the "@" before the domain, -1 if there is none.
func splitAt(s string) int {
	at := strings.LastIndexByte(s, '@')
	if at >= 0 && s[0] == '"' && strings.HasSuffix(s, `"`) {
		return -1 // a bare quoted local part that contains "@"
	}
	return at
}

// canonicalLocal removes quoting (RFC 5321 Quoted-string: qtextSMTP and
// quoted-pairs) and normalises Unicode as RFC 6532 section 3.1 asks.
func canonicalLocal(local string) string {
	if len(local) >= 2 && local[0] == '"' && local[len(local)-1] == '"' {
		local = unquote(local[1 : len(local)-1])
	}
	if !isASCII(local) && utf8.ValidString(local) {
		local = norm.NFC.String(local)
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

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
