// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"rcptgate/kit/smtpcode"
	"rcptgate/store"
)

// Classify says what the code and the words of a reply to RCPT, given after an accepted
// MAIL, mean for the recipient: store.Valid, Unknown, Full, Refused or Deferred, or
// store.None when it says nothing of the recipient (the backend then counts as
// unreachable). It is the whole judgement with classify = "words"; otherwise it is what
// there is to go by until an experiment has shown more.
//
// Enhanced is the enhanced status code in front of the reply's text, "" if there was
// none; one inside the text as qmail writes it ("#5.1.1"), or behind another server's
// quoted code ("550 5.2.2"), counts as well. Only the reply code's first digit decides
// between "not today" and "never": a 4xx is never Unknown, whatever its enhanced code
// (RFC 3463 lets subject and detail stand on their own, and backends get the first digit
// wrong).
//
// Words in the text are never looked for inside an address or a URL: the recipient's
// name is the client's to choose.
func Classify(code int, enhanced, text string, unknown UnknownCodes) store.Class {
	return read(code, enhanced, text, unknown).class
}

// reading is what code and words of a reply say.
type reading struct {
	class store.Class
	// status is its enhanced status code, the zero value when it has none.
	status smtpcode.Enhanced
	// configured: the class is Unknown because of a code that only the configuration
	// names.
	configured bool
}

// clean reports the code that admits no doubt: x.1.1, bad destination mailbox address.
func (r *reading) clean() bool {
	return r.class == store.Unknown && r.status.Subject == 1 && r.status.Detail == 1
}

// bare reports that there is no enhanced status code.
func (r *reading) bare() bool { return r.status == smtpcode.Enhanced{} }

func read(code int, enhanced, text string, unknown UnknownCodes) reading {
	r := reading{class: store.Refused}
	switch {
	case code >= 200 && code <= 299:
		r.class = store.Valid
		return r
	case code < 400 || code > 599 || code == 421 || code == 454:
		r.class = store.None
		return r
	}
	known, full := r.readStatus(enhanced, text)
	switch {
	case full:
		r.class = store.Full
	case known && r.status.Subject == 3:
		r.class = store.None // the mail system, not the mailbox (RFC 3463 section 3.4)
	case saysFull(code, text):
		r.class = store.Full
	case code < 500:
		r.class = temporary(code, r.status)
	case known && unknown.match(r.status) && !aboutAnother(r.status, text):
		r.class = store.Unknown
		r.configured = !DefaultUnknownCodes().match(r.status)
	case !known && code == 550 && !containsAny(plainWords(text), notRecipientWords):
		r.class = store.Unknown
	}
	return r
}

// readStatus finds the enhanced status code, and whether any in the text is x.2.2: what
// a server quotes of the one behind it is nearer to the mailbox.
func (r *reading) readStatus(enhanced, text string) (known, full bool) {
	r.status, known = smtpcode.Parse(enhanced)
	full = known && mailboxFull(r.status)
	quoted, ok := smtpcode.Enhanced{}, false
	for word := range strings.FieldsSeq(withoutAddresses(text)) {
		hash := strings.Contains(word, "#")
		code, _, found := smtpcode.Cut(word[strings.LastIndexByte(word, '#')+1:])
		if !found {
			code, _, found = smtpcode.Cut(strings.TrimLeft(word, "([\"'"))
		}
		if !found {
			continue
		}
		full = full || mailboxFull(code)
		if !ok || hash {
			quoted, ok = code, true
		}
	}
	if !known && ok {
		r.status, known = quoted, true
	}
	return known, full
}

func mailboxFull(code smtpcode.Enhanced) bool {
	return code.Class != 2 && code.Subject == 2 && code.Detail == 2
}

// saysFull looks for the words of a full mailbox. 452 and 552 are about storage to begin
// with (RFC 5321 section 4.2.3), though not always the mailbox's.
func saysFull(code int, text string) bool {
	words := plainWords(text)
	if containsAny(words, fullPhrases) {
		return true
	}
	return (code == 452 || code == 552) && containsAny(words, fullWords) && !strings.Contains(words, "system storage")
}

// temporary is Deferred, except for 452 4.5.3: "too many recipients" is about the
// transaction. The backend client asked again already when this is seen here.
func temporary(code int, status smtpcode.Enhanced) store.Class {
	if code == 452 && status.Subject == 5 && status.Detail == 3 {
		return store.None
	}
	return store.Deferred
}

// aboutAnother catches enhanced codes of unknown recipients in replies that are about
// something else. Postfix's reject_unlisted_sender says "550 5.1.0 <a@b>: Sender address
// rejected: User unknown", and by default it says so in reply to RCPT; Stalwart says "550
// 5.1.2 Relay not allowed." while it does not know its domains.
func aboutAnother(status smtpcode.Enhanced, text string) bool {
	switch {
	case status.Subject != 1:
	case status.Detail == 0:
		return containsAny(plainWords(text), senderWords) || strings.Contains(plainWords(text), "relay")
	case status.Detail == 2:
		return strings.Contains(plainWords(text), "relay")
	}
	return false
}

// Words are the last resort: they decide where no experiment is possible, and between
// "full" and "refused".
var (
	fullWords = []string{
		"quota", "storage", "full", "no space", "space left",
		"voll", "kontingent", "speicher", "πλήρ", "γεμάτ", "χώρο", "όριο", "容量", "いっぱい", "満杯",
	}
	fullPhrases = []string{
		"over quota", "overquota", "quota exceeded", "exceeded quota", "exceeds quota", "exceeded storage", "storage full",
		"mailbox full", "mailbox is full", "postfach voll", "postfach ist voll", "γραμματοκιβώτιο είναι πλήρες", "γραμματοκιβώτιο είναι γεμάτο",
		"メールボックスがいっぱい", "容量を超え", "容量超過",
	}
	senderWords = []string{"sender", "return path", "return-path", "reverse-path", "envelope from", "mail from"}

	// notRecipientWords are what a bare 550 says when it is not for want of a
	// mailbox: relaying, the sender, the client, its greeting, authentication, lists.
	notRecipientWords = slices.Concat(senderWords, []string{
		"relay", "not permitted", "not allowed", "prohibit", "access denied", "we do not accept", "not local", "gateway",
		"client", "your host", "your ip", "your server", "your address", "your domain", "your message", "ip address",
		"reverse dns", "rdns", "ptr record", "connection", "too many",
		"helo", "ehlo", "authenticat", "auth required", "authoris", "authoriz", "log in", "login", "pop before",
		"list", "blocked", "rbl", "spam", "policy", "reputation", "spf", "dkim", "dmarc", "batv", "prvs", "virus",
	})
)

// containsAny reports whether text, in lower case, holds one of the words.
func containsAny(text string, words []string) bool {
	for _, word := range words {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

// plainWords is text in lower case without addresses and URLs. "Not listed in" a
// directory is what Domino says of users it does not know, and no list of clients.
func plainWords(text string) string {
	words := strings.Fields(withoutAddresses(strings.ToLower(text)))
	return strings.ReplaceAll(strings.Join(words, " "), "not listed in", "")
}

// withoutAddresses is text without what the client chose: everything in angle brackets,
// every word with an "@", and URLs.
func withoutAddresses(text string) string {
	var b strings.Builder
	for text != "" {
		open := strings.IndexByte(text, '<')
		if open < 0 {
			break
		}
		end := strings.IndexByte(text[open:], '>')
		if end < 0 {
			break
		}
		b.WriteString(text[:open])
		b.WriteByte(' ')
		text = text[open+end+1:]
	}
	b.WriteString(text)
	words := strings.Fields(b.String())
	words = slices.DeleteFunc(words, func(w string) bool {
		return strings.ContainsAny(w, "@") || strings.Contains(w, "://") || strings.HasPrefix(w, "www.")
	})
	return strings.Join(words, " ")
}

// UnknownCodes are the enhanced status codes that, in a 5xx reply, mean "no such
// mailbox". Each is "x.1.1", for any class, or "5.4.1", for that class alone.
type UnknownCodes []UnknownCode

// DefaultUnknownCodes is what the field uses: bad destination mailbox address and
// its kin (RFC 3463 section 3.2), null MX (RFC 7505), and what Microsoft 365 says
// instead.
func DefaultUnknownCodes() UnknownCodes {
	return UnknownCodes{{0, 1, 0}, {0, 1, 1}, {0, 1, 2}, {0, 1, 10}, {5, 4, 1}}
}

// UnknownCode is one element of UnknownCodes; Class 0 stands for any class.
type UnknownCode struct{ Class, Subject, Detail int }

// String writes the code as configuration has it.
func (u UnknownCode) String() string {
	class := "x"
	if u.Class != 0 {
		class = strconv.Itoa(u.Class)
	}
	return fmt.Sprintf("%s.%d.%d", class, u.Subject, u.Detail)
}

// MarshalText writes the code as String does.
func (u UnknownCode) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText reads "x.1.1" or "5.4.1".
func (u *UnknownCode) UnmarshalText(text []byte) error {
	s, anyClass := string(text), false
	if rest, ok := strings.CutPrefix(s, "x."); ok {
		s, anyClass = "5."+rest, true
	}
	code, ok := smtpcode.Parse(s)
	if !ok || code.Class != 5 || code.Subject == 3 {
		return fmt.Errorf("%q cannot stand for unknown users; expected an enhanced status code, as in \"x.1.1\" or \"5.4.1\", but not x.3.x, which is about the mail system", text)
	}
	*u = UnknownCode(code)
	if anyClass {
		u.Class = 0
	}
	return nil
}

// Form says what is allowed.
func (UnknownCode) Form() string { return `an enhanced status code such as "x.1.1" or "5.4.1"` }

func (codes UnknownCodes) match(status smtpcode.Enhanced) bool {
	for _, c := range codes {
		if c.Subject == status.Subject && c.Detail == status.Detail && (c.Class == 0 || c.Class == status.Class) {
			return true
		}
	}
	return false
}
