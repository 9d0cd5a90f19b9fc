// SPDX-License-Identifier: BSD-2-Clause

// Package tiers makes one memory of several places: RAM, and any number of places
// below it, in the order in which they are asked.
//
// What is recalled from below is copied into RAM. What is learnt is written to RAM
// at once and given to every place below, each of which queues it by itself. A
// place that fails is passed over for a moment and costs nothing but its
// knowledge. What is forgotten is forgotten everywhere, and neither a probe nor a
// look-up that began before can bring it back.
//
// Nothing here waits for a place for longer than PlaceTimeout, and an answer that
// is in RAM waits for nobody.
package tiers

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate"
	"rcptgate/store"
	"rcptgate/store/ram"
)

const (
	// PlaceTimeout bounds one look-up in one place.
	PlaceTimeout = 250 * time.Millisecond
	// A place that failed failuresToRest times in a row is not read for rest.
	failuresToRest = 3
	rest           = time.Second
	stripes        = 256
)

// Tiers is the gate's memory. Make it with New. All methods may be called at the
// same time; none may be called from a function that was handed to Learn or Range.
type Tiers struct {
	ram    *ram.Store
	places []*place
	graves graves
	seed   maphash.Seed
	locks  [stripes]chan struct{} // by key: look-ups below RAM and read-modify-write

	quit       chan struct{} // ends what runs in the background
	background sync.WaitGroup
	closing    sync.Once
}

// place is a store below RAM and how it has been doing.
type place struct {
	store.Store
	name     string
	errors   atomic.Uint64
	failures atomic.Int32 // in a row
	restTill atomic.Int64 // UNIX nanoseconds
}

// New puts places below r. It owns them all from here on: Close closes them.
func New(r *ram.Store, places ...store.Store) *Tiers {
	t := &Tiers{ram: r, graves: newGraves(), seed: maphash.MakeSeed(), quit: make(chan struct{})}
	for _, p := range places {
		t.places = append(t.places, &place{Store: p, name: p.Stats().Name})
	}
	for i := range t.locks {
		t.locks[i] = make(chan struct{}, 1)
	}
	return t
}

// Recall gives what is known under key and the name of the place that knew it. A
// record that has ended is not known, but one of its answers may have: test them.
func (t *Tiers) Recall(ctx context.Context, key string) (rec store.Record, source string, ok bool) {
	rec, err := t.ram.Get(ctx, key)
	if err == nil {
		return rec, "ram", true
	}
	if len(t.places) == 0 || errors.Is(err, store.ErrClosed) {
		return store.Record{}, "", false
	}
	unlock, err := t.lock(ctx, key)
	if err != nil {
		return store.Record{}, "", false
	}
	defer unlock()
	return t.recall(ctx, key)
}

// recall is called with the key's lock held, so that equal questions at the same
// time are one look-up below RAM.
func (t *Tiers) recall(ctx context.Context, key string) (rec store.Record, source string, ok bool) {
	if rec, err := t.ram.Get(ctx, key); err == nil {
		return rec, "ram", true
	}
	mark := t.graves.last()
	for _, p := range t.places {
		rec, err := p.get(ctx, key, t.ram.Now())
		if err != nil || !rec.Expire().After(t.ram.Now()) {
			continue
		}
		if !t.copyUp(ctx, key, rec, mark) {
			break // forgotten meanwhile
		}
		return rec, p.name, true
	}
	return store.Record{}, "", false
}

func (t *Tiers) copyUp(ctx context.Context, key string, rec store.Record, mark uint64) bool {
	t.graves.mu.RLock()
	defer t.graves.mu.RUnlock()
	if t.graves.since(key, mark) {
		return false
	}
	_ = t.ram.Put(ctx, key, rec) // fails only when closed
	return true
}

// Learn changes what is known under key: change is given the newest record, zero if
// nothing is known, and gives back what shall be known from here on; zero forgets.
// No other Learn of the key comes between. If the key was forgotten after began,
// when the probe that found this out was started, nothing is changed.
func (t *Tiers) Learn(key string, began time.Time, change func(old store.Record) store.Record) {
	ctx := context.Background()
	unlock, err := t.lock(ctx, key)
	if err != nil {
		return
	}
	defer unlock()
	mark := t.graves.last()
	old, _, _ := t.recall(ctx, key)
	rec := change(old)
	t.graves.mu.RLock()
	defer t.graves.mu.RUnlock()
	if t.graves.after(key, began) || t.graves.since(key, mark) {
		return
	}
	if t.ram.Put(ctx, key, rec) != nil {
		return // closed
	}
	for _, p := range t.places {
		p.count(p.Put(ctx, key, rec))
	}
}

// lock takes the key's stripe. Holders keep it for at most a look-up in each place.
func (t *Tiers) lock(ctx context.Context, key string) (unlock func(), err error) {
	stripe := t.locks[maphash.String(t.seed, key)%stripes]
	select {
	case stripe <- struct{}{}:
	default:
		select {
		case stripe <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return func() { <-stripe }, nil
}

// get looks key up unless the place is resting.
func (p *place) get(ctx context.Context, key string, now time.Time) (store.Record, error) {
	if now.UnixNano() < p.restTill.Load() {
		p.errors.Add(1)
		return store.Record{}, errResting
	}
	timed, stop := rcptgate.LazyDeadline(ctx, time.Now().Add(PlaceTimeout)) // the places' clock may be a test's
	defer stop()
	rec, err := p.Get(timed, key)
	switch {
	case err == nil || errors.Is(err, store.ErrNotFound):
		p.failures.Store(0)
	case ctx.Err() != nil: // the asker has gone: that is not the place's fault
	default:
		p.errors.Add(1)
		if p.failures.Add(1) >= failuresToRest {
			p.restTill.Store(now.Add(rest).UnixNano())
		}
	}
	return rec, err
}

var errResting = errors.New("place has failed and is left alone for a moment")

func (p *place) count(err error) {
	if err != nil {
		p.errors.Add(1)
	}
}

// Forget forgets what matches in every place, and says how many records that were.
// When it returns without an error no place has them, nor will have them after a
// restart. With an error, RAM has forgotten and the places that are named have not
// yet; each does as soon as it can.
func (t *Tiers) Forget(ctx context.Context, match store.Pattern) (int, error) {
	tomb := store.Tombstone{Pattern: match, When: t.ram.Now()}
	t.graves.add(match, tomb.When)
	most, err := t.ram.Forget(ctx, tomb)
	if errors.Is(err, store.ErrClosed) {
		return 0, err
	}
	var failed []error
	for _, p := range t.places {
		n, err := p.Forget(ctx, tomb)
		most = max(most, n)
		if err != nil {
			p.errors.Add(1)
			failed = append(failed, fmt.Errorf("forgetting %s in %s: %w", match, p.name, err))
		}
	}
	if len(t.places) > 0 {
		// Look-ups that read a place before it forgot may have copied into RAM since.
		t.graves.add(match, t.ram.Now())
		again, err := t.ram.Forget(context.WithoutCancel(ctx), tomb)
		most = max(most, again)
		failed = append(failed, err)
	}
	return most, errors.Join(append(failed, err)...)
}

// Range calls f once for every key that matches, with what the uppermost place
// knows of it, until f returns false. It takes 8 octets of memory a record. Places
// that fail are left out and named in the error.
func (t *Tiers) Range(ctx context.Context, match store.Pattern, f func(string, store.Record) bool) error {
	var seen [][]uint64 // by place: sorted hashes of the keys given out
	var failed []error
	stopped := false
	now := t.ram.Now()
	for i, s := range t.all() {
		var mine []uint64
		err := s.Range(ctx, match, func(key string, rec store.Record) bool {
			if !rec.Expire().After(now) {
				return true
			}
			hash := maphash.String(t.seed, key)
			for _, hashes := range seen {
				if _, found := slices.BinarySearch(hashes, hash); found {
					return true
				}
			}
			if i < len(t.places) {
				mine = append(mine, hash)
			}
			stopped = !f(key, rec)
			return !stopped
		})
		if err != nil {
			failed = append(failed, fmt.Errorf("listing %s: %w", s.Stats().Name, err))
		}
		if stopped || ctx.Err() != nil {
			break
		}
		slices.Sort(mine)
		seen = append(seen, mine)
	}
	return errors.Join(failed...)
}

func (t *Tiers) all() []store.Store {
	stores := []store.Store{t.ram}
	for _, p := range t.places {
		stores = append(stores, p.Store)
	}
	return stores
}

// Stats describes the tiers from the top.
func (t *Tiers) Stats() []store.Stats {
	list := []store.Stats{t.ram.Stats()}
	for _, p := range t.places {
		s := p.Store.Stats()
		s.Errors += p.errors.Load()
		list = append(list, s)
	}
	return list
}

// Close writes what is pending and closes every place.
func (t *Tiers) Close() error {
	t.closing.Do(func() { close(t.quit) })
	t.background.Wait()
	failed := []error{t.ram.Close()}
	for _, p := range t.places {
		if err := p.Store.Close(); err != nil {
			failed = append(failed, fmt.Errorf("closing %s: %w", p.name, err))
		}
	}
	return errors.Join(failed...)
}
