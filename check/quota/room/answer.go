// SPDX-License-Identifier: BSD-2-Clause

// Package room is what one answer about a mailbox's room means, and how long it holds. It
// has no I/O and no clock of its own: callers say what time it is.
//
// Three rules hold everything together. An answer is kept by how near the mailbox is to
// full: far below its limit for an hour, above its soft limit not at all. What the gate
// itself lets through is taken off the room that is left (a debit), which brings the next
// question forward; a debit never refuses. And a refusal is always the store's own word
// about a size, and ends soon, so that somebody who cleans up is let in within 30 s.
//
// Numbers are octets as the store counts them. SIZE (RFC 1870) is the sender's estimate;
// a message without one counts as one octet.
package room

import "time"

// State is what a source says of a mailbox.
type State uint8

// The states. Unknown is the zero value: the source does not know the mailbox, or knows
// nothing of its quota; another source may.
const (
	Unknown State = iota
	Room          // there is room for the size asked about
	Full          // there is not
)

// String gives the state's word as metrics and traces have it.
func (s State) String() string {
	switch s {
	case Room:
		return "room"
	case Full:
		return "full"
	}
	return "unknown"
}

// NotKnown stands for a number that a source does not give.
const NotKnown = -1

// Answer is what a source says of one mailbox. Make one with [Of]: the zero Answer has
// numbers, all of them 0.
type Answer struct {
	State State
	// TooLarge says that the store itself called the message larger than the mailbox may
	// ever hold (enhanced code x.2.3). State is then Full.
	TooLarge bool
	// Used, Soft and Hard are octets, Count and MaxCount messages; NotKnown where the source
	// does not say. Hard is what the store enforces; 0 is no limit. Soft is the size below
	// which the answer may be kept; NotKnown leaves that to the gateway's configuration.
	Used, Soft, Hard, Count, MaxCount int64
	// Age is how old the numbers were when the source gave them.
	Age time.Duration
	// Keep is how long the source says that its answer holds at most; 0: it does not say.
	Keep time.Duration
	// Note is for people, in the trace: "no quota root", "unknown user".
	Note string
}

// Of is an answer without numbers.
func Of(s State) Answer {
	return Answer{State: s, Used: NotKnown, Soft: NotKnown, Hard: NotKnown, Count: NotKnown, MaxCount: NotKnown}
}

// HasNumbers reports whether the answer says how much is used, and of how much.
func (a *Answer) HasNumbers() bool { return a.Used >= 0 && a.Hard >= 0 }
