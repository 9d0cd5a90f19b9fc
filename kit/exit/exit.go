// SPDX-License-Identifier: BSD-2-Clause

// Package exit has the exit codes of the commands, those of sysexits.h, and errors that
// know theirs.
package exit

import (
	"errors"
	"fmt"
)

// Exit codes (sysexits.h), and what they mean here.
const (
	OK          = 0
	Attention   = 1  // status: something needs a person
	Usage       = 64 // the command line is wrong
	Data        = 65 // a file or value given to the command is bad
	NoInput     = 66 // report: none of the files could be read
	UnknownUser = 67 // check: the recipient is unknown
	Unavailable = 69 // the daemon cannot be reached, or could not listen
	Software    = 70 // an internal error
	Tempfail    = 75 // check: temporary failure; cache forget: reached only this gateway
	Refused     = 77 // check: refused by policy
	Config      = 78 // the configuration is wrong
)

// Error is an error with the exit code of the command that ends with it.
type Error struct {
	Code  int
	Err   error
	Quiet bool // the command has printed all there is to say
}

// Error is the text of the error within.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives the error within.
func (e *Error) Unwrap() error { return e.Err }

// With gives err an exit code; nil stays nil, and an error that has a code keeps it.
func With(code int, err error) error {
	var has *Error
	if err == nil || errors.As(err, &has) {
		return err
	}
	return &Error{Code: code, Err: err}
}

// Quietly ends a command with a code after it has printed its answer.
func Quietly(code int) error {
	if code == OK {
		return nil
	}
	return &Error{Code: code, Err: fmt.Errorf("exit code %d", code), Quiet: true}
}
