// SPDX-License-Identifier: BSD-2-Clause

package store

import (
	"context"
	"errors"
	"time"
)

// ErrLeased says that another gateway is finding out what was asked for.
var ErrLeased = errors.New("another gateway is finding out")

// ErrDown says that no server of a shared place is alive: nothing was read or written.
var ErrDown = errors.New("no server of the shared memory is alive")

// ErrUnpublished says that a forget reached no server of the shared place: only this
// gateway has forgotten so far. The others learn of it when a server is back.
var ErrUnpublished = errors.New("only this gateway has forgotten so far: no server of the shared memory could be reached")

// ErrBudget says that an answer has spent the time it may wait for a shared place.
var ErrBudget = errors.New("the time for the shared memory is used up")

// Shared is a place that other gateways write to as well: store/memcached. It may be
// absent, slow, empty, full or lying; callers go on without it.
//
// Every method that asks a server is bounded by ctx, by the place's own time-out for one
// operation, and by the budget of the answer it is done for; see [rcptgate.Budget].
//
// Range gives nothing: such a place cannot list. Forget returns nil when at least one
// server has it, an error that is ErrUnpublished otherwise; what was forgotten is
// void here in either case. The number it gives is 0.
type Shared interface {
	Store
	// Start begins the exchange of tombstones: known were carried out here before (the
	// disk has them). forgotten is called, one call at a time, for every other one that
	// is found, before anything stamped with it is believed; lost when what was
	// forgotten may have been lost. Start returns after the first exchange or 500 ms;
	// call it once, before the first answer. Close ends the exchange; no callback runs
	// after it.
	Start(known []Tombstone, forgotten func(Tombstone), lost func())
	// After gives a time for a new tombstone: now, or just after the newest known.
	After(now time.Time) time.Time
	// Knows reports whether t, with which forgotten was called, has taken effect: what it is
	// about is no longer returned.
	Knows(t Tombstone) bool
	// Down reports that no server is alive: costs an atomic load.
	Down() bool
	// Server names the server responsible for key, for people; "" when there is none.
	Server(key string) string
	// Add keeps rec unless something is there. Like Put it is queued and never waits, and
	// stamps rec with what is known to be forgotten at that moment: callers make sure
	// that a forget reported to them comes wholly before or wholly after.
	Add(ctx context.Context, key string, rec Record) error
	// GetMany is Get for several keys at once; keys not found are absent. With an error
	// the map holds what was found nevertheless.
	GetMany(ctx context.Context, keys []string) (map[string]Record, error)
	// Lease asks to be the gateway that finds out what is under key by route (any text that
	// says which server would be asked). ErrLeased: another gateway is. Any other error:
	// unknown, go on without. release, which may be called more than once and never waits,
	// lets go after everything that was Put under key before. The lease is kept alive
	// until then.
	Lease(ctx context.Context, key, route string) (release func(), err error)
	// Await is one look at what a lease is waited for: the record under key, zero if
	// there is none, and whether the lease is still held.
	Await(ctx context.Context, key, route string) (rec Record, leased bool, err error)
}

// ServerStats describes one server of a shared place.
type ServerStats struct {
	Name   string
	Alive  bool
	Since  time.Time // when Alive last changed
	Error  string    // why it is dead
	Hits   uint64
	Misses uint64
	Errors uint64 // questions without a usable reply
	Bad    uint64 // values that were not believed
	// Latency is the mean time of a question since the start, failed ones included.
	Latency time.Duration
}
