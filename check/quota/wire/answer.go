// SPDX-License-Identifier: BSD-2-Clause

package wire

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"rcptgate/kit/term"
)

// MaxLine is the greatest length of a request or reply, in octets, without its line end.
const MaxLine = 1024

// MaxUser is the greatest length of a mailbox name, in octets.
const MaxUser = 320

// State is what an answer says of a mailbox.
type State uint8

// The states. The zero State is not an answer.
const (
	Room    State = 1 + iota // a message of the size that was asked about fits
	Full                     // it does not
	Unknown                  // the store has no such mailbox
	Error                    // the store could not find out
)

// String is the state's word in JSON.
func (s State) String() string {
	switch s {
	case Room:
		return "ok"
	case Full:
		return "full"
	case Unknown:
		return "unknown"
	case Error:
		return "error"
	}
	return "none"
}

// NotKnown stands for a number that the store did not give.
const NotKnown = -1

// Answer is what a store says of one mailbox. Sizes are in octets. Numbers are [NotKnown] where
// the store did not give them; a limit (Soft, Hard, Max) of 0 means that there is none.
type Answer struct {
	State State
	// TooLarge says that the store itself calls the message larger than the mailbox may ever
	// hold (enhanced code 5.2.3). State is then Full. It is not on the wire.
	TooLarge bool
	Used     int64
	Soft     int64 // below it an answer may be kept
	Hard     int64 // the limit
	Messages int64
	Max      int64         // limit of Messages
	Age      time.Duration // how old the numbers are; whole seconds on the wire
	Keep     time.Duration // how long the store suggests to keep them; 0: no suggestion
	Why      string        // for Error: one word, such as "timeout"
}

// NewAnswer makes an answer without numbers.
func NewAnswer(state State) Answer {
	return Answer{State: state, Used: NotKnown, Soft: NotKnown, Hard: NotKnown, Messages: NotKnown, Max: NotKnown}
}

// Failed makes an answer that says why the store could not find out.
func Failed(why string) Answer {
	a := NewAnswer(Error)
	a.Why = why
	return a
}

// CheckUser says what is wrong with a mailbox name.
func CheckUser(user string) error {
	switch {
	case user == "":
		return errors.New("the mailbox name is empty")
	case len(user) > MaxUser:
		return fmt.Errorf("the mailbox name has %s, at most %d are allowed", term.Count(len(user), "octet"), MaxUser)
	case !utf8.ValidString(user):
		return errors.New("the mailbox name is not valid UTF-8")
	case strings.ContainsFunc(user, isControl):
		return errors.New("the mailbox name has a control character")
	}
	return nil
}

func isControl(r rune) bool { return r < 0x20 || (r >= 0x7f && r < 0xa0) }
