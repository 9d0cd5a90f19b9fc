// SPDX-License-Identifier: BSD-2-Clause

package socketmap

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

const (
	// maxQuestion is the longest question, in octets: Postfix's socketmap_max_query_size.
	maxQuestion = 10_000
	// maxFrame is a question with its length and its comma.
	maxFrame = maxQuestion + len("10000:,")
	// maxValue bounds an answer: Postfix's socketmap_max_reply_size, less the status word.
	maxValue = 100_000 - len("OK ")
)

// split finds the first netstring in what has arrived (cr.yp.to/proto/netstrings.txt): its
// text, and how many octets it takes; 0: it is not complete.
func split(arrived []byte) (text []byte, taken int, err error) {
	size, digits := 0, 0
	for ; digits < len(arrived) && arrived[digits] != ':'; digits++ {
		c := arrived[digits]
		if c < '0' || c > '9' || digits > 0 && arrived[0] == '0' {
			return nil, 0, notNetstring(arrived)
		}
		if size = 10*size + int(c-'0'); size > maxQuestion {
			return nil, 0, fmt.Errorf("a question has more than %d octets", maxQuestion)
		}
	}
	switch end := digits + 1 + size; {
	case digits == len(arrived): // no colon yet
		return nil, 0, nil
	case digits == 0:
		return nil, 0, notNetstring(arrived)
	case end >= len(arrived):
		return nil, 0, nil
	case arrived[end] != ',':
		return nil, 0, errors.New("no comma follows a question")
	default:
		return arrived[digits+1 : end], end + 1, nil
	}
}

// notNetstring says what arrived instead, as far as that can be seen: a wrong port in the
// MTA's configuration is found by its log line.
func notNetstring(arrived []byte) error {
	for _, other := range []struct{ begins, is string }{
		{"GET ", "an HTTP request"}, {"POST ", "an HTTP request"}, {"HEAD ", "an HTTP request"},
		{"get ", "a question of Postfix's tcp_table"}, {"put ", "a question of Postfix's tcp_table"},
		{"request=", "a question of Postfix's policy delegation"},
		{"EHLO", "SMTP"}, {"HELO", "SMTP"}, {"\x16\x03", "TLS"}, {"\x00\x00", "a milter's frame"},
	} {
		if bytes.HasPrefix(arrived, []byte(other.begins)) {
			return fmt.Errorf("not a netstring: this looks like %s", other.is)
		}
	}
	return fmt.Errorf("not a netstring: it begins with %q", arrived[:min(len(arrived), 16)])
}

// appendReply appends a netstring of a status word and a text.
func appendReply(out []byte, status, text string) []byte {
	out = strconv.AppendInt(out, int64(len(status)+1+len(text)), 10)
	out = append(out, ':')
	out = append(out, status...)
	out = append(out, ' ')
	out = append(out, text...)
	return append(out, ',')
}
