// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Mailbox is one address (RFC 5321 section 2.3.11) in the two shapes that matter:
// as it was written, and as it is compared. Package address makes them; the zero
// Mailbox is not an address.
type Mailbox struct {
	// Path is the address as the client wrote it, without angle brackets, source
	// route, a final dot and ESMTP parameters. It is what a backend is asked about. It
	// holds no CR, LF or NUL.
	Path string
	// Local is the local part without its quoting, its case kept.
	Local string
	// Domain is the domain in lower case, as A-labels if these can be turned back into
	// it, without a trailing dot; an address literal keeps its brackets. Empty for a bare
	// user name.
	Domain string
}

// Key is the name under which answers about the mailbox are remembered: local
// part, "@", domain. With foldLocal the local part's case is ignored too, as
// nearly every mail store does. Two spellings of one mailbox have one key.
func (m Mailbox) Key(foldLocal bool) string {
	local := m.Local
	if foldLocal {
		local = FoldCase(local) // no allocation when nothing changes
	}
	if m.isPath(local) {
		return m.Path // already canonical: the usual case costs nothing
	}
	return local + "@" + m.Domain
}

// isPath reports whether m's path is local, "@" and m's domain.
func (m Mailbox) isPath(local string) bool {
	n := len(local)
	return len(m.Path) == n+1+len(m.Domain) && m.Path[:n] == local && m.Path[n] == '@' && m.Path[n+1:] == m.Domain
}

// Clone gives m in memory of its own, which a front does not use again: as one string
// where the path is made of the parts.
func (m Mailbox) Clone() Mailbox {
	path := strings.Clone(m.Path)
	if m.isPath(m.Local) {
		at := len(m.Local)
		return Mailbox{Path: path, Local: path[:at], Domain: path[at+1:]}
	}
	return Mailbox{Path: path, Local: strings.Clone(m.Local), Domain: strings.Clone(m.Domain)}
}

// IsZero reports whether m is not an address at all.
func (m Mailbox) IsZero() bool { return m.Local == "" && m.Domain == "" && m.Path == "" }

// IsCanonical reports whether Path is written as [Mailbox.Canonical] writes it, except
// for case. Mail servers do not all agree that other spellings are the same mailbox:
// some refuse "\"ann\"@example.com", which RFC 5321 section 4.1.2 says is ann. So an
// answer to such a path says nothing about the mailbox under its key, and must not be
// kept there. It does not allocate.
func (m Mailbox) IsCanonical() bool {
	n := len(m.Local)
	if needsQuotes(m.Local) {
		if n = quotedPrefix(m.Path, m.Local); n < 0 {
			return false
		}
	} else if !strings.HasPrefix(m.Path, m.Local) {
		return false
	}
	if m.Domain == "" {
		return len(m.Path) == n
	}
	if len(m.Path) <= n || m.Path[n] != '@' {
		return false
	}
	domain := m.Path[n+1:]
	if IsASCII(domain) {
		// With SMTPUTF8 the domain goes out as it is written, and U-labels are its usual form.
		return equalASCII(domain, m.Domain) && (IsASCII(m.Local) || !hasALabel(m.Domain))
	}
	// Package address makes A-labels only of what they can be turned back into.
	return IsASCII(m.Domain) || FoldCase(domain) == m.Domain
}

// Canonical writes the mailbox as a path: the local part, in quotes only if it needs
// them, "@", and the domain. The case of the local part is kept.
func (m Mailbox) Canonical() string {
	if m.IsCanonical() {
		return m.Path
	}
	local := m.Local
	if needsQuotes(local) {
		local = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
	}
	if m.Domain == "" {
		return local
	}
	return local + "@" + m.Domain
}

// The local parts that every domain must have: RFC 5321 section 4.5.1 and RFC 2142.
const (
	postmaster    = "postmaster"
	abuse         = "abuse"
	reservedWords = postmaster + ", " + abuse
)

// Reserved reports whether a local part is one that every domain must have, in any case:
// postmaster or abuse. Such a recipient is never refused by guess.
func Reserved(local string) bool {
	if local == "" || (local[0]|0x20 != postmaster[0] && local[0]|0x20 != abuse[0]) {
		return false
	}
	return strings.EqualFold(local, postmaster) || strings.EqualFold(local, abuse)
}

// FoldCase makes lower case of what lower case can be turned back into. It is how
// local parts are compared where case does not matter: "K" (the Kelvin sign) and "k" are
// different mailboxes, and octets that are not UTF-8 stay as they are. It allocates only
// when something changes.
func FoldCase(s string) string {
	switch {
	case IsLower(s):
		return s
	case IsASCII(s):
		return strings.ToLower(s)
	case utf8.ValidString(s):
		return strings.Map(foldRune, s)
	}
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

func foldRune(r rune) rune {
	if lower := unicode.ToLower(r); unicode.ToUpper(lower) == r {
		return lower
	}
	return r
}

// needsQuotes reports whether a local part cannot be written without quotes (RFC 5322
// section 3.2.3). Dots in odd places can: real mailboxes have them.
func needsQuotes(local string) bool {
	for i := range len(local) {
		switch c := local[i]; {
		case c <= ' ', c == 0x7f:
			return true
		case c == '(', c == ')', c == '<', c == '>', c == '[', c == ']', c == ':', c == ';', c == ',', c == '\\', c == '"', c == '@':
			return true
		}
	}
	return local == ""
}

// quotedPrefix gives the length of the quoted string that path begins with, if it is
// local with no more backslashes than needed; otherwise -1.
func quotedPrefix(path, local string) int {
	if path == "" || path[0] != '"' {
		return -1
	}
	at := 1
	for i := range len(local) {
		if local[i] == '"' || local[i] == '\\' {
			if at >= len(path) || path[at] != '\\' {
				return -1
			}
			at++
		}
		if at >= len(path) || path[at] != local[i] {
			return -1
		}
		at++
	}
	if at >= len(path) || path[at] != '"' {
		return -1
	}
	return at + 1
}

func hasALabel(domain string) bool {
	return strings.HasPrefix(domain, "xn--") || strings.Contains(domain, ".xn--")
}

// equalASCII compares a domain with one in lower case.
func equalASCII(domain, lower string) bool {
	if len(domain) != len(lower) {
		return false
	}
	for i := range len(domain) {
		c := domain[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
