// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
	"net/netip"
	"time"
)

// Listing is why a client is on a blocklist, and until when.
type Listing struct {
	// Network is what is listed: one IPv4 address, or the IPv6 network of the list's prefix
	// length.
	Network netip.Prefix
	First   time.Time // the first evidence of this listing
	Last    time.Time // the last
	Until   time.Time // when it ends
	Count   int       // pieces of evidence
	// Evidence is the last piece, in words: the name of a virus. It has been through
	// CleanText.
	Evidence string
	QueueID  string // of the last message that was evidence; may be empty
}

// Blocklist is a list of clients' addresses, each with evidence and an end. It is safe for
// concurrent use.
type Blocklist interface {
	Name() string
	// Enforced reports whether the list refuses anybody: a list in rehearsal is shown to
	// people, and empty to everything else.
	Enforced() bool
	// Refusal is the reply to listed clients, for those that answer in the gate's place: a code,
	// and a text that may be empty.
	Refusal() (code int, text string)
	// Listed finds the listing that covers a client. It does no I/O, takes no lock that all
	// share and does not allocate.
	Listed(client netip.Addr) (Listing, bool)
	// Add lists a client for a while; life 0 is the list's own. An error says why the client
	// is never listed.
	Add(client netip.Addr, evidence, queueID string, life time.Duration) error
	// Remove ends the listing that covers a client, and reports whether there was one.
	Remove(client netip.Addr) bool
	// Each calls f for what is listed, until f returns false.
	Each(f func(Listing) bool)
}
