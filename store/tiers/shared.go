// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"context"
	"errors"
	"strings"
	"time"

	"rcptgate"
	"rcptgate/store"
)

// Timing says for how long a copy of what the shared place has is served.
type Timing struct {
	// Fresh is the age up to which a copy is served without a thought. The age counts
	// from when it was last seen in the shared place, or put there.
	Fresh time.Duration
	// Stale is the age from which the shared place is asked first. Between the two a
	// copy is served, and looked up again in the background. So this is how late a
	// change made by another gateway may be seen.
	Stale time.Duration
	// Budget is how long one answer waits for the shared place, all in all.
	Budget time.Duration
}

// DefaultTiming holds the promise that a change is seen by all within 60 s.
func DefaultTiming() Timing {
	return Timing{Fresh: 30 * time.Second, Stale: 60 * time.Second, Budget: 40 * time.Millisecond}
}

const (
	// learnShare of the budget is how long learning waits for what the others know:
	// the caller has spent the rest before.
	learnShare = 4
	// justSeen is the age up to which learning takes a copy for what the others know.
	justSeen = time.Second
	// pause is how long a copy goes on being served when the shared place gave no answer.
	pause = time.Second
	tick  = 10 * time.Millisecond // of a stamp
)

// sharing is the place that other gateways write to as well, and what has to be known of
// it. Copies of its records are in RAM, each with the time when it was last seen there:
// a stamp, counted in ticks since the start; 0 is never.
type sharing struct {
	local  *local
	place  store.Shared
	name   string
	timing Timing
	start  time.Time
	looks  looks
	orders orders
}

func newSharing(place store.Shared, l *local) *sharing {
	return &sharing{
		local: l, place: place, name: place.Stats().Name, timing: DefaultTiming(), start: l.ram.Now(),
		looks: newLooks(), orders: newOrders(l, place),
	}
}

func (s *sharing) stamp(now time.Time) uint32 {
	return max(uint32(now.Sub(s.start)/tick)&^usedBit, 1) //nolint:gosec // it may turn over: ages are differences
}

// again is the stamp of a copy that is not to be asked about for a moment.
func (s *sharing) again(now time.Time) uint32 { return s.stamp(now.Add(pause - s.timing.Stale)) }

func (s *sharing) age(now time.Time, stamp uint32) time.Duration {
	if stamp == 0 {
		return 1 << 62
	}
	return time.Duration((s.stamp(now)-stamp)&^usedBit) * tick
}

// serves reports whether a copy with a stamp may be served, and has it looked up in the
// background where that is due.
func (s *sharing) serves(key string, seen uint32) bool {
	age := s.age(s.local.ram.Now(), seen)
	switch {
	case age < s.timing.Fresh || s.place.Down():
	case age < s.timing.Stale:
		s.looks.enqueue(key)
	default:
		return false
	}
	return true
}

// recall is Recall when there is a shared place.
func (s *sharing) recall(ctx context.Context, key string) (rec store.Record, source string, ok bool) {
	seen, err := s.local.load(key, &rec)
	switch {
	case errors.Is(err, store.ErrClosed):
		return store.Record{}, "", false
	case err == nil && s.serves(key, seen):
		return rec, rcptgate.SourceRAM, true
	}
	here := err == nil
	unlock, err := s.lockWithin(ctx, key, here)
	if err != nil {
		return rec, rcptgate.SourceRAM, here
	}
	defer unlock()
	return s.look(ctx, key, s.timing.Fresh)
}

// lockWithin takes the key's lock; with a copy to go on with, only if that is free
// within the budget. The wait counts: a caller that waited for another's question to a server
// that hangs does not ask it for as long again.
func (s *sharing) lockWithin(ctx context.Context, key string, here bool) (unlock func(), err error) {
	bounded := ctx
	if here {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(ctx, max(rcptgate.BudgetOf(ctx).Left(s.timing.Budget), 0))
		defer cancel()
	}
	began := time.Now()
	unlock, err = s.local.lock(bounded, key)
	rcptgate.BudgetOf(ctx).Spend(time.Since(began))
	return unlock, err
}

// look is called with the key's lock held. It asks RAM for a copy younger than the age
// given, then the shared place, then the others.
func (s *sharing) look(ctx context.Context, key string, age time.Duration) (rec store.Record, source string, ok bool) {
	mark, believed := s.local.forgets.look(key)
	if !believed {
		return store.Record{}, "", false
	}
	here, seen, err := s.local.peek(key)
	known := err == nil
	if known && s.age(s.local.ram.Now(), seen) < age {
		return here, rcptgate.SourceRAM, true
	}
	there, err := s.place.Get(ctx, key)
	absent := errors.Is(err, store.ErrNotFound)
	switch {
	case err == nil && s.local.believe(&there):
		at := rcptgate.SourceRAM
		if !known {
			here, at = s.local.below(ctx, key)
		}
		return s.settle(ctx, key, mark, here, at, there)
	case err == nil:
		absent = true
	case absent:
	case known:
		s.local.see(key, s.again(s.local.ram.Now()))
		return here, rcptgate.SourceRAM, true
	}
	if known && s.stands(ctx, key, mark, &here) {
		s.addBack(ctx, key, mark, here)
		return here, rcptgate.SourceRAM, true
	}
	return s.lookBelow(ctx, key, mark, absent)
}

// settle makes the copy here, which the place named has, and the record of the shared
// place, which is believed, one, which goes to all that have another. Here may be zero, at no place.
func (s *sharing) settle(ctx context.Context, key string, mark int64, here store.Record, at string, there store.Record) (rec store.Record, source string, ok bool) {
	rec = merge(here, there)
	now := s.local.ram.Now()
	s.local.forgets.mu.RLock()
	defer s.local.forgets.mu.RUnlock()
	if s.local.forgets.since(key, mark) || rec.IsZero() {
		return store.Record{}, "", false
	}
	if source = s.name; rec != there {
		source = at
		_ = s.place.Put(ctx, key, rec) // it counts its errors itself
	}
	if rec == here && at == rcptgate.SourceRAM {
		s.local.see(key, s.stamp(now))
		return rec, at, true
	}
	key = strings.Clone(key)
	_ = s.local.ram.PutSeen(key, rec, s.stamp(now)) // fails only when closed
	if rec != here {
		s.local.putBelow(ctx, key, rec)
	}
	return rec, source, true
}

// addBack gives the shared place what it has lost.
func (s *sharing) addBack(ctx context.Context, key string, mark int64, here store.Record) {
	s.local.forgets.mu.RLock()
	defer s.local.forgets.mu.RUnlock()
	if s.local.forgets.since(key, mark) {
		return
	}
	_ = s.place.Add(ctx, key, here)
	s.local.see(key, s.stamp(s.local.ram.Now()))
}

// lookBelow asks the places that only this gateway writes to.
func (s *sharing) lookBelow(ctx context.Context, key string, mark int64, absent bool) (rec store.Record, source string, ok bool) {
	rec, at := s.local.below(ctx, key)
	seen := s.again(s.local.ram.Now())
	switch {
	case at == "" || absent && !s.stands(ctx, key, mark, &rec):
		return store.Record{}, "", false
	case absent:
		seen = s.stamp(s.local.ram.Now())
	}
	if !s.local.copyUp(key, rec, mark, seen) {
		return store.Record{}, "", false // forgotten meanwhile
	}
	if absent {
		s.addBack(ctx, key, mark, rec)
	}
	return rec, at, true
}

// noteReplaced informs the other gateways that the valid answer old was replaced or taken
// back: the mark under store.ReplacedKey. The answer that replaced it ends long before the
// copies of the valid one that some gateway may still have, which must not come back then.
func (s *sharing) noteReplaced(ctx context.Context, key string, old *store.Answer, rec *store.Record) {
	now := s.local.ram.Now()
	if old.Class != store.Valid || !old.Alive(now) || rec.Standing.Class == store.Valid {
		return
	}
	_ = s.place.Put(ctx, store.ReplacedKey(key), store.Record{Standing: store.Answer{
		Class: store.Unknown, Code: 550, Text: "replaced", Learnt: now, Refresh: old.Expire, Expire: old.Expire,
	}})
}

// stands reports whether a copy that the shared place no longer has is still good there.
// If it is not it is taken out here.
func (s *sharing) stands(ctx context.Context, key string, mark int64, here *store.Record) bool {
	if here.Standing.Class != store.Valid {
		return true
	}
	replaced, err := s.place.Get(ctx, store.ReplacedKey(key))
	(&store.Limits{}).Clamp(&replaced, s.local.ram.Now())
	if err != nil || replaced.Standing.Learnt.Before(here.Standing.Learnt) {
		return true
	}
	s.local.forgets.mu.RLock()
	defer s.local.forgets.mu.RUnlock()
	if !s.local.forgets.since(key, mark) {
		_ = s.local.ram.Delete(ctx, key)
		s.local.putBelow(ctx, key, store.Record{})
	}
	return false
}

// before is what Learn builds upon; see Tiers.before.
func (s *sharing) before(ctx context.Context, key string) store.Record {
	rec, _, _ := s.look(rcptgate.WithBudget(ctx, s.timing.Budget/learnShare), key, justSeen)
	return rec
}

// learnt gives the others what was learnt, in place of old. It gives the stamp of the copy.
func (s *sharing) learnt(ctx context.Context, key string, old *store.Record, rec store.Record) uint32 {
	if s.place.Put(ctx, key, rec) != nil {
		return 0
	}
	s.noteReplaced(ctx, key, &old.Standing, &rec)
	return s.stamp(s.local.ram.Now())
}

// await is one look at what a lease is waited for. What has appeared is kept here too.
func (s *sharing) await(ctx context.Context, key, route string) (rec store.Record, leased bool, err error) {
	mark, believed := s.local.forgets.look(key)
	there, leased, err := s.place.Await(ctx, key, route)
	if err != nil || !believed || !s.local.believe(&there) {
		return store.Record{}, leased, err
	}
	unlock, err := s.local.lock(ctx, key)
	if err != nil {
		return store.Record{}, leased, err
	}
	defer unlock()
	here, _, err := s.local.peek(key)
	at := rcptgate.SourceRAM
	switch {
	case errors.Is(err, store.ErrClosed):
		return store.Record{}, leased, err
	case err != nil:
		here, at = s.local.below(ctx, key)
	}
	rec, _, _ = s.settle(ctx, key, mark, here, at, there)
	return rec, leased, nil
}
