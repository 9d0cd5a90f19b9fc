// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"strconv"
	"strings"
)

// Stage is how far a probe came; a word for logs and metrics.
type Stage string

// The stages in the order in which a probe reaches them.
const (
	StageAddress Stage = "address" // the addresses themselves; nothing was sent
	StageBreaker Stage = "breaker" // the breaker is open; nothing was sent
	StageQueue   Stage = "queue"   // waiting for a connection or for the limit a second
	StageConnect Stage = "connect" // name look-up, TCP
	StageBanner  Stage = "banner"
	StageEHLO    Stage = "ehlo" // EHLO, HELO, LHLO
	StageTLS     Stage = "starttls"
	StageMail    Stage = "mail" // RSET too
	StageRcpt    Stage = "rcpt"
)

var stages = [...]Stage{StageAddress, StageBreaker, StageQueue, StageConnect, StageBanner, StageEHLO, StageTLS, StageMail, StageRcpt}

// Kind is what went wrong; a word for logs and metrics.
type Kind string

// The kinds of failure.
const (
	KindNoConnection Kind = "no-connection" // refused, unreachable, no such name
	KindTimeout      Kind = "timeout"
	KindDropped      Kind = "dropped"     // the backend closed the connection
	KindReply        Kind = "reply"       // it said no; see Failure.Reply
	KindGarbage      Kind = "garbage"     // it sent something that is not an SMTP reply, or not a possible one here
	KindTLS          Kind = "tls"         // TLS is required and cannot be had
	KindLoop         Kind = "loop"        // it is ourselves
	KindBusy         Kind = "busy"        // too many probes wait already, or the limit a second leaves no time
	KindOpen         Kind = "open"        // the breaker is open
	KindBadAddress   Kind = "bad-address" // the recipient cannot be written into a command
	KindBadSender    Kind = "bad-sender"  // the sender cannot, or only with SMTPUTF8, which the backend does not offer
	KindUnsupported  Kind = "unsupported" // the recipient needs SMTPUTF8, and the reply to EHLO does not offer it
	KindUncertain    Kind = "uncertain"   // the recipient needs SMTPUTF8, and EHLO was not answered
	KindCancelled    Kind = "cancelled"   // the asker's context was cancelled
	KindClosed       Kind = "closed"      // the Set was closed, or the address is not one that can be asked (mx)
)

// Failure is why a question has no answer. It says nothing about the recipient.
type Failure struct {
	Backend string // as Address.String writes it
	Stage   Stage
	Kind    Kind
	Reply   *Reply // what the backend said, when it did: banner 554, MAIL 553, RCPT 421
	Err     error  // the cause; may be nil

	// unclear: silence after MAIL and RCPT in one write, so that a slow reply to RCPT
	// may be what keeps the one to MAIL back.
	unclear bool
}

// Error says where, at which stage and why, in one line.
func (f *Failure) Error() string { return f.Backend + ": " + f.Why() }

// Why is Error without the backend, for where its name stands already. The errors in a Failure
// name no address of it either (package neterr).
func (f *Failure) Why() string {
	var b strings.Builder
	b.WriteString(string(f.Stage) + ": ")
	switch {
	case f.Reply != nil:
		b.WriteString("backend said " + strconv.Itoa(f.Reply.Code))
		for _, part := range []string{f.Reply.Enhanced, strings.ReplaceAll(f.Reply.Text, "\n", " / ")} {
			if part != "" {
				b.WriteString(" " + part)
			}
		}
		if f.Kind != KindReply {
			b.WriteString(" (" + string(f.Kind) + ")")
		}
	case f.Err != nil:
		b.WriteString(string(f.Kind) + ": " + f.Err.Error())
	default:
		b.WriteString(string(f.Kind))
	}
	return b.String()
}

// Unwrap gives the cause.
func (f *Failure) Unwrap() error { return f.Err }

// harmless reports whether the failure says nothing about the backend's health.
func (f *Failure) harmless() bool {
	switch f.Kind {
	case KindCancelled, KindClosed, KindBadAddress, KindBadSender, KindUnsupported, KindUncertain:
		return true
	}
	return false
}

// beforeMail reports whether the backend failed before it had answered MAIL.
func (f *Failure) beforeMail() bool {
	switch f.Stage {
	case StageConnect, StageBanner, StageEHLO, StageTLS:
		return true
	case StageMail:
		return f.Kind != KindReply || f.Reply.Code == 421
	}
	return false
}
