// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"context"
	"errors"
	"hash/maphash"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"rcptgate"
	"rcptgate/store"
	"rcptgate/store/ram"
)

// local is what belongs to this gateway alone: RAM and the places below it that no
// other gateway writes to.
type local struct {
	ram     *ram.Store
	places  []*place
	forgets forgets
	uses    uses
	limits  atomic.Pointer[store.Limits]
	check   chan struct{} // what RAM holds has to be checked
	lostAt  atomic.Uint32 // seconds: refusals learnt before are not believed; see strip
	seed    maphash.Seed
	locks   [stripes]chan struct{} // by key: look-ups below RAM and read-modify-write
}

func newLocal(r *ram.Store) *local {
	// The zero of the forgets' clock lies back, so that no time on it is 0 or less.
	l := &local{ram: r, forgets: newForgets(r.Now().Add(-time.Hour)), seed: maphash.MakeSeed(), uses: newUses(), check: make(chan struct{}, 1)}
	l.limits.Store(new(store.Limits))
	for i := range l.locks {
		l.locks[i] = make(chan struct{}, 1)
	}
	return l
}

// lock takes the key's stripe. Holders keep it for at most a look-up in each place.
func (l *local) lock(ctx context.Context, key string) (unlock func(), err error) {
	stripe := l.locks[maphash.String(l.seed, key)%stripes]
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

// load puts the copy in RAM into rec, which is zero, for an answer: it counts as a use. The
// copy was found right when it came into RAM, and is served without a look at the clock;
// see tend.
func (l *local) load(key string, rec *store.Record) (seen uint32, err error) {
	seen, err = l.ram.Load(key, rec)
	if err != nil {
		return 0, err
	}
	l.use(key, seen, rec)
	return seen &^ usedBit, nil
}

// peek gives the copy in RAM to callers that only look.
func (l *local) peek(key string) (rec store.Record, seen uint32, err error) {
	rec, seen, err = l.ram.Peek(key)
	if err == nil && !l.limits.Load().Clamp(&rec, l.ram.Now()) {
		return store.Record{}, 0, store.ErrNotFound
	}
	return rec, seen &^ usedBit, err
}

// see stamps the copy in RAM.
func (l *local) see(key string, stamp uint32) { l.ram.See(key, stamp, usedBit) }

// believe makes rec, which comes from another place than RAM, what may be believed of it,
// and reports whether anything of that is alive.
func (l *local) believe(rec *store.Record) bool {
	if lost := l.lostAt.Load(); lost != 0 {
		strip(rec, lost)
	}
	now := l.ram.Now()
	return l.limits.Load().Clamp(rec, now) && rec.Expire().After(now)
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

// recall is called with the key's lock held, so that equal questions at the same time are
// one look-up below RAM.
func (l *local) recall(ctx context.Context, key string) (rec store.Record, source string, ok bool) {
	mark, believed := l.forgets.look(key)
	if !believed {
		return store.Record{}, "", false
	}
	if rec, _, err := l.peek(key); err == nil {
		return rec, rcptgate.SourceRAM, true
	}
	if l.lack(key) {
		return store.Record{}, "", false
	}
	rec, source = l.below(ctx, key)
	if source == "" || !l.copyUp(key, rec, mark, 0) {
		return store.Record{}, "", false
	}
	return rec, source, true
}

// below gives what the places know of key, and which of them.
func (l *local) below(ctx context.Context, key string) (rec store.Record, source string) {
	for _, p := range l.places {
		rec, err := p.get(ctx, key, l.ram.Now())
		if err == nil && l.believe(&rec) {
			return rec, p.name
		}
	}
	return store.Record{}, ""
}

// copyUp puts into RAM what was looked up, unless it was forgotten since the mark.
func (l *local) copyUp(key string, rec store.Record, mark int64, seen uint32) bool {
	l.forgets.mu.RLock()
	defer l.forgets.mu.RUnlock()
	if l.forgets.since(key, mark) {
		return false
	}
	_ = l.ram.PutSeen(strings.Clone(key), rec, seen) // fails only when closed; the key may lie in a buffer of the caller
	return true
}

// putBelow gives rec to the places.
func (l *local) putBelow(ctx context.Context, key string, rec store.Record) {
	for _, p := range l.places {
		p.count(p.Put(ctx, key, rec))
	}
}

// corrected gives what shall be remembered of rec, which was made from old just now.
func (l *local) corrected(rec, old store.Record) store.Record {
	if drift := l.ram.Drift(); drift != 0 {
		store.Shift(&rec, old, -drift) // dated by a clock that has just jumped
	}
	asked := rec
	l.limits.Load().Clamp(&rec, l.ram.Now())
	if rec.Standing.Class == store.None && asked.Standing.Class != store.None {
		rec.Standing = old.Standing
	}
	if rec.Transient.Class == store.None && asked.Transient.Class != store.None {
		rec.Transient = old.Transient
	}
	return rec
}

// checkEvery is how often tend looks whether the clock has gone back.
const checkEvery = time.Minute

// tend is the goroutine that informs the places of uses, and takes out of RAM what may no
// longer be believed: when the clock has gone back, or answers may not live for so long
// any more.
func (l *local) tend(quit <-chan struct{}) {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	latest := l.ram.Now()
	for {
		select {
		case <-quit:
			return
		case key := <-l.uses.queue:
			l.proveBelow(key)
		case <-l.check:
			l.recheck(quit)
		case <-tick.C:
			now := l.ram.Now().Round(0)
			if now.Before(latest.Add(-store.Ahead)) {
				l.recheck(quit)
			}
			latest = now
		}
	}
}

// checkSoon has RAM checked in the background.
func (l *local) checkSoon() {
	select {
	case l.check <- struct{}{}:
	default:
	}
}

// recheck applies the limits to what RAM holds.
func (l *local) recheck(quit <-chan struct{}) {
	ctx, limits, now := context.Background(), l.limits.Load(), l.ram.Now()
	var keys []string
	_ = l.ram.Range(ctx, store.Pattern{}, func(key string, rec store.Record) bool {
		if was := rec; !limits.Clamp(&rec, now) || rec != was {
			keys = append(keys, key)
		}
		return true
	})
	for _, key := range keys {
		select {
		case <-quit:
			return
		default:
		}
		unlock, err := l.lock(ctx, key)
		if err != nil {
			return
		}
		l.forgets.mu.RLock()
		if rec, seen, err := l.ram.Peek(key); err == nil {
			limits.Clamp(&rec, now)
			_ = l.ram.PutSeen(key, rec, seen)
		}
		l.forgets.mu.RUnlock()
		unlock()
	}
}

// refusing is a place that can list what keeps mail out: store/disk.
type refusing interface {
	Refusals(ctx context.Context, f func(key string) bool) error
}

// dropRefusals takes everything that keeps mail out from RAM and from the places that
// can list it, a batch at a time as refill does.
func (l *local) dropRefusals(ctx context.Context) {
	var keys []string
	_ = l.ram.Range(ctx, store.Pattern{}, func(key string, rec store.Record) bool {
		if rec.Standing.Class.Refuses() || rec.Transient.Class.Refuses() {
			keys = append(keys, key)
		}
		return true
	})
	for _, key := range keys {
		l.dropRefusal(ctx, key, nil)
	}
	for _, p := range l.places {
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
			l.dropRefusal(ctx, key, p)
		}
	}
}

// dropRefusal takes what keeps mail out from the record that p, or RAM if p is nil, has
// under key.
func (l *local) dropRefusal(ctx context.Context, key string, p *place) {
	unlock, err := l.lock(ctx, key)
	if err != nil {
		return
	}
	defer unlock()
	l.forgets.mu.RLock()
	defer l.forgets.mu.RUnlock()
	if p == nil {
		rec, seen, err := l.ram.Peek(key)
		if err == nil && strip(&rec, math.MaxUint32) {
			_ = l.ram.PutSeen(key, rec, seen)
		}
		return
	}
	rec, err := p.Get(ctx, key)
	if err == nil && strip(&rec, math.MaxUint32) {
		p.count(p.Put(ctx, key, rec))
	}
}

// place is a store below RAM and how it has been doing.
type place struct {
	store.Store
	name     string
	lacks    func(key string) bool // see lacking; nil: it is not one
	patience time.Duration         // PlaceTimeout, except in tests of what is known and not of how soon
	errors   atomic.Uint64
	failures atomic.Int32 // in a row
	restTill atomic.Int64 // UNIX nanoseconds
}

// lacking is a place that can say without I/O that it has nothing under a key, as for nearly
// all recipients that are not in RAM: store/disk.
type lacking interface{ Lacks(key string) bool }

func newPlace(s store.Store) *place {
	p := &place{Store: s, name: s.Stats().Name, patience: PlaceTimeout}
	if l, ok := s.(lacking); ok {
		p.lacks = l.Lacks
	}
	return p
}

// lack reports whether no place has anything under key, where that takes no I/O to know.
func (l *local) lack(key string) bool {
	for _, p := range l.places {
		if p.lacks == nil || !p.lacks(key) {
			return false
		}
	}
	return true
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

var errResting = errors.New("place has failed and is not asked for a moment")

func (p *place) count(err error) {
	if err != nil {
		p.errors.Add(1)
	}
}
