// SPDX-License-Identifier: BSD-2-Clause

// Package source asks whoever knows how much room a mailbox has: one file a kind of source.
// Answers are judged and kept by package room; the check asks sources in their order.
package source

import (
	"context"

	"rcptgate/check/quota/room"
)

// Mailbox is the mailbox that a source is asked about. Nothing in it has control
// characters, spaces or more than 512 octets: the check refuses such names before any
// source sees them.
type Mailbox struct {
	User    string // as the store calls it, by [quota] user or by the directory
	Address string // local@domain, without a detail
	Local   string // without a detail, case kept
	Domain  string // in lower case; empty for a bare user name
	Backend string // host of the route's first server; empty when there is none: "{backend}"
	Host    string // the store that the directory names; empty when it names none: "{mailhost}"
}

// Source answers how much room a mailbox has. Implementations are safe for concurrent use,
// return by ctx's deadline, and bound whatever they read.
type Source interface {
	// Ask asks about a message of size octets, 1 or more. An error means "could not find
	// out", never "no"; a source that does not know the mailbox answers room.Unknown.
	Ask(ctx context.Context, m Mailbox, size int64) (room.Answer, error)
}
