// SPDX-License-Identifier: BSD-2-Clause

// Package smtpcode reads enhanced status codes, "5.1.1" (RFC 3463 section 2; RFC 2034
// section 4 has them at the beginning of a reply's text): a class of 2, 4 or 5, subject and
// detail of one to three digits.
package smtpcode

import "strconv"

// Enhanced is an enhanced status code.
type Enhanced struct{ Class, Subject, Detail int }

// String writes "5.1.1".
func (e Enhanced) String() string {
	return strconv.Itoa(e.Class) + "." + strconv.Itoa(e.Subject) + "." + strconv.Itoa(e.Detail)
}

// Parse reads a text that is an enhanced status code and nothing else.
func Parse(s string) (Enhanced, bool) {
	e, n := cut(s)
	return e, n > 0 && n == len(s)
}

// Is reports whether s is an enhanced status code and nothing else.
func Is(s string) bool {
	_, ok := Parse(s)
	return ok
}

// Cut reads an enhanced status code at the beginning of s. What follows need not be a
// space: reply texts have ".", ":" and ")" there too.
func Cut(s string) (e Enhanced, rest string, ok bool) {
	e, n := cut(s)
	return e, s[n:], n > 0
}

// cut gives the length of the code at the beginning of s; 0 when there is none.
func cut[T string | []byte](s T) (e Enhanced, n int) {
	if len(s) < 5 || (s[0] != '2' && s[0] != '4' && s[0] != '5') || s[1] != '.' {
		return e, 0
	}
	e.Class = int(s[0] - '0')
	i := 2
	var ok bool
	if e.Subject, i, ok = number(s, i); !ok || i == len(s) || s[i] != '.' {
		return Enhanced{}, 0
	}
	if e.Detail, i, ok = number(s, i+1); !ok {
		return Enhanced{}, 0
	}
	return e, i
}

// number reads one to three digits at i. A fourth makes it none.
func number[T string | []byte](s T, i int) (n, end int, ok bool) {
	begin := i
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		if i-begin == 3 {
			return 0, i, false
		}
		n = n*10 + int(s[i]-'0')
		i++
	}
	return n, i, i > begin
}
