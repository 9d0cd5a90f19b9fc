// SPDX-License-Identifier: BSD-2-Clause

// Package neterr gives errors of package net a text without addresses. Such an error names
// both ends of its connection ("read tcp 127.0.0.1:40112->10.0.0.5:25: read: connection reset by
// peer"), but whoever reports it names the server as well, as the configuration does. An address
// should stand in a message once.
package neterr

import (
	"errors"
	"net"
	"net/url"
	"os"
	"strings"
)

// Bare gives an error that says why and not where: "connection refused" for "dial tcp
// 10.0.0.5:25: connect: connection refused". The caller names the server. errors.Is and errors.As
// find in it what they find in err. Nil stays nil, and an error that names no address is
// returned as it is.
func Bare(err error) error {
	if err == nil {
		return nil
	}
	text := short(err)
	if text == err.Error() {
		return err
	}
	return Say(text, err)
}

// Say gives err another text. err is not nil.
func Say(text string, err error) error { return &said{text, err} }

type said struct {
	text string
	err  error
}

func (s *said) Error() string { return s.text }
func (s *said) Unwrap() error { return s.err }

// short is the text of err in which errors of package net, and those of URLs, are replaced by
// their causes.
func short(err error) string {
	switch e := err.(type) { //nolint:errorlint // this error itself is meant; what it wraps follows
	case *net.OpError:
		var call *os.SyscallError
		if errors.As(e.Err, &call) {
			return call.Err.Error()
		}
		return short(e.Err)
	case *net.DNSError:
		if e.Server != "" {
			return e.Err + " (asked " + e.Server + ")"
		}
		return e.Err
	case *url.Error:
		return short(e.Err)
	}
	text := err.Error()
	for _, cause := range causes(err) {
		if cause != nil {
			text = strings.Replace(text, cause.Error(), short(cause), 1)
		}
	}
	return text
}

// causes are the errors that err wraps.
func causes(err error) []error {
	switch e := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() []error }:
		return e.Unwrap()
	case interface{ Unwrap() error }:
		return []error{e.Unwrap()}
	}
	return nil
}
