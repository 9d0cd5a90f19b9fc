// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import "time"

// MTA is the kind of mail server that a front serves.
type MTA uint8

// The kinds that behave differently at the end of a message.
const (
	UnknownMTA MTA = iota
	Sendmail
	Postfix
)

// String gives the kind's word.
func (m MTA) String() string {
	switch m {
	case Sendmail:
		return "sendmail"
	case Postfix:
		return "postfix"
	}
	return "unknown"
}

// Session is what a front knows of a client's connection, and of the transaction on it. A
// front owns it; it lives as long as the client's connection. Steps read it, and write
// notes. It is used by one goroutine at a time: a step must not keep it.
//
// Whatever begins the session anew (another client, STARTTLS, HELO) empties it as far as
// that concerns: the connection's part stays over HELO and STARTTLS.
type Session struct {
	Connected time.Time // when the client connected; zero when the front does not know
	Listener  string    // the front's socket: "unix:/run/rcptgate/milter.sock"
	// Local says that the mail comes from this machine's own users, not from a client
	// that can be refused: a recipient is never refused here, only removed.
	Local bool
	// NoAddress says that the client has no address because it is a program of this
	// machine: "sendmail -bs", a unix socket. False where the front cannot tell.
	NoAddress bool
	MTA       MTA    // known only where a step wants [WantSession]
	Port      uint16 // the client's; 0 when unknown

	// TLSVersion ("TLSv1.3") and TLSCipher are empty without TLS, and unless a step wants
	// [WantSession].
	TLSVersion string
	TLSCipher  string

	// Notes are what steps leave for later ones on the same connection. Nil until a step
	// makes it.
	Notes map[string]any

	Mail Transaction
}

// Transaction is what has happened since MAIL. The front empties it at the end of the
// message, and when the transaction is given up.
type Transaction struct {
	// Args are the ESMTP arguments of MAIL as the client wrote them, "SIZE=1000" and
	// "BODY=8BITMIME", with a NUL between them. Empty from a front that does not have them.
	Args string
	// Recipients are those that were taken so far, in order. They are recorded only where
	// a step wants the message or to remove recipients (see [Wants.Recipients]);
	// Query.Accepted counts them in any case.
	Recipients []Mailbox
	// Dropped are the positions in Recipients of those that were discarded: they were
	// taken, and do not get the message.
	Dropped []int
	// Hold is why the message will be held at its end; empty when it will not.
	Hold string
	// Notes are what steps leave for later ones of this transaction. Nil until a step
	// makes it.
	Notes map[string]any
}

// Reset empties t and keeps memory of ordinary size.
func (t *Transaction) Reset() {
	const keep = 64
	recipients, dropped := t.Recipients, t.Dropped
	if cap(recipients) > keep {
		recipients = nil
	}
	if cap(dropped) > keep {
		dropped = nil
	}
	clear(recipients[:len(recipients)])
	*t = Transaction{Recipients: recipients[:0], Dropped: dropped[:0]}
}
