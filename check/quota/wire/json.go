// SPDX-License-Identifier: BSD-2-Clause

package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// MaxJSON is the greatest length of a JSON answer, in octets.
const MaxJSON = 16 << 10

// object is the JSON form. Numbers that are not known are left out.
type object struct {
	User     string `json:"user"`
	State    string `json:"state"`
	Used     *int64 `json:"used,omitempty"`
	Soft     *int64 `json:"soft,omitempty"`
	Hard     *int64 `json:"hard,omitempty"`
	Messages *int64 `json:"messages,omitempty"`
	Max      *int64 `json:"max,omitempty"`
	Age      int64  `json:"age_s"`
	Keep     int64  `json:"keep_s"`
	Why      string `json:"why,omitempty"`
}

// AppendJSON adds the answer to GET /v1/quota?user=USER&size=SIZE, application/json:
//
//	{"user":"ann","state":"full","used":209700000,"soft":188743680,"hard":209715200,
//	 "messages":812,"max":0,"age_s":3,"keep_s":30}
//
// state is one of ok, full, unknown, error; an error has "why". Numbers that are not known
// are left out, a limit of 0 means that there is none.
func AppendJSON(dst []byte, user string, a *Answer) []byte {
	known := func(n int64) *int64 {
		if n < 0 {
			return nil
		}
		n = min(n, maxNumber)
		return &n
	}
	text, _ := json.Marshal(object{
		User: user, State: a.State.String(), Used: known(a.Used), Soft: known(a.Soft), Hard: known(a.Hard), Messages: known(a.Messages), Max: known(a.Max),
		Age: int64(a.Age / time.Second), Keep: int64(a.Keep / time.Second), Why: a.Why,
	}) // strings and numbers: cannot fail
	return append(append(dst, text...), '\n')
}

// ParseJSON reads what AppendJSON writes, as the answer for user. Members that are not known
// are ignored.
func ParseJSON(body []byte, user string) (Answer, error) {
	if len(body) > MaxJSON {
		return Answer{}, fmt.Errorf("the reply has more than %d octets", MaxJSON)
	}
	var o object
	if err := json.Unmarshal(body, &o); err != nil {
		return Answer{}, errors.New("the reply is not the JSON that was expected")
	}
	if o.User != user {
		return Answer{}, errors.New("the reply is about another mailbox")
	}
	a := NewAnswer(0)
	for _, state := range []State{Room, Full, Unknown, Error} {
		if o.State == state.String() {
			a.State = state
		}
	}
	if a.State == 0 {
		return Answer{}, errors.New("the reply has no state that is known")
	}
	for _, n := range []struct {
		from *int64
		into *int64
	}{{o.Used, &a.Used}, {o.Soft, &a.Soft}, {o.Hard, &a.Hard}, {o.Messages, &a.Messages}, {o.Max, &a.Max}, {&o.Age, nil}, {&o.Keep, nil}} {
		if n.from == nil {
			continue
		}
		if *n.from < 0 || *n.from > maxNumber {
			return Answer{}, errors.New("the reply has a number that is out of range")
		}
		if n.into != nil {
			*n.into = *n.from
		}
	}
	a.Age, a.Keep = time.Duration(min(o.Age, maxSeconds))*time.Second, time.Duration(min(o.Keep, maxSeconds))*time.Second
	if a.State == Error {
		if a.Why = o.Why; !isToken(a.Why, maxID) {
			a.Why = "error"
		}
	}
	return a, nil
}
