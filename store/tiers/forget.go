// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"rcptgate/store"
)

// buried is a place that keeps tombstones across restarts: store/disk.
type buried interface {
	Tombstones(ctx context.Context, generation uint64) (list []store.Tombstone, floor time.Time, err error)
}

// Join begins to share with the other gateways: it tells the shared place what this one
// has forgotten, and forgets what they have. It waits for the first exchange, for half a
// second at most. Call it once, before the first question; without a shared place it
// does nothing.
func (t *Tiers) Join(timing Timing) {
	if t.common == nil {
		return
	}
	t.common.Timing = timing
	var known []store.Tombstone
	for _, p := range t.places {
		if b, ok := p.Store.(buried); ok {
			ctx, cancel := context.WithTimeout(context.Background(), placeForget)
			list, _, _ := b.Tombstones(ctx, 0) // what cannot be read is carried out once more
			cancel()
			known = append(known, list...)
		}
	}
	t.background.Go(t.dig)
	t.background.Go(t.lookAgain)
	t.common.Start(known, t.forgotten, t.lost)
}

// OnForget adds a subscriber: f is called once for everything that was forgotten, on this
// gateway or on another, after RAM has forgotten it. Subscribers are called in the order in
// which they came, and must not block.
func (t *Tiers) OnForget(f func(store.Pattern)) {
	t.hooksMu.Lock()
	defer t.hooksMu.Unlock()
	t.hooks = append(t.hooks[:len(t.hooks):len(t.hooks)], f) // those who are calling keep the old list
}

func (t *Tiers) tellForgotten(p store.Pattern) {
	t.hooksMu.Lock()
	hooks := t.hooks
	t.hooksMu.Unlock()
	for _, f := range hooks {
		f(p)
	}
}

// Forget forgets what matches in every place, and says how many records that were.
// When it returns without an error no place has them, nor will have them after a
// restart, and the other gateways forget within a minute. With an error, RAM has
// forgotten and the places that are named have not yet; each does as soon as it can. An
// error that is store.ErrUnpublished says that no other gateway knows of it so far.
func (t *Tiers) Forget(ctx context.Context, match store.Pattern) (int, error) {
	tomb := t.tombstone(match)
	t.graves.begin(match, t.ram.Now())
	defer t.graves.end(match)
	most, err := t.ram.Forget(ctx, tomb)
	if errors.Is(err, store.ErrClosed) {
		return 0, err
	}
	failed := make([]error, len(t.places)+2)
	counts := make([]int, len(t.places))
	failed[len(t.places)] = err
	var all sync.WaitGroup
	if t.common != nil {
		all.Go(func() { _, failed[len(t.places)+1] = t.common.Forget(ctx, tomb) })
	}
	for i, p := range t.places {
		all.Go(func() { counts[i], failed[i] = p.forget(ctx, tomb) })
	}
	all.Wait() // each is bounded by ctx
	for _, n := range counts {
		most = max(most, n)
	}
	t.tellForgotten(match)
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

// tombstone gives an order to forget, later than all that are known.
func (t *Tiers) tombstone(match store.Pattern) store.Tombstone {
	t.digs.mu.Lock()
	defer t.digs.mu.Unlock()
	when := t.ram.Now()
	if t.common != nil {
		if when = t.common.After(when); !when.After(t.digs.last) {
			when = t.digs.last.Add(1)
		}
		t.digs.last = when
	}
	return store.Tombstone{Pattern: match, When: when}
}

const (
	digBatch    = 256 // orders of other gateways that are carried out at once
	placeForget = 30 * time.Second
	knowPause   = 2 * time.Millisecond
)

// digs are the orders to forget that other gateways have given, until they have been
// carried out.
type digs struct {
	mu   sync.Mutex
	list []store.Tombstone
	lost bool      // refusals are to go
	busy bool      // some are being carried out
	last time.Time // of this gateway's own orders
	wake chan struct{}
}

func newDigs() digs { return digs{wake: make(chan struct{}, 1)} }

func (d *digs) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// take gives some orders and whether refusals are to go.
func (d *digs) take() (batch []store.Tombstone, lost bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(len(d.list), digBatch)
	batch, d.list = d.list[:n:n], d.list[n:]
	lost, d.lost = d.lost, false
	d.busy = n > 0 || lost
	return batch, lost
}

// forgotten is told of an order of another gateway. From here on nothing that it is
// about is believed; it is carried out in the background, since there may be thousands.
// A probe that began before now is not kept, by our own clock: that of the gateway which
// gave the order may be another.
func (t *Tiers) forgotten(tomb store.Tombstone) {
	t.graves.begin(tomb.Pattern, t.ram.Now())
	t.digs.mu.Lock()
	t.digs.list = append(t.digs.list, tomb)
	t.digs.mu.Unlock()
	t.digs.signal()
}

// lost is told that orders to forget may be gone for good: what keeps mail out is asked
// again.
func (t *Tiers) lost() {
	t.common.lostAt.Store(store.Seconds(t.ram.Now()))
	t.digs.mu.Lock()
	t.digs.lost = true
	t.digs.mu.Unlock()
	t.digs.signal()
}

// dig is the goroutine that carries out what others have forgotten.
func (t *Tiers) dig() {
	ctx, cancel := context.WithCancel(context.Background())
	t.background.Go(func() { <-t.quit; cancel() })
	for {
		select {
		case <-t.quit:
			return
		case <-t.digs.wake:
		}
		for ctx.Err() == nil {
			batch, lost := t.digs.take()
			if lost {
				t.dropRefusals(ctx)
			}
			if len(batch) == 0 && !lost {
				break
			}
			t.carryOut(ctx, batch)
		}
	}
}

// carryOut forgets what other gateways have forgotten.
func (t *Tiers) carryOut(ctx context.Context, batch []store.Tombstone) {
	if len(batch) == 0 {
		return
	}
	t.ram.ForgetAll(patterns(batch))
	timed, cancel := context.WithTimeout(ctx, placeForget)
	defer cancel()
	var all sync.WaitGroup
	for _, p := range t.places {
		for _, tomb := range batch {
			all.Go(func() { _, _ = p.forget(timed, tomb) }) // a place in trouble goes on trying
		}
	}
	all.Wait()
	for _, tomb := range batch {
		t.effective(ctx, tomb)
		t.graves.end(tomb.Pattern)
		t.tellForgotten(tomb.Pattern)
	}
}

// effective waits until tomb has taken effect in the shared place, too: until then that
// may give out what tomb is about.
func (t *Tiers) effective(ctx context.Context, tomb store.Tombstone) {
	for !t.common.Knows(tomb) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(knowPause):
		}
	}
}

func patterns(batch []store.Tombstone) []store.Pattern {
	list := make([]store.Pattern, len(batch))
	for i := range batch {
		list[i] = batch[i].Pattern
	}
	return list
}

// refusing is a place that can list what keeps mail out: store/disk.
type refusing interface {
	Refusals(ctx context.Context, f func(key string) bool) error
}

// dropRefusals takes everything that keeps mail out from RAM and from the places that
// can list it, a batch at a time as refill does.
func (t *Tiers) dropRefusals(ctx context.Context) {
	var keys []string
	_ = t.ram.Range(ctx, store.Pattern{}, func(key string, rec store.Record) bool {
		if rec.Standing.Class.Refuses() || rec.Transient.Class.Refuses() {
			keys = append(keys, key)
		}
		return true
	})
	for _, key := range keys {
		t.dropRefusal(ctx, key, nil)
	}
	for _, p := range t.places {
		r, ok := p.Store.(refusing)
		if !ok {
			continue
		}
		keys = keys[:0]
		p.count(r.Refusals(ctx, func(key string) bool {
			keys = append(keys, key)
			return true
		}))
		for i, key := range keys {
			if i%refillBatch == refillBatch-1 {
				select {
				case <-ctx.Done():
					return
				case <-time.After(refillPause):
				}
			}
			t.dropRefusal(ctx, key, p)
		}
	}
}

// dropRefusal takes what keeps mail out from the record that p, or RAM if p is nil, has
// under key.
func (t *Tiers) dropRefusal(ctx context.Context, key string, p *place) {
	unlock, err := t.lock(ctx, key)
	if err != nil {
		return
	}
	defer unlock()
	t.graves.mu.RLock()
	defer t.graves.mu.RUnlock()
	if p == nil {
		rec, seen, err := t.ram.Peek(key)
		if err == nil && strip(&rec, math.MaxUint32) {
			_ = t.ram.PutSeen(key, rec, seen)
		}
		return
	}
	rec, err := p.Get(ctx, key)
	if err == nil && strip(&rec, math.MaxUint32) {
		p.count(p.Put(ctx, key, rec))
	}
}
