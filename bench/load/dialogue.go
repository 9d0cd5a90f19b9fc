// SPDX-License-Identifier: BSD-2-Clause

package load

import "time"

// Outcome is what a reply says.
type Outcome uint8

// The outcomes. Only the last three answer a question.
const (
	Pending   Outcome = iota // nothing yet, more follows
	Step                     // a reply to something that is no question: MAIL, RSET
	Accepted                 // 2xx, continue
	Refused                  // 5xx
	Temporary                // 4xx
)

// Answers reports whether the outcome answers a question.
func (o Outcome) Answers() bool { return o >= Accepted }

// Dialogue is what is said over one connection, driven by Run: a request, then its reply, then the next request.
type Dialogue interface {
	// Request appends the next request to buf, in one piece.
	Request(buf []byte) []byte
	// Reply looks at what has arrived and returns how many octets of it one whole reply takes (0: it is not whole yet)
	// and what it says. An error ends the connection.
	Reply(data []byte) (n int, o Outcome, err error)
}

// setupLimit bounds everything before the first question, for a filter that is busy with thousands of others.
const setupLimit = 60 * time.Second
