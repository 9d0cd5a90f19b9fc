// SPDX-License-Identifier: BSD-2-Clause

package wire

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Reply is the answer to a request.
type Reply struct {
	Answer
	// User, ID and KeyID are empty in a plain reply.
	User  string
	ID    string
	KeyID string

	mac    string
	signed string
}

// replyWord gives a state's first word of the reply.
func (s State) replyWord() string {
	switch s {
	case Room:
		return "QUOTA_OK"
	case Full:
		return "QUOTA_FULL"
	case Unknown:
		return "QUOTA_UNKNOWN"
	}
	return "QUOTA_ERROR"
}

// AppendPlain adds the plain reply, without a line end: a mailbox that is not known has room,
// so that nobody finds out who is known. Nothing is added for an error.
func (a *Answer) AppendPlain(dst []byte) []byte {
	switch a.State {
	case Room, Unknown:
		return append(dst, Room.replyWord()...)
	case Full:
		return append(dst, Full.replyWord()...)
	}
	return dst
}

// SignReply adds the extended reply to a verified request, without a line end. It is never
// longer than the request: what there is no space for is left out, counts of messages first.
// It adds nothing if even the words do not fit, or if the request's key is gone.
func (k *Keys) SignReply(dst []byte, a *Answer, to *Request) []byte {
	key := k.find(to.KeyID)
	if key == nil || to.mac == "" {
		return dst
	}
	begin := len(dst)
	for _, part := range []detail{everything, withoutMessages, words} {
		dst = a.appendFields(dst[:begin], to.User, part)
		dst = append(append(dst, " id="...), to.ID...)
		dst = append(append(dst, " key="...), key.id...)
		if len(dst)-begin+trailer <= min(to.length, MaxLine) {
			mac := key.sum(replyLabel, to.mac, string(dst[begin:]))
			return append(append(dst, " mac="...), mac...)
		}
	}
	return dst[:begin]
}

// detail is how much of an answer a reply has space for.
type detail uint8

const (
	everything detail = iota
	withoutMessages
	words
)

func (a *Answer) appendFields(dst []byte, user string, part detail) []byte {
	dst = append(append(dst, a.State.replyWord()...), ' ')
	dst = appendEscaped(dst, user)
	if a.State == Error {
		why := a.Why
		if !isToken(why, maxID) {
			why = "error"
		}
		return append(append(dst, " why="...), why...)
	}
	add := func(name string, n int64) {
		dst = append(append(append(dst, ' '), name...), '=')
		dst = strconv.AppendInt(dst, min(n, maxNumber), 10)
	}
	known := func(name string, n int64) {
		if n >= 0 {
			add(name, n)
		}
	}
	if part < words {
		known("used", a.Used)
		known("soft", a.Soft)
		known("hard", a.Hard)
	}
	if part < withoutMessages {
		known("messages", a.Messages)
		known("max", a.Max)
	}
	if part < words {
		if a.Age >= time.Second {
			add("age", min(int64(a.Age/time.Second), maxSeconds))
		}
		if a.Keep >= time.Second {
			add("keep", min(int64(a.Keep/time.Second), maxSeconds))
		}
	}
	return dst
}

// maxNumber is the greatest number that the protocol has: 18 digits.
const maxNumber = 999_999_999_999_999_999

// ParseReply reads a reply, with or without its line end. A plain one has no User. It does not
// check the MAC: see [Keys.VerifyReply].
func ParseReply(text []byte) (*Reply, error) {
	s, err := line(text)
	if err != nil {
		return nil, err
	}
	first, rest := word(s)
	r := &Reply{Answer: NewAnswer(0)}
	for _, state := range []State{Room, Full, Unknown, Error} {
		if first == state.replyWord() {
			r.State = state
		}
	}
	if r.State == 0 {
		return nil, errors.New("the reply does not begin with QUOTA_OK, QUOTA_FULL, QUOTA_UNKNOWN or QUOTA_ERROR")
	}
	if strings.TrimLeft(rest, " ") == "" {
		if r.State == Unknown || r.State == Error {
			return nil, fmt.Errorf("%s without a mailbox", first)
		}
		return r, nil
	}
	user, rest := word(rest)
	if r.User, err = unescape(user); err != nil {
		return nil, err
	}
	if err = CheckUser(r.User); err != nil {
		return nil, err
	}
	if r.signed, r.mac, rest, err = cutMAC(s, rest); err != nil {
		return nil, err
	}
	if err = eachField(rest, r.set); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Reply) set(name, value string) (taken bool, err error) {
	switch name {
	case "used":
		r.Used, err = number(value)
	case "soft":
		r.Soft, err = number(value)
	case "hard":
		r.Hard, err = number(value)
	case "messages":
		r.Messages, err = number(value)
	case "max":
		r.Max, err = number(value)
	case "age":
		r.Age, err = seconds(value)
	case "keep":
		r.Keep, err = seconds(value)
	case "why":
		err = token(&r.Why, value, maxID)
	case "id":
		err = token(&r.ID, value, maxID)
	case "key":
		err = token(&r.KeyID, value, maxKey)
	case "mac":
		err = errors.New("it is not the last field")
	default:
		return false, nil
	}
	return true, err
}
