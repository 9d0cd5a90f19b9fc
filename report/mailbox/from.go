// SPDX-License-Identifier: BSD-2-Clause

package mailbox

import "bytes"

var (
	fromWord = []byte("From ")
	quoted   = []byte(">From ")
)

// maxFrom is the longest From_ line that is seen as one, in octets.
const maxFrom = 2048

// isFrom reports whether a line separates two messages of an mbox: "From", an address or
// another word, and a date as asctime(3) writes it (RFC 4155), perhaps with a zone or without
// seconds. Lines of text that begin with "From" have no such date.
func isFrom(line []byte) bool {
	if !bytes.HasPrefix(line, fromWord) {
		return false
	}
	var clock, year, month bool
	words := bytes.Fields(line[len(fromWord):])
	for _, w := range words {
		switch {
		case isClock(w):
			clock = true
		case isYear(w):
			year = true
		case isMonth(w):
			month = true
		}
	}
	return clock && year && month
}

// isClock reports whether w is "12:34" or "12:34:56".
func isClock(w []byte) bool {
	if len(w) != 5 && len(w) != 8 {
		return false
	}
	for i, c := range w {
		if i%3 == 2 && c != ':' || i%3 != 2 && !isDigit(c) {
			return false
		}
	}
	return true
}

// isYear reports whether w is a year of the twentieth or twenty-first century.
func isYear(w []byte) bool {
	return len(w) == 4 && (bytes.HasPrefix(w, []byte("19")) || bytes.HasPrefix(w, []byte("20"))) && isDigit(w[2]) && isDigit(w[3])
}

func isMonth(w []byte) bool {
	const months = "JanFebMarAprMayJunJulAugSepOctNovDec"
	if len(w) != 3 {
		return false
	}
	i := bytes.Index([]byte(months), w)
	return i >= 0 && i%3 == 0
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
