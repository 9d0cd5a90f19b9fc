// SPDX-License-Identifier: BSD-2-Clause

package store

import (
	"strings"

	"rcptgate"
)

// special begins every key that is not a recipient's, and ends the domain in it. No
// recipient has it: one with a line end is answered 501 before anything is asked or
// remembered (rcptgate.HasControl).
//
//	LF DOMAIN LF BACKEND                   a finding about a domain at a backend
//	LF DOMAIN LF "replaced" LF RECIPIENT   a mark; see ReplacedKey
const special = "\n"

// FindingKey is the key of a finding about a domain at a backend.
func FindingKey(backend, domain string) string { return special + domain + special + backend }

// ReplacedKey is the key of the mark that says when a valid answer under the recipient's
// key was last replaced or taken back.
func ReplacedKey(key string) string {
	return special + Domain(key) + special + "replaced" + special + key
}

// IsRecipient reports whether key is a recipient's, and not that of a finding or mark.
func IsRecipient(key string) bool { return !strings.HasPrefix(key, special) }

// Domain gives the domain that a key belongs to: its own, or that of the finding.
func Domain(key string) string {
	if !IsRecipient(key) {
		domain, _, _ := strings.Cut(key[len(special):], special)
		return domain
	}
	return key[strings.LastIndexByte(key, '@')+1:]
}

// Spelling writes a key as SMTP writes the recipient, with quotes where its local part needs
// them: as commands take it and the log has it. A finding is written as KeyText does.
func Spelling(key string) string {
	at := strings.LastIndexByte(key, '@')
	if !IsRecipient(key) || at < 0 {
		return KeyText(key)
	}
	return rcptgate.Mailbox{Local: key[:at], Domain: key[at+1:]}.Canonical()
}

// KeyText writes a key for programs: a recipient as it is, a finding as
// "@example.com smtp:[10.0.0.5]:25".
func KeyText(key string) string {
	if IsRecipient(key) {
		return key
	}
	return "@" + strings.ReplaceAll(key[len(special):], special, " ")
}

// ParseFinding gives the key of the finding that KeyText wrote as text.
func ParseFinding(text string) (key string, ok bool) {
	domain, backend, ok := strings.Cut(strings.TrimPrefix(text, "@"), " ")
	if !ok || domain == "" || backend == "" || text[0] != '@' {
		return "", false
	}
	return FindingKey(backend, domain), true
}
