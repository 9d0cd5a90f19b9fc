// SPDX-License-Identifier: BSD-2-Clause

package address

import "strings"

// SplitDetail separates a local part at the first of the delimiters: "ann+news" is
// "ann", "+", "news". Sep is empty when there is no detail. Delimiters are the characters
// of Postfix's recipient_delimiter (postconf(5)), "+" for Sendmail. As in Postfix
// (split_addr), the system's own names have no detail, and with "-" neither have
// "owner-list" and "list-request". It does not allocate.
func SplitDetail(local, delimiters string) (user, sep, detail string) {
	if delimiters == "" {
		return local, "", ""
	}
	at := strings.IndexByte(local, delimiters[0])
	if len(delimiters) > 1 {
		at = strings.IndexAny(local, delimiters)
	}
	if at <= 0 {
		return local, "", ""
	}
	for _, own := range [...]string{"postmaster", "mailer-daemon", "double-bounce"} {
		if strings.EqualFold(local, own) {
			return local, "", ""
		}
	}
	if local[at] == '-' && (len(local) > 6 && strings.EqualFold(local[:6], "owner-") || len(local) > 8 && strings.EqualFold(local[len(local)-8:], "-request")) {
		return local, "", ""
	}
	return local[:at], local[at : at+1], local[at+1:]
}

// IsDelimiters reports whether s can be a recipient_delimiter: at most eight characters
// of printable ASCII, none of which means something else in an address. Empty is none.
func IsDelimiters(s string) bool {
	return len(s) <= 8 && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || r == '@' || r == '"' || r == '\\'
	})
}
