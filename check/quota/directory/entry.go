// SPDX-License-Identifier: BSD-2-Clause

// Package directory finds in an LDAP directory which store holds a mailbox, what the store
// calls it, and which limit it has. A directory never knows how much is used.
package directory

import "time"

// Flags are what a directory says of a mailbox besides names and numbers.
type Flags uint8

// The flags.
const (
	// OverQuota: the directory itself says that the mailbox takes no more (Sun's
	// mailUserStatus=overquota).
	OverQuota Flags = 1 << iota
	// NoLocal: there is no mailbox; mail is forwarded or goes to a program (qmail-ldap's
	// deliveryMode=nolocal).
	NoLocal
)

// Unlimited is a limit that does not limit; NotKnown a number that the entry does not have.
const (
	Unlimited = 0
	NotKnown  = -1
)

// Entry is what the directory knows of one mailbox.
type Entry struct {
	// Found is the number of entries that match the address: 0, 1, or 2 for "more than one".
	// With any other number than 1 the rest says nothing.
	Found    int
	Host     string // the store's host name or address; empty when the entry names none
	User     string // as the store calls the mailbox; empty when the entry does not say
	Limit    int64  // octets; Unlimited; NotKnown
	Messages int64  // most messages; Unlimited; NotKnown
	Flags    Flags
	DN       string        // for traces; never shown to a sender
	Age      time.Duration // since the directory was asked; 0 when it was asked now
	Stale    bool          // no server can be asked: this is what was found before
}
