// SPDX-License-Identifier: BSD-2-Clause

package clamd

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"rcptgate"
)

// Finding is what a scan has found: the name of a signature, or "" if nothing matched. It has
// been through rcptgate.CleanText and is at most 200 octets long.
type Finding struct{ Name string }

// Kind says what went wrong, as far as callers treat it differently.
type Kind uint8

// The kinds. None of them says anything of the message's content.
const (
	Connect   Kind = iota // no connection
	TimeOut               // no complete answer in time
	Closed                // the connection ended before an answer
	Failed                // clamd says that it could not scan ("... ERROR")
	TooLong               // longer than clamd's StreamMaxLength
	Malformed             // an answer that is not one of the protocol
	Unread                // the message could not be read: clamd is not to blame
)

// String gives the kind's word, as metrics have it.
func (k Kind) String() string {
	return [...]string{"connect", "timeout", "closed", "error", "too-long", "malformed", "unread"}[k]
}

// Error is why a scan said nothing.
type Error struct {
	Kind Kind
	Err  error
}

// Error gives the cause.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf is the kind of a scan's error; Malformed if it is another's.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Malformed
}

func failure(kind Kind, format string, args ...any) error {
	return &Error{kind, fmt.Errorf(format, args...)}
}

const nameMax = 200

// extended is what ExtendedDetectionInfo in clamd.conf adds to a name: digest and size.
var extended = regexp.MustCompile(`\([0-9a-f]{32,64}:\d+\)$`)

// parseReply reads the answer to INSTREAM, without its final NUL: "stream: OK",
// "stream: NAME FOUND", "stream: TEXT ERROR", "INSTREAM size limit exceeded. ERROR". Anything
// else is an error: only the exact words mean that a message was scanned.
func parseReply(reply string) (Finding, error) {
	reply = strings.TrimRight(reply, "\r\n")
	shown := rcptgate.CleanText(reply[:min(len(reply), nameMax)])
	if strings.HasPrefix(reply, "INSTREAM size limit exceeded") {
		return Finding{}, failure(TooLong, "clamd takes no message of this size: StreamMaxLength in clamd.conf (it said %q)", shown)
	}
	if strings.HasSuffix(reply, "ERROR") {
		return Finding{}, failure(Failed, "clamd could not scan the message: %q", shown)
	}
	subject, result, ok := strings.Cut(reply, ": ")
	if !ok || subject != "stream" && (!strings.HasPrefix(subject, "instream(") || subject[len(subject)-1] != ')') {
		return Finding{}, failure(Malformed, "clamd answered %q", shown)
	}
	if result == "OK" {
		return Finding{}, nil
	}
	name, ok := strings.CutSuffix(result, " FOUND")
	if name = strings.TrimSpace(extended.ReplaceAllString(name, "")); !ok || name == "" {
		return Finding{}, failure(Malformed, "clamd answered %q", shown)
	}
	return Finding{rcptgate.CleanText(strings.ReplaceAll(name[:min(len(name), nameMax)], "\n", " "))}, nil
}

// Version is what clamd says of itself.
type Version struct {
	Text       string    // as it came: "ClamAV 1.4.6/27123/Fri Nov 20 10:26:35 2026"
	Signatures time.Time // when the official signatures were made; zero if it does not say
}

// parseVersion reads the answer to VERSION: program, number of the official database, and
// its time in the scanner's local time zone, which is taken for ours. Without an official
// database the program stands alone.
func parseVersion(reply string) Version {
	reply = strings.TrimRight(reply, "\r\n")
	v := Version{Text: rcptgate.CleanText(strings.ReplaceAll(reply[:min(len(reply), nameMax)], "\n", " "))}
	if parts := strings.SplitN(v.Text, "/", 3); len(parts) == 3 {
		v.Signatures, _ = time.ParseInLocation("Mon Jan _2 15:04:05 2006", parts[2], time.Local) //nolint:errcheck // zero: it does not say
	}
	return v
}
