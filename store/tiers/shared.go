// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
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
	// whoever asked has spent the rest before.
	learnShare = 4
	// justSeen is the age up to which learning takes a copy for what the others know.
	justSeen = time.Second
	// pause is how long a copy goes on being served when the shared place gave no answer.
	pause = time.Second
	tick  = 10 * time.Millisecond // of a stamp
)

// common is the place that other gateways write to as well, and what has to be known of
// it. Copies of its records are in RAM, each with the time when it was last seen there:
// a stamp, counted in ticks since the start; 0 is never.
type common struct {
	store.Shared
	Timing
	start  time.Time
	looks  looks
	lostAt atomic.Uint32 // seconds: refusals learnt before are not believed
}

func (c *common) stamp(now time.Time) uint32 {
	return max(uint32(now.Sub(c.start)/tick), 1) //nolint:gosec // it may turn over: ages are differences
}

// again is the stamp of a copy that is not to be asked about for a moment.
func (c *common) again(now time.Time) uint32 { return c.stamp(now.Add(pause - c.Stale)) }

func (c *common) age(now time.Time, stamp uint32) time.Duration {
	if stamp == 0 {
		return 1 << 62
	}
	return time.Duration(c.stamp(now)-stamp) * tick
}

// Sharing reports whether there is a place that other gateways write to as well.
func (t *Tiers) Sharing() bool { return t.common != nil }

// Patience is how long one answer waits for the shared place before it is asked for:
// learning what was answered may take the rest of the budget.
func (t *Tiers) Patience() time.Duration {
	if t.common == nil {
		return 0
	}
	return t.common.Budget - t.common.Budget/learnShare
}

// Server names the server of the shared place that is responsible for key, for people;
// "" when there is none.
func (t *Tiers) Server(key string) string {
	if t.common == nil {
		return ""
	}
	return t.common.Server(key)
}

// Fresh gives what RAM knows under key if that may be served without asking anybody. It
// does no I/O.
func (t *Tiers) Fresh(key string) (store.Record, bool) {
	rec, seen, err := t.ram.Peek(key)
	if err != nil || t.common != nil && !t.serves(key, seen) {
		return store.Record{}, false
	}
	return rec, true
}

// serves reports whether a copy with a stamp may be served, and has it looked up in the
// background where that is due.
func (t *Tiers) serves(key string, seen uint32) bool {
	c := t.common
	age := c.age(t.ram.Now(), seen)
	switch {
	case age < c.Fresh || c.Down():
	case age < c.Stale:
		c.looks.enqueue(key)
	default:
		return false
	}
	return true
}

// recallShared is Recall when there is a shared place.
func (t *Tiers) recallShared(ctx context.Context, key string) (rec store.Record, source string, ok bool) {
	rec, seen, err := t.ram.GetSeen(key)
	switch {
	case errors.Is(err, store.ErrClosed):
		return store.Record{}, "", false
	case err == nil && t.serves(key, seen):
		return rec, "ram", true
	}
	here := err == nil
	unlock, err := t.lockWithin(ctx, key, here)
	if err != nil {
		return rec, "ram", here
	}
	defer unlock()
	return t.look(ctx, key, t.common.Fresh)
}

// lockWithin takes the key's lock; with a copy to go on with, only if that is free
// within the budget. The wait counts: whoever waited for another's question to a server
// that hangs does not ask it for as long again.
func (t *Tiers) lockWithin(ctx context.Context, key string, here bool) (unlock func(), err error) {
	bounded := ctx
	if here {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(ctx, max(rcptgate.BudgetOf(ctx).Left(t.common.Budget), 0))
		defer cancel()
	}
	began := time.Now()
	unlock, err = t.lock(bounded, key)
	rcptgate.BudgetOf(ctx).Spend(time.Since(began))
	return unlock, err
}

// Look gives what is known under key, having asked the shared place, whatever RAM has.
func (t *Tiers) Look(ctx context.Context, key string) (rec store.Record, source string, ok bool) {
	if t.common == nil {
		return t.Recall(ctx, key)
	}
	unlock, err := t.lockWithin(ctx, key, false)
	if err != nil {
		return store.Record{}, "", false
	}
	defer unlock()
	return t.look(ctx, key, 0)
}

// look is called with the key's lock held. It asks RAM for a copy younger than the age
// given, then the shared place, then the others.
func (t *Tiers) look(ctx context.Context, key string, age time.Duration) (rec store.Record, source string, ok bool) {
	mark, believed := t.graves.look(key)
	if !believed {
		return store.Record{}, "", false
	}
	here, seen, err := t.ram.Peek(key)
	known := err == nil
	if known && t.common.age(t.ram.Now(), seen) < age {
		return here, "ram", true
	}
	there, err := t.common.Get(ctx, key)
	absent := errors.Is(err, store.ErrNotFound)
	switch {
	case err == nil && there.Expire().After(t.ram.Now()):
		at := "ram"
		if !known {
			here, at = t.below(ctx, key)
		}
		return t.settle(ctx, key, mark, here, at, there)
	case err == nil:
		absent = true
	case absent:
	case known:
		t.ram.See(key, t.common.again(t.ram.Now()))
		return here, "ram", true
	}
	if known && t.stands(ctx, key, mark, &here) {
		t.addBack(ctx, key, mark, here)
		return here, "ram", true
	}
	return t.lookBelow(ctx, key, mark, absent)
}

// settle makes the copy here, which the place named has, and the record of the shared
// place one, which goes to whoever has another. Here may be zero, at no place.
func (t *Tiers) settle(ctx context.Context, key string, mark uint64, here store.Record, at string, there store.Record) (rec store.Record, source string, ok bool) {
	t.sift(&there)
	rec = merge(here, there)
	now := t.ram.Now()
	t.graves.mu.RLock()
	defer t.graves.mu.RUnlock()
	if t.graves.since(key, mark) || rec.IsZero() {
		return store.Record{}, "", false
	}
	if source = "memcached"; rec != there {
		source = at
		_ = t.common.Put(ctx, key, rec) // it counts its errors itself
	}
	if rec == here && at == "ram" {
		t.ram.See(key, t.common.stamp(now))
		return rec, at, true
	}
	key = strings.Clone(key)
	_ = t.ram.PutSeen(key, rec, t.common.stamp(now)) // fails only when closed
	if rec != here {
		for _, p := range t.places {
			p.count(p.Put(ctx, key, rec))
		}
	}
	return rec, source, true
}

// below gives what the places that only this gateway writes to know of key, and which.
func (t *Tiers) below(ctx context.Context, key string) (rec store.Record, at string) {
	for _, p := range t.places {
		rec, err := p.get(ctx, key, t.ram.Now())
		if t.sift(&rec); err == nil && !rec.IsZero() && rec.Expire().After(t.ram.Now()) {
			return rec, p.name
		}
	}
	return store.Record{}, ""
}

// addBack gives the shared place what it has lost.
func (t *Tiers) addBack(ctx context.Context, key string, mark uint64, here store.Record) {
	t.graves.mu.RLock()
	defer t.graves.mu.RUnlock()
	if t.graves.since(key, mark) {
		return
	}
	_ = t.common.Add(ctx, key, here)
	t.ram.See(key, t.common.stamp(t.ram.Now()))
}

// lookBelow asks the places that only this gateway writes to.
func (t *Tiers) lookBelow(ctx context.Context, key string, mark uint64, absent bool) (rec store.Record, source string, ok bool) {
	rec, at := t.below(ctx, key)
	seen := t.common.again(t.ram.Now())
	switch {
	case at == "" || absent && !t.stands(ctx, key, mark, &rec):
		return store.Record{}, "", false
	case absent:
		seen = t.common.stamp(t.ram.Now())
	}
	if !t.copyUp(key, rec, mark, seen) {
		return store.Record{}, "", false // forgotten meanwhile
	}
	if absent {
		t.addBack(ctx, key, mark, rec)
	}
	return rec, at, true
}

// noteReplaced tells the other gateways that the valid answer old was replaced or taken
// back: the mark under store.ReplacedKey. The answer that replaced it ends long before the
// copies of the valid one that some gateway may still have, which must not come back then.
func (t *Tiers) noteReplaced(ctx context.Context, key string, old *store.Answer, rec *store.Record) {
	now := t.ram.Now()
	if old.Class != store.Valid || !old.Alive(now) || rec.Standing.Class == store.Valid {
		return
	}
	_ = t.common.Put(ctx, store.ReplacedKey(key), store.Record{Standing: store.Answer{
		Class: store.Unknown, Code: 550, Text: "replaced", Learnt: now, Refresh: old.Expire, Expire: old.Expire,
	}})
}

// stands reports whether a copy that the shared place no longer has is still good there.
// If it is not it is taken out here.
func (t *Tiers) stands(ctx context.Context, key string, mark uint64, here *store.Record) bool {
	if here.Standing.Class != store.Valid {
		return true
	}
	replaced, err := t.common.Get(ctx, store.ReplacedKey(key))
	if err != nil || replaced.Standing.Learnt.Before(here.Standing.Learnt) {
		return true
	}
	t.graves.mu.RLock()
	defer t.graves.mu.RUnlock()
	if !t.graves.since(key, mark) {
		_ = t.ram.Delete(ctx, key)
		for _, p := range t.places {
			p.count(p.Put(ctx, key, store.Record{}))
		}
	}
	return false
}

// before is what Learn builds upon: what all gateways know, so that what several of
// them found out adds up. It is called with the key's lock held.
func (t *Tiers) before(ctx context.Context, key string) store.Record {
	if t.common == nil || t.common.Down() {
		rec, _, _ := t.recall(ctx, key)
		return rec
	}
	rec, _, _ := t.look(rcptgate.WithBudget(ctx, t.common.Budget/learnShare), key, justSeen)
	return rec
}

// Lease asks to be the one among all gateways who finds out what is under key by route;
// see store.Shared.
func (t *Tiers) Lease(ctx context.Context, key, route string) (release func(), err error) {
	if t.common == nil {
		return nil, store.ErrDown
	}
	return t.common.Lease(ctx, key, route)
}

// Await is one look at what a lease is waited for. What has appeared is kept here too.
func (t *Tiers) Await(ctx context.Context, key, route string) (rec store.Record, leased bool, err error) {
	if t.common == nil {
		return store.Record{}, false, store.ErrDown
	}
	mark, believed := t.graves.look(key)
	there, leased, err := t.common.Await(ctx, key, route)
	if err != nil || !believed || !there.Expire().After(t.ram.Now()) {
		return store.Record{}, leased, err
	}
	unlock, err := t.lock(ctx, key)
	if err != nil {
		return store.Record{}, leased, err
	}
	defer unlock()
	here, _, err := t.ram.Peek(key)
	at := "ram"
	switch {
	case errors.Is(err, store.ErrClosed):
		return store.Record{}, leased, err
	case err != nil:
		here, at = t.below(ctx, key)
	}
	rec, _, _ = t.settle(ctx, key, mark, here, at, there)
	return rec, leased, nil
}

// sift takes out the refusals that may have been forgotten by an order that was lost.
func (t *Tiers) sift(rec *store.Record) {
	if t.common == nil {
		return
	}
	if lost := t.common.lostAt.Load(); lost != 0 {
		strip(rec, lost)
	}
}

// strip takes out the refusals learnt up to the second given.
func strip(rec *store.Record, upTo uint32) (changed bool) {
	for _, a := range []*store.Answer{&rec.Standing, &rec.Transient} {
		if a.Class.Refuses() && store.Seconds(a.Learnt) <= upTo {
			*a, changed = store.Answer{}, true
		}
	}
	return changed
}
