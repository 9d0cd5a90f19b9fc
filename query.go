// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
	"net/netip"
	"time"
)

// Stage is the moment of the SMTP transaction at which a question is asked.
type Stage uint8

// The stages in the order in which an SMTP session reaches them.
const (
	StageConnect Stage = iota
	StageHelo
	StageMail
	StageRcpt
	StageMessage

	// StageCount is how many stages there are.
	StageCount = int(iota)
)

// String gives the stage's word as logs, metrics and configuration have it.
func (s Stage) String() string {
	switch s {
	case StageConnect:
		return "connect"
	case StageHelo:
		return "helo"
	case StageMail:
		return "mail"
	case StageRcpt:
		return "rcpt"
	case StageMessage:
		return "message"
	}
	return "unknown"
}

// NextHop is the MTA's own route for a recipient: the macros {rcpt_mailer},
// {rcpt_host} and {rcpt_addr}, verbatim, each empty when the MTA did not send it.
type NextHop struct {
	Mailer string // transport or mailer name: "smtp", "relay", "esmtp", "local", "error"
	Host   string // next hop: "[192.0.2.1]:25", "host.example.", "" for local
	Addr   string // the address after the MTA's own rewriting
}

// Query is one question. A front owns it and may use it again for its next
// question once the gate has answered; a check must not keep it.
type Query struct {
	Stage Stage
	// Recipient is the argument of RCPT TO.
	Recipient Mailbox
	// Target is the mailbox the question is really about: the recipient, or what
	// the MTA (virtusertable) or an alias made of it.
	Target Mailbox

	Sender     string     // reverse-path without brackets; empty for <>
	Client     netip.Addr // zero when the client is local or unknown; see ClientAddr
	ClientName string     // the client's verified name as the MTA has it
	Helo       string
	Size       int64  // octets, from MAIL's SIZE=; 0 when not given
	AuthUser   string // {auth_authen}; empty when not authenticated
	NextHop    NextHop
	QueueID    string // may be empty until a recipient was accepted (Postfix)
	Accepted   int    // recipients of the transaction that were taken before this question

	// Message is the message, at StageMessage alone. Nil from a front that has none.
	Message *Message

	// Session is the connection and the transaction that the question belongs to. Nil from
	// a front that has no connection to speak of, and from "rcptgate check".
	Session *Session

	// Known says that a step has found Target to be a mailbox that exists. The steps that
	// follow need not ask whether it does; they may still have something against it.
	Known bool

	// Guard is asked before the client hears that a mailbox does not exist. Nil: it may.
	Guard Guard
	// Veil is what the client hears about a recipient of which nothing good is remembered:
	// a step that would have to ask a server for this client answers with it, and does not
	// ask. Nil: servers may be asked.
	Veil *Verdict

	// Inquiry says that a person asks ("rcptgate check"), and no mail is on its way. Steps
	// answer as they would answer an MTA, and count nothing: no hit, no message that was let
	// through, nothing against the client.
	Inquiry bool

	// Trace is filled by the chain while it answers.
	Trace Trace

	chain   chainState
	verdict Verdict // what observers are shown
	lane    uint32
}

// Again gives the same question anew, to be put to other checks while q is being answered:
// with a trace of its own, and without what its own chain knows.
func (q *Query) Again() *Query {
	return &Query{
		Stage: q.Stage, Recipient: q.Recipient, Target: q.Target, Sender: q.Sender, Client: q.Client, ClientName: q.ClientName, Helo: q.Helo, Size: q.Size,
		AuthUser: q.AuthUser, NextHop: q.NextHop, QueueID: q.QueueID, Accepted: q.Accepted, Message: q.Message, Session: q.Session, Known: q.Known, Inquiry: q.Inquiry, lane: q.lane,
	}
}

// Reset makes q ready for the next question, keeping the memory of the trace and the
// deadline.
func (q *Query) Reset() {
	trace, spare, lane := q.Trace, q.chain.spare, q.lane
	trace.reset()
	*q = Query{}
	q.Trace, q.chain.spare, q.lane = trace, spare, lane
}

// ClientAddr is Client, or the loopback address for a program of this machine, which has none
// (see [Session]).
func (q *Query) ClientAddr() netip.Addr {
	if !q.Client.IsValid() && q.Session != nil && q.Session.NoAddress {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return q.Client
}

// Lane is a number above 0 that stays with q: questions of one connection have one lane,
// those of others mostly another. Counters and buffers that every question touches are
// kept once per lane, so that no two processors write to the same memory. It is 0 before
// the gate has been asked.
func (q *Query) Lane() uint32 { return q.lane }

// Now is when the step that is running began, or an earlier step if nothing has waited
// since: near enough for judging what is remembered, without a reading of the clock.
func (q *Query) Now() time.Time {
	if q.chain.now.IsZero() {
		return time.Now() // asked without a chain
	}
	return q.chain.now
}
