// SPDX-License-Identifier: BSD-2-Clause

package quota

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate/check/quota/room"
	"rcptgate/check/quota/source"
	"rcptgate/kit/flight"
	"rcptgate/kit/notice"
	"rcptgate/store"
)

const (
	// maxFlights bounds the questions in progress.
	maxFlights = 256
	// lateTime is how long an answer is waited for after its asker has gone on.
	lateTime = 5 * time.Second
)

// State is what outlives a configuration: what is known of mailboxes and of sources, and
// questions in progress. Close it after the last Check that uses it.
type State struct {
	known   *room.Table
	unknown *room.Table // mailboxes that no source knows: a flood of them evicts nothing else
	clock   room.Clock
	sources *source.Set
	flights *flight.Group[flightKey, landing]
	board   *notice.Board
	forgets atomic.Uint64 // a question begun before a forget is not kept
	count   counters

	ctx    context.Context //nolint:containedctx // the life of questions nobody waits for
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// flightKey is what makes two questions equal.
type flightKey struct {
	key  string
	size int64 // rounded: see sizeClass
}

type counters struct {
	asked, early                 atomic.Uint64
	joined, busy, late           atomic.Uint64
	full, tooLarge, held, shrunk atomic.Uint64
	implausible                  atomic.Uint64
}

// NewState makes a State that remembers so many mailboxes.
func NewState(mailboxes int, board *notice.Board) *State {
	s := &State{
		known: room.NewTable(mailboxes), unknown: room.NewTable(mailboxes / 10), clock: room.NewClock(time.Now()),
		sources: source.NewSet(board), flights: flight.New[flightKey, landing](maxFlights), board: board,
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Close ends all questions and waits for them.
func (s *State) Close() {
	s.cancel()
	s.work.Wait()
	s.sources.Close()
}

// Forget drops what is known about the mailboxes of a pattern.
func (s *State) Forget(p store.Pattern) {
	s.forgets.Add(1)
	s.flights.Forget(func(k flightKey) bool { return p.Matches(k.key) })
	if p.Address != "" {
		s.known.Remove(p.Address)
		s.unknown.Remove(p.Address)
		return
	}
	s.known.Forget(p.Matches)
	s.unknown.Forget(p.Matches)
}
