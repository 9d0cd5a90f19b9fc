// SPDX-License-Identifier: BSD-2-Clause

// Package store says what a remembered answer is and what a place that keeps
// answers must do. The places are in the folders below: ram, disk, memcached, and
// the tiers over them; storetest is the suite that each of them passes.
//
// A [Record] is everything known of one recipient. Its key is the canonical
// recipient alone (local part, "@", domain), whatever backend said it, so that a
// changed route does not forget which mailboxes exist. Findings that are not about one
// recipient have keys that no recipient can have; see [FindingKey].
package store

import (
	"context"
	"errors"
	"time"
)

// Class is what an answer means for the recipient.
type Class uint8

// The classes that can be remembered. None is the zero value: nothing is known.
const (
	None      Class = iota
	Valid           // the backend takes the mailbox
	Unknown         // it has no such mailbox
	Full            // it has no room for it
	Refused         // it refuses for another reason
	Deferred        // it said 4xx
	AcceptAll       // finding: it takes every name of the domain
	Selective       // finding: it refused a made-up name of the domain
)

var classNames = [...]string{"none", "valid", "unknown", "full", "refused", "deferred", "accept-all", "selective"}

// String gives the class's word as logs and JSON have it.
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return "invalid"
}

// ParseClass reads what String writes.
func ParseClass(s string) (Class, bool) {
	for i, name := range classNames {
		if s == name {
			return Class(i), true
		}
	}
	return None, false
}

// Refuses reports whether the class keeps mail out: such answers have a bounded
// share of every store, so that no flood of them evicts the valid ones.
func (c Class) Refuses() bool { return c >= Unknown && c <= Deferred }

// Answer is one remembered result. Times are kept to the second; the zero Answer
// knows nothing.
type Answer struct {
	Class    Class
	Code     int    // the backend's reply code, 200 to 599
	Enhanced string // its enhanced status code (RFC 3463), "" if it sent none
	Text     string // its text, lines separated by "\n", cleaned
	Backend  string // who said it, as backend.Address.String writes it
	Learnt   time.Time
	Refresh  time.Time // from here on it is served, and asked again in the background
	Expire   time.Time // from here on it is not served
}

// Alive reports whether the answer may be served at now.
func (a *Answer) Alive(now time.Time) bool { return a.Class != None && now.Before(a.Expire) }

// Due reports whether the answer should be asked again at now.
func (a *Answer) Due(now time.Time) bool { return !now.Before(a.Refresh) }

// Doubt is what speaks against a valid answer: refreshes that said unknown.
type Doubt struct {
	Count int
	First time.Time
	Last  time.Time
}

// Record is everything known of one recipient.
type Record struct {
	// Standing is Valid or Unknown (or a finding's class).
	Standing Answer
	// Transient is Full, Refused or Deferred: it is kept next to a valid answer, never
	// over it.
	Transient Answer
	Doubt     Doubt
	// Tried is when the last refresh of the standing answer began.
	Tried time.Time
}

// IsZero reports whether the record knows nothing.
func (r *Record) IsZero() bool { return r.Standing.Class == None && r.Transient.Class == None }

// Expire is when the last of the record's answers ends.
func (r *Record) Expire() time.Time {
	if r.Transient.Class != None && r.Transient.Expire.After(r.Standing.Expire) {
		return r.Transient.Expire
	}
	return r.Standing.Expire
}

// Refuses reports whether the record keeps mail out and knows of no valid mailbox:
// only such records count towards the refusals' share of a store.
func (r *Record) Refuses() bool {
	if r.Standing.Class == Valid || r.Standing.Class == AcceptAll || r.Standing.Class == Selective {
		return false
	}
	return r.Standing.Class.Refuses() || r.Transient.Class.Refuses()
}

// ErrNotFound says that nothing is remembered under a key.
var ErrNotFound = errors.New("nothing is remembered")

// ErrClosed says that the store has been closed.
var ErrClosed = errors.New("store is closed")

// ErrOwner says that the state directory, or a file in it, belongs to another user.
var ErrOwner = errors.New("state directory belongs to another user")

// ErrReadOnly says that nothing can be written to the state directory.
var ErrReadOnly = errors.New("state directory cannot be written to")

// Tombstone is what is left of a forgotten answer: the order to forget, and when it
// was given. An answer learnt by a probe that began before it is not kept.
type Tombstone struct {
	Pattern Pattern
	When    time.Time
	// Generation counts the forgets of the place that keeps the tombstone, from 1;
	// 0 until such a place has numbered it.
	Generation uint64
	// Spare, if not zero, leaves what was learnt later: a gateway that hears of an old
	// forget has newer answers.
	Spare time.Time
	// By names the gateway that gave the order, for people; "" when that is not known.
	By string
}

// Spares reports whether rec was learnt too late to be forgotten by t.
func (t *Tombstone) Spares(rec *Record) bool {
	return !t.Spare.IsZero() && rec.Learnt().After(t.Spare)
}

// Store is a place that keeps records. Implementations are safe for concurrent
// use. A record whose Expire has passed may be returned or not; callers test it.
// What is kept is what [Bound] makes of a record. Keys longer than [MaxKey] are
// never kept, which is not an error. After Close every method that can fail gives
// [ErrClosed].
type Store interface {
	// Get gives the record under key, or ErrNotFound. Any other error means that
	// the place could not be read.
	Get(ctx context.Context, key string) (Record, error)
	// Put keeps rec under key until its Expire, over whatever was there. It may be
	// kept for less: places are bounded. A place that writes slowly queues what it
	// is given and shows it to Get at once; Put never waits for a disk or a network.
	// A record that IsZero or has ended deletes what was there.
	Put(ctx context.Context, key string, rec Record) error
	// Delete forgets the keys; an absent one is not an error.
	Delete(ctx context.Context, keys ...string) error
	// Forget deletes every record that matches t.Pattern, and says how many these
	// were. It is done, and a place that outlives the process will remember it, when
	// it returns without an error.
	Forget(ctx context.Context, t Tombstone) (int, error)
	// Range calls f for every record that matches, in no order, until f returns
	// false. Records written meanwhile may be seen or not.
	Range(ctx context.Context, match Pattern, f func(key string, rec Record) bool) error
	// Stats describes the place; it is cheap.
	Stats() Stats
	// Close writes what is pending and gives everything back.
	Close() error
}

// Stats describes a store at one moment.
type Stats struct {
	Name     string // "ram", "disk"
	Entries  int64
	Refusals int64 // of them, records that only refuse
	Capacity int64 // most entries it keeps; 0: neither this nor Entries is known
	Hits     uint64
	Misses   uint64
	Errors   uint64
	Evicted  uint64
	Detail   string // for people, e.g. a damaged file set aside
	Servers  []ServerStats
}
