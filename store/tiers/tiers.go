// SPDX-License-Identifier: BSD-2-Clause

// Package tiers makes one memory of several places: RAM, and any number of places
// below it, in the order in which they are asked. One of the places may be a memory that
// several gateways have in common (store.Shared, memcached): see Timing for how long
// copies of what it has are served here, and Join.
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
	"strings"
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
	// stripes are so many that two keys seldom wait for each other's look-ups.
	stripes = 4096
)

// Tiers is the gate's memory. Make it with New. All methods may be called at the
// same time; none may be called from a function that was handed to Learn or Range.
type Tiers struct {
	ram     *ram.Store
	common  *common // nil: nobody else writes what we read
	places  []*place
	graves  graves
	digs    digs
	hooksMu sync.Mutex
	hooks   []func(store.Pattern)
	seed    maphash.Seed
	locks   [stripes]chan struct{} // by key: look-ups below RAM and read-modify-write

	quit       chan struct{} // ends what runs in the background
	background sync.WaitGroup
	closing    sync.Once
}

// place is a store below RAM and how it has been doing.
type place struct {
	store.Store
	name     string
	patience time.Duration // PlaceTimeout, but for tests of what is known and not of how soon
	errors   atomic.Uint64
	failures atomic.Int32 // in a row
	restTill atomic.Int64 // UNIX nanoseconds
}

// New puts places below r. It owns them all from here on: Close closes them. One of
// them may be a store.Shared: it is asked before the others, and Join has to be called
// before the first question.
func New(r *ram.Store, places ...store.Store) *Tiers {
	t := &Tiers{ram: r, graves: newGraves(), seed: maphash.MakeSeed(), quit: make(chan struct{}), digs: newDigs()}
	for _, p := range places {
		if shared, ok := p.(store.Shared); ok && t.common == nil {
			t.common = &common{Shared: shared, Timing: DefaultTiming(), start: r.Now(), looks: looks{queue: make(chan string, maxLooks), pause: lookGather}}
			continue
		}
		t.places = append(t.places, &place{Store: p, name: p.Stats().Name, patience: PlaceTimeout})
	}
	for i := range t.locks {
		t.locks[i] = make(chan struct{}, 1)
	}
	return t
}

// Recall gives what is known under key and the name of the place that knew it. A
// record that has ended is not known, but one of its answers may have: test them.
func (t *Tiers) Recall(ctx context.Context, key string) (rec store.Record, source string, ok bool) {
	if t.common != nil {
		return t.recallShared(ctx, key)
	}
	err := t.ram.Load(key, &rec)
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
	mark, believed := t.graves.look(key)
	if !believed {
		return store.Record{}, "", false
	}
	if rec, _, err := t.ram.Peek(key); err == nil {
		return rec, "ram", true
	}
	for _, p := range t.places {
		rec, err := p.get(ctx, key, t.ram.Now())
		if t.sift(&rec); err != nil || rec.IsZero() || !rec.Expire().After(t.ram.Now()) {
			continue
		}
		if !t.copyUp(key, rec, mark, 0) {
			break // forgotten meanwhile
		}
		return rec, p.name, true
	}
	return store.Record{}, "", false
}

func (t *Tiers) copyUp(key string, rec store.Record, mark uint64, seen uint32) bool {
	t.graves.mu.RLock()
	defer t.graves.mu.RUnlock()
	if t.graves.since(key, mark) {
		return false
	}
	_ = t.ram.PutSeen(strings.Clone(key), rec, seen) // fails only when closed; the key may lie in somebody's buffer
	return true
}

// Learn changes what is known under key: change is given the newest record, zero if
// nothing is known, and gives back what shall be known from here on; zero forgets.
// No other Learn of the key comes between on this gateway. If the key was forgotten
// after began, when the probe that found this out was started, nothing is changed.
func (t *Tiers) Learn(key string, began time.Time, change func(old store.Record) store.Record) {
	ctx := context.Background()
	unlock, err := t.lock(ctx, key)
	if err != nil {
		return
	}
	defer unlock()
	mark, _ := t.graves.look(key)
	old := t.before(ctx, key)
	rec := change(old)
	t.graves.mu.RLock()
	defer t.graves.mu.RUnlock()
	if t.graves.after(key, began) || t.graves.since(key, mark) {
		return
	}
	key, seen := strings.Clone(key), uint32(0)
	if t.common != nil && t.common.Put(ctx, key, rec) == nil {
		seen = t.common.stamp(t.ram.Now())
		t.noteReplaced(ctx, key, &old.Standing, &rec)
	}
	if t.ram.PutSeen(key, rec, seen) != nil {
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
	timed, stop := rcptgate.LazyDeadline(ctx, time.Now().Add(p.patience)) // the places' clock may be a test's
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

// Range calls f once for every key that matches, with what the uppermost place
// knows of it, until f returns false. It takes 8 octets of memory a record. Places
// that fail are left out and named in the error.
func (t *Tiers) Range(ctx context.Context, match store.Pattern, f func(string, store.Record) bool) error {
	var seen [][]uint64 // by place: sorted hashes of the keys given out
	var failed []error
	stopped := false
	now := t.ram.Now()
	all := t.all()
	for i, s := range all {
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
			if i < len(all)-1 {
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
	if t.common != nil {
		stores = append(stores, t.common.Shared)
	}
	for _, p := range t.places {
		stores = append(stores, p.Store)
	}
	return stores
}

// Stats describes the tiers from the top.
func (t *Tiers) Stats() []store.Stats {
	list := []store.Stats{t.ram.Stats()}
	if t.common != nil {
		list = append(list, t.common.Stats())
	}
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
	if t.common != nil {
		if err := t.common.Close(); err != nil {
			failed = append(failed, fmt.Errorf("closing the shared memory: %w", err))
		}
	}
	for _, p := range t.places {
		if err := p.Store.Close(); err != nil {
			failed = append(failed, fmt.Errorf("closing %s: %w", p.name, err))
		}
	}
	return errors.Join(failed...)
}
