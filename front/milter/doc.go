// SPDX-License-Identifier: BSD-2-Clause

// Package milter is the front that Sendmail and Postfix talk to: a milter (mail
// filter) server that puts every recipient to the gate and answers while the
// sending server is still connected.
//
// Protocol: version 6 and older ones down to 2, as package wire has it. What the MTA is
// asked to send follows from what the gate wants (rcptgate.Wants): recipients always, MAIL
// and the end of the message when their stages have checks, header and body when a step
// reads them. Everything else is switched off, or answered "continue" for an MTA that cannot
// leave it out. Connect is always wanted and always answered: there are clients that send it
// and wait, whatever was negotiated. Recipients that the MTA has refused itself are not asked
// about.
//
// A recipient is answered with "continue", never with "accept", which would hide
// the following recipients; with a reply code and the verdict's text; or with
// "discard", which is for the whole message. One that is discarded alone is taken, and
// removed at the end of the message. A client that is refused hears it at MAIL
// (docs/decisions/0503-milter.md). Nothing that goes wrong in a look-up ends the connection:
// the MTA would take the filter for broken and fall back on its default action.
//
// At the end of a message the gate is asked about it, and the changes that its steps propose
// are made if it is taken: letter.go and spool.go keep it, edits.go puts the changes into an
// order that is right for Sendmail and Postfix (docs/decisions/0505-message.md).
//
// To follow one recipient: conn.run reads a frame, conn.handle (frame.go) passes it on,
// conn.rcpt asks about it, session.recipient (session.go) makes the question, and
// conn.reply (frame.go, reply.go) writes the answer.
//
// Limits: headers, bodies and all bodies together, frames, macros, connections, idle time, the time that a frame may take
// to arrive and an answer to leave, and the time that a drain takes are bounded
// ([Config]). A malformed frame ends its connection with one log line.
//
// The package has one goroutine a connection and one a listener that watches them
// all, so that no connection needs a timer.
package milter
