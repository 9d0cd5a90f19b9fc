// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"rcptgate/store"
)

const (
	orderBatch = 256 // orders that are applied at once
	knowPause  = 2 * time.Millisecond
	// oldOrder is from which age on an order leaves what was learnt after it: it comes
	// from before this gateway shared anything with the other. With a younger one clocks
	// that differ decide nothing.
	oldOrder = 15 * time.Minute
	// maxOrderLines bounds the log lines of one batch.
	maxOrderLines = 20
	// farAhead is how far ahead this gateway's own orders may lie: other gateways ignore
	// what lies further ahead.
	farAhead = 24 * time.Hour
)

// orders are the forgets that other gateways have ordered, until they have been applied
// here.
type orders struct {
	local     *local
	place     store.Shared
	log       *slog.Logger
	forgotten func(store.Pattern)

	mu     sync.Mutex
	list   []store.Tombstone
	revoke bool      // refusals are to go
	busy   bool      // some are being applied
	last   time.Time // of this gateway's own orders
	wake   chan struct{}
}

func newOrders(l *local, place store.Shared) orders {
	return orders{
		local: l, place: place, log: slog.New(slog.DiscardHandler), forgotten: func(store.Pattern) {},
		wake: make(chan struct{}, 1),
	}
}

// next gives a time for an order of this gateway, later than all that are known.
func (o *orders) next(now time.Time) time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	when := o.place.After(now)
	if !when.After(o.last) && o.last.Before(now.Add(farAhead)) {
		when = o.last.Add(1)
	}
	o.last = when
	return when
}

func (o *orders) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// order takes an order of another gateway. From here on nothing that it is about is
// believed; it is applied in the background, since there may be thousands. A probe that
// began before now is not kept, by our own clock: that of the gateway which gave the order
// may be another.
func (o *orders) order(tomb store.Tombstone) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.local.forgets.begin(tomb.Pattern, o.local.ram.Now())
	o.list = append(o.list, tomb)
	if len(o.list) > store.MaxTombstones {
		o.coarsen()
	}
	o.signal()
}

// coarsen makes one order of all: more than that are never applied in time.
func (o *orders) coarsen() {
	all := store.Tombstone{}
	o.local.forgets.begin(all.Pattern, o.local.ram.Now())
	for _, tomb := range o.list {
		if tomb.When.After(all.When) {
			all.When, all.By = tomb.When, tomb.By
		}
		o.local.forgets.end(tomb.Pattern)
	}
	o.list = []store.Tombstone{all}
}

// lost says that orders may be gone for good: what keeps mail out is asked again.
func (o *orders) lost() {
	o.local.lostAt.Store(store.Seconds(o.local.ram.Now()))
	o.mu.Lock()
	o.revoke = true
	o.mu.Unlock()
	o.signal()
}

// take gives some orders and whether refusals are to go.
func (o *orders) take() (batch []store.Tombstone, revoke bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := min(len(o.list), orderBatch)
	batch, o.list = o.list[:n:n], o.list[n:]
	revoke, o.revoke = o.revoke, false
	o.busy = n > 0 || revoke
	return batch, revoke
}

// run is the goroutine that applies what others have forgotten.
func (o *orders) run(quit <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	var stop sync.WaitGroup
	stop.Go(func() { <-quit; cancel() })
	defer stop.Wait()
	for {
		select {
		case <-quit:
			return
		case <-o.wake:
		}
		for ctx.Err() == nil {
			batch, revoke := o.take()
			if revoke {
				o.local.dropRefusals(ctx)
			}
			if len(batch) == 0 && !revoke {
				break
			}
			o.apply(ctx, batch)
		}
	}
}

// apply forgets what other gateways have forgotten.
func (o *orders) apply(ctx context.Context, batch []store.Tombstone) {
	if len(batch) == 0 {
		return
	}
	l, now := o.local, o.local.ram.Now()
	for i := range batch {
		if when := batch[i].When; now.Sub(when) > oldOrder {
			batch[i].Spare = when.Add(store.Ahead)
		}
	}
	counts := l.ram.ForgetAll(batch)
	timed, cancel := context.WithTimeout(ctx, placeForget)
	defer cancel()
	below := make([][]int, len(l.places))
	var all sync.WaitGroup
	for i, p := range l.places {
		below[i] = make([]int, len(batch))
		for n, tomb := range batch {
			all.Go(func() { below[i][n], _ = p.forget(timed, tomb) }) // a place in trouble goes on trying
		}
	}
	all.Wait()
	for n, tomb := range batch {
		for i := range below {
			counts[n] = max(counts[n], below[i][n])
		}
		o.effective(ctx, tomb)
		l.forgets.end(tomb.Pattern)
		o.forgotten(tomb.Pattern)
	}
	o.report(batch, counts)
}

// effective waits until tomb has taken effect in the shared place, too: until then that
// may give out what tomb is about.
func (o *orders) effective(ctx context.Context, tomb store.Tombstone) {
	for !o.place.Knows(tomb) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(knowPause):
		}
	}
}

// report logs what was forgotten, and at which gateway it was ordered.
func (o *orders) report(batch []store.Tombstone, counts []int) {
	more, records := 0, 0
	for i, tomb := range batch {
		if i >= maxOrderLines {
			more, records = more+1, records+counts[i]
			continue
		}
		o.log.Info("forgotten on another gateway", "what", tomb.Pattern.String(), "gateway", tomb.By,
			"when", tomb.When.Format(time.RFC3339), "records", counts[i])
	}
	if more > 0 {
		o.log.Info("forgotten on other gateways: more", "forgets", more, "records", records)
	}
}
