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
// is in RAM waits for nothing.
package tiers

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
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
	local  *local
	shared *sharing // nil: what we read has no other writer
	hooks  hooks

	quit       chan struct{} // ends what runs in the background
	background sync.WaitGroup
	closing    sync.Once
}

// New puts places below r. It owns them all from here on: Close closes them. One of
// them may be a store.Shared: it is asked before the others, and Join has to be called
// before the first question.
func New(r *ram.Store, places ...store.Store) *Tiers {
	t := &Tiers{local: newLocal(r), quit: make(chan struct{})}
	for _, p := range places {
		if shared, ok := p.(store.Shared); ok && t.shared == nil {
			t.shared = newSharing(shared, t.local)
			continue
		}
		t.local.places = append(t.local.places, newPlace(p))
	}
	t.background.Go(func() { t.local.tend(t.quit) })
	return t
}

// Limit sets the longest lives of answers, whatever an answer itself says: those that the
// configuration names. Without it there are none. It may be called again.
func (t *Tiers) Limit(l store.Limits) {
	if *t.local.limits.Swap(&l) != l {
		t.local.checkSoon()
	}
}

// Recall gives what is known under key and the name of the place that knew it. A
// record that has ended is not known, but one of its answers may have: test them.
func (t *Tiers) Recall(ctx context.Context, key string) (rec store.Record, source string, ok bool) {
	if t.shared != nil {
		return t.shared.recall(ctx, key)
	}
	_, err := t.local.load(key, &rec)
	if err == nil {
		return rec, rcptgate.SourceRAM, true
	}
	if errors.Is(err, store.ErrClosed) || t.local.lack(key) {
		return store.Record{}, "", false
	}
	unlock, err := t.local.lock(ctx, key)
	if err != nil {
		return store.Record{}, "", false
	}
	defer unlock()
	return t.local.recall(ctx, key)
}

// Learn changes what is known under key: change is given the newest record, zero if
// nothing is known, and gives back what shall be known from here on; zero forgets.
// No other Learn of the key comes between on this gateway. If the key was forgotten
// after began, when the probe that found this out was started, nothing is changed.
func (t *Tiers) Learn(key string, began time.Time, change func(old store.Record) store.Record) {
	ctx, l := context.Background(), t.local
	unlock, err := l.lock(ctx, key)
	if err != nil {
		return
	}
	defer unlock()
	mark, _ := l.forgets.look(key)
	old := t.before(ctx, key)
	rec := l.corrected(change(old), old)
	l.forgets.mu.RLock()
	defer l.forgets.mu.RUnlock()
	if l.forgets.after(key, began) || l.forgets.since(key, mark) {
		return
	}
	key, seen := strings.Clone(key), uint32(0)
	if t.shared != nil {
		seen = t.shared.learnt(ctx, key, &old, rec)
	}
	if l.ram.PutSeen(key, rec, seen) != nil {
		return // closed
	}
	l.putBelow(ctx, key, rec)
}

// Sharing reports whether there is a place that other gateways write to as well.
func (t *Tiers) Sharing() bool { return t.shared != nil }

// Patience is how long one answer waits for the shared place before it is asked for:
// learning what was answered may take the rest of the budget.
func (t *Tiers) Patience() time.Duration {
	if t.shared == nil {
		return 0
	}
	return t.shared.timing.Budget - t.shared.timing.Budget/learnShare
}

// Server names the server of the shared place that is responsible for key, for people;
// "" when there is none.
func (t *Tiers) Server(key string) string {
	if t.shared == nil {
		return ""
	}
	return t.shared.place.Server(key)
}

// Fresh gives what RAM knows under key if that may be served without asking anybody. It
// does no I/O.
func (t *Tiers) Fresh(key string) (store.Record, bool) {
	rec, seen, err := t.local.ram.Peek(key)
	if err != nil || t.shared != nil && !t.shared.serves(key, seen&^usedBit) {
		return store.Record{}, false
	}
	return rec, true
}

// Look gives what is known under key, having asked the shared place, whatever RAM has.
func (t *Tiers) Look(ctx context.Context, key string) (rec store.Record, source string, ok bool) {
	if t.shared == nil {
		return t.Recall(ctx, key)
	}
	unlock, err := t.shared.lockWithin(ctx, key, false)
	if err != nil {
		return store.Record{}, "", false
	}
	defer unlock()
	return t.shared.look(ctx, key, 0)
}

// Lease asks to be the one gateway that finds out what is under key by route;
// see store.Shared.
func (t *Tiers) Lease(ctx context.Context, key, route string) (release func(), err error) {
	if t.shared == nil {
		return nil, store.ErrDown
	}
	return t.shared.place.Lease(ctx, key, route)
}

// Await is one look at what a lease is waited for. What has appeared is kept here too.
func (t *Tiers) Await(ctx context.Context, key, route string) (rec store.Record, leased bool, err error) {
	if t.shared == nil {
		return store.Record{}, false, store.ErrDown
	}
	return t.shared.await(ctx, key, route)
}

// before is what Learn builds upon: what all gateways know, so that what several of
// them found out adds up. It is called with the key's lock held.
func (t *Tiers) before(ctx context.Context, key string) store.Record {
	if t.shared == nil || t.shared.place.Down() {
		rec, _, _ := t.local.recall(ctx, key)
		return rec
	}
	return t.shared.before(ctx, key)
}

// Range calls f once for every key that matches, with what the uppermost place
// knows of it, until f returns false. It takes 8 octets of memory a record. Places
// that fail are left out and named in the error.
func (t *Tiers) Range(ctx context.Context, match store.Pattern, f func(string, store.Record) bool) error {
	var seen [][]uint64 // by place: sorted hashes of the keys given out
	var failed []error
	stopped := false
	now, limits := t.local.ram.Now(), t.local.limits.Load()
	all := t.all()
	for i, s := range all {
		var mine []uint64
		err := s.Range(ctx, match, func(key string, rec store.Record) bool {
			if !limits.Clamp(&rec, now) || !rec.Expire().After(now) {
				return true
			}
			hash := maphash.String(t.local.seed, key)
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
	stores := []store.Store{t.local.ram}
	if t.shared != nil {
		stores = append(stores, t.shared.place)
	}
	for _, p := range t.local.places {
		stores = append(stores, p.Store)
	}
	return stores
}

// Stats describes the tiers from the top.
func (t *Tiers) Stats() []store.Stats {
	list := []store.Stats{t.local.ram.Stats()}
	if t.shared != nil {
		list = append(list, t.shared.place.Stats())
	}
	for _, p := range t.local.places {
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
	failed := []error{t.local.ram.Close()}
	if t.shared != nil {
		if err := t.shared.place.Close(); err != nil {
			failed = append(failed, fmt.Errorf("closing the shared memory: %w", err))
		}
	}
	for _, p := range t.local.places {
		if err := p.Store.Close(); err != nil {
			failed = append(failed, fmt.Errorf("closing %s: %w", p.name, err))
		}
	}
	return errors.Join(failed...)
}
