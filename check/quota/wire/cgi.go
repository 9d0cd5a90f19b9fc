// SPDX-License-Identifier: BSD-2-Clause

package wire

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The words of a CGI's line.
const (
	cgiRoom = "OK"
	cgiFull = "OVERQUOTA"
)

// AppendCGI adds the answer of a CGI of GET /cgi-bin/quota.cgi?u=USER, a line of text/plain:
//
//	OK ann 1234 209715200
//	OVERQUOTA ann 300000000 209715200
//
// with what is used and the limit in octets; OVERQUOTA stands there if the first is greater, or
// if octets are not what the mailbox is full of: it has no limit of them, or too many messages.
// A mailbox that is not known is "OK ann 0 0". A number that is not known is left out, but not
// its space. It is an error if the answer is one, or if the form cannot express the name.
func AppendCGI(dst []byte, user string, a *Answer) ([]byte, error) {
	if err := CheckUser(user); err != nil {
		return dst, err
	}
	if strings.Contains(user, " ") {
		return dst, errors.New("the CGI's line has no mailbox names with a space")
	}
	used, hard, first := a.Used, a.Hard, cgiRoom
	switch a.State {
	case Room, Full:
		octets := used >= 0 && hard > 0
		if octets && used > hard || a.State == Full && (!octets || a.Max > 0 && a.Messages >= a.Max) {
			first = cgiFull
		}
	case Unknown:
		used, hard = 0, 0
	default:
		return dst, errors.New("could not find out: " + a.Why)
	}
	dst = append(append(append(append(dst, first...), ' '), user...), ' ')
	if used >= 0 {
		dst = strconv.AppendInt(dst, used, 10)
	}
	dst = append(dst, ' ')
	if hard >= 0 {
		dst = strconv.AppendInt(dst, hard, 10)
	}
	return append(dst, '\n'), nil
}

// ParseCGI reads the body of a CGI's reply, its first line, as the answer for user. The second
// word must be the user. The numbers may be missing; "OK ann 0 0" means that the mailbox is
// not known, or empty without a limit, and is taken as [Unknown].
func ParseCGI(body []byte, user string) (Answer, error) {
	first, _, _ := bytes.Cut(body, []byte("\n"))
	s, err := line(first)
	if err != nil {
		return Answer{}, err
	}
	words := strings.Split(strings.TrimRight(s, " "), " ")
	a := NewAnswer(0)
	switch words[0] {
	case cgiRoom:
		a.State = Room
	case cgiFull:
		a.State = Full
	default:
		return Answer{}, errors.New("the reply does not begin with OK or OVERQUOTA")
	}
	if len(words) < 2 || words[1] != user {
		return Answer{}, errors.New("the reply is about another mailbox")
	}
	if len(words) > 4 {
		return Answer{}, errors.New("the reply has more than four words")
	}
	for i, into := range []*int64{&a.Used, &a.Hard} {
		if len(words) <= i+2 || words[i+2] == "" {
			continue
		}
		if *into, err = number(words[i+2]); err != nil {
			return Answer{}, fmt.Errorf("word %d: %w", i+3, err)
		}
	}
	if a.State == Room && a.Used == 0 && a.Hard == 0 {
		return NewAnswer(Unknown), nil
	}
	return a, nil
}
