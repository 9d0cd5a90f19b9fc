// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"rcptgate/store"
)

// keeper is a place that keeps tombstones across restarts: store/disk.
type keeper interface {
	Tombstones(ctx context.Context, generation uint64) (list []store.Tombstone, floor time.Time, err error)
}

// placeForget bounds what a place does for a forget of another gateway.
const placeForget = 30 * time.Second

// Join begins to share with the other gateways: it gives the shared place what this one
// has forgotten, and forgets what they have. It waits for the first exchange, for half a
// second at most. Call it once, before the first question; without a shared place it
// does nothing.
func (t *Tiers) Join(timing Timing) {
	s := t.shared
	if s == nil {
		return
	}
	s.timing = timing
	var known []store.Tombstone
	for _, p := range t.local.places {
		if k, ok := p.Store.(keeper); ok {
			ctx, cancel := context.WithTimeout(context.Background(), placeForget)
			list, _, _ := k.Tombstones(ctx, 0) // what cannot be read is applied once more
			cancel()
			known = append(known, list...)
		}
	}
	a := &s.orders
	a.forgotten = t.hooks.call
	t.background.Go(func() { a.run(t.quit) })
	t.background.Go(func() { s.compareAll(t.quit) })
	s.place.Start(known, a.order, a.lost)
}

// OnForget adds a subscriber: f is called once for everything that was forgotten, on this
// gateway or on another, after RAM has forgotten it. Subscribers are called in the order in
// which they came, and must not block.
func (t *Tiers) OnForget(f func(store.Pattern)) { t.hooks.add(f) }

// Forget forgets what matches in every place, and says how many records that were.
// When it returns without an error no place has them, nor will have them after a
// restart, and the other gateways forget within a minute. With an error, RAM has
// forgotten and the places that are named have not yet; each does as soon as it can. An
// error that is store.ErrUnpublished says that no other gateway knows of it so far.
func (t *Tiers) Forget(ctx context.Context, match store.Pattern) (int, error) {
	l := t.local
	tomb := store.Tombstone{Pattern: match, When: l.ram.Now()}
	if t.shared != nil {
		tomb.When = t.shared.orders.next(tomb.When)
	}
	l.forgets.begin(match, l.ram.Now())
	defer l.forgets.end(match)
	most, err := l.ram.Forget(ctx, tomb)
	if errors.Is(err, store.ErrClosed) {
		return 0, err
	}
	failed := make([]error, len(l.places)+2)
	counts := make([]int, len(l.places))
	failed[len(l.places)] = err
	var all sync.WaitGroup
	if t.shared != nil {
		all.Go(func() { _, failed[len(l.places)+1] = t.shared.place.Forget(ctx, tomb) })
	}
	for i, p := range l.places {
		all.Go(func() { counts[i], failed[i] = p.forget(ctx, tomb) })
	}
	all.Wait() // each is bounded by ctx
	for _, n := range counts {
		most = max(most, n)
	}
	t.hooks.call(match)
	return most, errors.Join(failed...)
}

func (p *place) forget(ctx context.Context, tomb store.Tombstone) (int, error) {
	n, err := p.Forget(ctx, tomb)
	if err != nil {
		p.errors.Add(1)
		err = fmt.Errorf("forgetting %s in %s: %w", tomb.Pattern, p.name, err)
	}
	return n, err
}
