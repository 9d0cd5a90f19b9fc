// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"context"
	"sync/atomic"
	"time"

	"rcptgate/kit/flight"
	"rcptgate/kit/notice"
	"rcptgate/kit/recent"
	"rcptgate/store"
)

// Bounds of what is kept in addition to the answers.
const (
	// maxFlights bounds the probes in progress, including those without a waiting caller.
	maxFlights     = 20_000
	maxPairs       = 10_000
	refreshWorkers = 32
	refreshPerName = 8 // workers that one domain may hold
	refreshQueue   = 8192
)

// flightKey is what makes two questions equal: the recipient, the servers that would be asked, and about
// a message of which size (0 where that does not matter).
type flightKey struct {
	key, route string
	size       int64
}

// experimentKey is what makes two experiments equal.
type experimentKey struct {
	pair  pair
	shape shapeID
}

// State is what outlives a configuration: probes in progress, refreshes that wait,
// and what was learnt of backends. Make one with NewState for the life of the
// process, and close it after the last Check that uses it.
type State struct {
	flights     *flight.Group[flightKey, landing]
	experiments *flight.Group[experimentKey, experiment]
	controls    *flight.Group[experimentKey, meaning]
	testing     *flight.Group[pair, struct{}] // accept-all tests
	books       *recent.Map[pair, *book]
	forgotten   forgotten
	board       *notice.Board
	fallbacks   *recent.Map[string, time.Time] // until when a backend is asked with the fallback sender first
	tests       *recent.Map[pair, *acceptAllTest]
	windows     *recent.Map[string, *window]
	refresh     refresher
	count       counters

	ctx    context.Context //nolint:containedctx // the life of probes without a waiting caller
	cancel context.CancelFunc
	workers
}

// NewState starts the refresh workers. What a postmaster should know goes to board; nil
// keeps it quiet.
func NewState(board *notice.Board) *State {
	s := &State{
		flights:     flight.New[flightKey, landing](maxFlights),
		experiments: flight.New[experimentKey, experiment](maxFlights),
		controls:    flight.New[experimentKey, meaning](maxFlights),
		testing:     flight.New[pair, struct{}](maxPairs),
		books:       recent.New[pair, *book](maxPairs),
		board:       board,
		fallbacks:   recent.New[string, time.Time](maxPairs),
		tests:       recent.New[pair, *acceptAllTest](maxPairs),
		windows:     recent.New[string, *window](maxPairs),
		workers:     workers{jobs: make(chan func())},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.refresh.init()
	for range refreshWorkers {
		s.wg.Go(s.refreshWorker)
	}
	return s
}

// Close ends all probes and waits for them. What they had not found out is lost.
func (s *State) Close() {
	s.workers.close()
	s.cancel()
	s.wg.Wait()
}

// counters are what Stats shows.
type counters struct {
	probes [store.Selective + 1]atomic.Uint64 // by class
	joined, elsewhere, busy, fallback, loops,
	refreshes, refreshDropped, demotions, demotionsHeld,
	acceptAllTests, acceptAllFound, controls, doubted,
	unproven, refusesUs, cautious atomic.Uint64
}

// Stats are counters since the start, and what is going on.
type Stats struct {
	// Probes are the questions put to backends and answered, by class
	// ("valid", "unknown", ..., "unreachable" when no server could be asked). A made-up
	// recipient is not among them.
	Probes map[string]uint64
	// Joined are questions that shared the probe of another.
	Joined uint64
	// Elsewhere are questions and refreshes that another gateway answered meanwhile.
	Elsewhere uint64
	// Busy are questions not asked because too many probes were in progress.
	Busy uint64
	// Fallback are probes repeated with the other sender.
	Fallback uint64
	// Loops are call-aheads that came back to us.
	Loops uint64
	// Refreshes began in the background; RefreshesDropped found no place to wait.
	Refreshes, RefreshesDropped uint64
	// Demotions are valid answers taken back; DemotionsHeld were not, because too
	// much of the domain looked unknown.
	Demotions, DemotionsHeld uint64
	// AcceptAllTests are made-up recipients asked about; AcceptAllFound were taken.
	AcceptAllTests, AcceptAllFound uint64
	// Controls are questions about known-good recipients that were asked to find out what
	// a refusal means; RefusesUs are refusals that turned out to be about us.
	Controls, RefusesUs uint64
	// Doubted are answers taken back because they may have belonged to another command.
	Doubted uint64
	// Unproven are refusals that may be about us and were made temporary.
	Unproven uint64
	// Cautious are refusals passed over because only the MTA named the route.
	Cautious uint64
	// InFlight are probes in progress, RefreshesWaiting those not yet begun.
	InFlight, RefreshesWaiting int64
}

// Stats reads the counters.
func (s *State) Stats() Stats {
	c := &s.count
	st := Stats{
		Probes: make(map[string]uint64), Joined: c.joined.Load(), Elsewhere: c.elsewhere.Load(), Busy: c.busy.Load(), Fallback: c.fallback.Load(), Loops: c.loops.Load(),
		Refreshes: c.refreshes.Load(), RefreshesDropped: c.refreshDropped.Load(),
		Demotions: c.demotions.Load(), DemotionsHeld: c.demotionsHeld.Load(),
		AcceptAllTests: c.acceptAllTests.Load(), AcceptAllFound: c.acceptAllFound.Load(),
		Controls: c.controls.Load(), RefusesUs: c.refusesUs.Load(), Doubted: c.doubted.Load(),
		Unproven: c.unproven.Load(), Cautious: c.cautious.Load(),
		InFlight: int64(s.flights.Len()), RefreshesWaiting: int64(len(s.refresh.queue)),
	}
	for class := range store.Selective {
		name := class.String()
		if class == store.None {
			name = "unreachable"
		}
		if class != store.AcceptAll {
			st.Probes[name] = c.probes[class].Load()
		}
	}
	return st
}

// asking reports whether the recipient under key is being asked about.
func (s *State) asking(key string) bool {
	return s.flights.Has(func(k flightKey) bool { return k.key == key })
}
