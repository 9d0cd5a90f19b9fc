// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"rcptgate/store"
)

// Classify says what a reply to RCPT, given after an accepted MAIL, means for the
// recipient: store.Valid, Unknown, Full, Refused or Deferred, or store.None when it
// says nothing of the recipient (the backend then counts as unreachable).
//
// Enhanced is the enhanced status code in front of the reply's text, "" if there was
// none; one inside the text as qmail writes it ("#5.1.1") counts as well. Only the
// reply code's first digit decides between "not today" and "never": a 4xx is never
// Unknown, whatever its enhanced code (RFC 3463 lets subject and detail stand on
// their own, and backends get the first digit wrong).
//
// Words in the text are looked for only in replies without an enhanced code, and
// never inside an address: the recipient's name is the client's to choose.
func Classify(code int, enhanced, text string, unknown UnknownCodes) store.Class {
	if code >= 200 && code <= 299 {
		return store.Valid
	}
	if code < 400 || code > 599 || code == 421 || code == 454 {
		return store.None
	}
	status, known := parseEnhanced(enhanced)
	if !known {
		status, known = enhancedInText(text)
	}
	if !known { // a first digit that is not the reply's: the client left it in the text
		status, _, known = cutEnhanced(text)
	}
	switch {
	case known && status.subject == 3:
		return store.None // the mail system, not the mailbox (RFC 3463 section 3.4)
	case known && status.subject == 2 && status.detail == 2:
		return store.Full
	case !known && (code == 452 || code == 552) && containsAny(plainWords(text), fullWords):
		return store.Full
	case code < 500:
		return temporary(code, status, known)
	case known && unknown.match(status) && !aboutSender(status, text):
		return store.Unknown
	case !known && code == 550 && !containsAny(plainWords(text), notRecipientWords):
		return store.Unknown
	}
	return store.Refused
}

// temporary is Deferred, but for 452 4.5.3: "too many recipients" speaks of the
// transaction. The backend client asked again already when this is seen here.
func temporary(code int, status enhancedCode, known bool) store.Class {
	if code == 452 && known && status.subject == 5 && status.detail == 3 {
		return store.None
	}
	return store.Deferred
}

// aboutSender catches the one enhanced code that Postfix uses for both sides: its
// reject_unlisted_sender says "550 5.1.0 <a@b>: Sender address rejected: User
// unknown", and by default it says so in reply to RCPT.
func aboutSender(status enhancedCode, text string) bool {
	return status.subject == 1 && status.detail == 0 && containsAny(plainWords(text), senderWords)
}

var (
	fullWords   = []string{"mailbox", "quota", "mail box"}
	senderWords = []string{"sender", "return path", "return-path", "reverse-path", "envelope from", "mail from"}

	// notRecipientWords are what a bare 550 says when it is not for want of a
	// mailbox: relaying, the sender, the client, its greeting, authentication, lists.
	notRecipientWords = slices.Concat(senderWords, []string{
		"relay", "not permitted", "not allowed", "prohibit", "access denied", "we do not accept",
		"client", "your host", "your ip", "your server", "your address", "your domain", "your message", "ip address",
		"reverse dns", "rdns", "ptr record", "connection",
		"helo", "ehlo", "authenticat", "auth required", "authoris", "authoriz", "log in", "login", "pop before",
		"list", "blocked", "rbl", "spam", "policy", "reputation", "spf", "dkim", "dmarc", "virus",
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

// plainWords is text in lower case without what the client chose: everything in
// angle brackets, and every word with an "@". "Not listed in" a directory is what
// Domino says of users it does not know, and no list of clients.
func plainWords(text string) string {
	text = strings.ToLower(text)
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
	words = slices.DeleteFunc(words, func(w string) bool { return strings.Contains(w, "@") })
	return strings.ReplaceAll(strings.Join(words, " "), "not listed in", "")
}

// enhancedCode is an enhanced status code (RFC 3463 section 2).
type enhancedCode struct{ class, subject, detail int }

// parseEnhanced reads "5.1.1": a class of 2, 4 or 5, subject and detail of one to
// three digits.
func parseEnhanced(s string) (enhancedCode, bool) {
	code, rest, ok := cutEnhanced(s)
	return code, ok && rest == ""
}

// cutEnhanced reads an enhanced status code at the start of s.
func cutEnhanced(s string) (code enhancedCode, rest string, ok bool) {
	if len(s) < 5 || (s[0] != '2' && s[0] != '4' && s[0] != '5') || s[1] != '.' {
		return code, s, false
	}
	subject, rest, ok := cutNumber(s[2:])
	if !ok || rest == "" || rest[0] != '.' {
		return code, s, false
	}
	detail, rest, ok := cutNumber(rest[1:])
	if !ok {
		return code, s, false
	}
	return enhancedCode{int(s[0] - '0'), subject, detail}, rest, true
}

func cutNumber(s string) (n int, rest string, ok bool) {
	digits := 0
	for digits < len(s) && s[digits] >= '0' && s[digits] <= '9' {
		digits++
	}
	if digits == 0 || digits > 3 {
		return 0, s, false
	}
	n, err := strconv.Atoi(s[:digits])
	return n, s[digits:], err == nil
}

// enhancedInText finds "#5.1.1" in the text.
func enhancedInText(text string) (enhancedCode, bool) {
	for {
		_, after, found := strings.Cut(text, "#")
		if !found {
			return enhancedCode{}, false
		}
		if code, _, ok := cutEnhanced(after); ok {
			return code, true
		}
		text = after
	}
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
	code, ok := parseEnhanced(s)
	if !ok || code.class != 5 || code.subject == 3 {
		return fmt.Errorf("%q is no code for unknown users: an enhanced status code is allowed, as in \"x.1.1\" or \"5.4.1\", but not x.3.x, which speaks of the mail system", text)
	}
	*u = UnknownCode{code.class, code.subject, code.detail}
	if anyClass {
		u.Class = 0
	}
	return nil
}

// Form says what is allowed.
func (UnknownCode) Form() string { return `an enhanced status code such as "x.1.1" or "5.4.1"` }

func (codes UnknownCodes) match(status enhancedCode) bool {
	for _, c := range codes {
		if c.Subject == status.subject && c.Detail == status.detail && (c.Class == 0 || c.Class == status.class) {
			return true
		}
	}
	return false
}
