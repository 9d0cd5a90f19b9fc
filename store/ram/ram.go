// SPDX-License-Identifier: BSD-2-Clause

// Package ram keeps records in memory: the store that answers in well under a
// microsecond, without a lock that all callers share.
//
// It is bounded in entries. Records that only refuse live apart, in a tenth of the
// room, so that no flood of unknown recipients evicts a valid one; within each part
// the cache is W-TinyLFU (Einziger, Friedman, Manes: "TinyLFU: A Highly Efficient
// Cache Admission Policy", 2017), so that a flood of valid addresses that are never
// asked about twice (user+random@) does not either. Keys over 128 octets count as
// several entries. Texts and backends that many records have in common are stored
// once; a text that repeats its recipient's key is shared as well.
//
// A million valid answers take about 200 octets of live heap each, keys included
// (docs/decisions/0201-ram-store.md). Nothing survives the process.
package ram

import (
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/maypok86/otter/v2/stats"

	"rcptgate/kit/steady"
	"rcptgate/store"
)

// MinEntries is the smallest bound: below it the parts would round to nothing.
const MinEntries = 100

// Options say how much a Store keeps.
type Options struct {
	// Entries is the most records kept; below MinEntries it is MinEntries.
	Entries int
	// Now is the clock by which records end; nil means Clock.
	Now func() time.Time
	// Clock is the machine's clock without its jumps; nil means a new one.
	Clock *steady.Clock
}

// Store is a store.Store in memory, made by New.
type Store struct {
	capacity int
	now      func() time.Time
	clock    *steady.Clock // behind now; nil with a clock of the options
	keep     part          // what says that a mailbox lives, and findings
	refuse   part          // what only refuses: a tenth
	seed     maphash.Seed
	coarse   *otter.CoarseClock // nil when the clock is injected
	writers  [64]sync.Mutex     // by key: two writes of one key do not interleave
	closed   atomic.Bool
}

// part hides its cache's type: otherwise every package that sees a Store compiles the generic
// cache once more, which is several megabytes to link.
type part struct {
	held   any // see in
	counts *stats.Counter
}

// in is no method, which would name the type again.
func in(p part) *otter.Cache[string, packed] { return p.held.(*otter.Cache[string, packed]) }

// New makes an empty store. Close ends its clean-up goroutines.
func New(o Options) *Store {
	entries := max(o.Entries, MinEntries)
	now, machine := o.Now, o.Clock
	if now == nil {
		if machine == nil {
			machine = steady.New()
		}
		now = machine.Now
	}
	refusals := entries / 10
	s := &Store{capacity: entries, now: now, clock: machine, seed: maphash.MakeSeed()}
	var ticks otter.Clock = clock(now)
	if o.Now == nil {
		// The caller looks at the record's times: a record that ended a second ago may
		// be given out, and reading the clock would be a tenth of the look-up.
		s.coarse = otter.NewCoarseClock(time.Second)
		ticks = s.coarse
	}
	s.keep = newPart(entries-refusals, now, ticks)
	s.refuse = newPart(refusals, now, ticks)
	return s
}

func newPart(entries int, now func() time.Time, ticks otter.Clock) part {
	counts := stats.NewCounter()
	opts := &otter.Options[string, packed]{
		MaximumWeight: uint64(entries), //nolint:gosec // positive
		Weigher:       weigh,
		StatsRecorder: counts,
		Clock:         ticks,
		Executor:      housekeeper(ticks),
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[string, packed]) time.Duration {
			return store.FromSeconds(e.Value.expire()).Sub(now())
		}),
	}
	return part{otter.Must(opts), counts}
}

// housekeeper runs the cache's housekeeping on the goroutine of whoever has caused it: after
// each write there is a little of it, and starting a goroutine for that costs several times
// as much. When the cache's clock has moved on, which it does once a second, records end,
// perhaps very many at once: that has a goroutine of its own.
func housekeeper(ticks otter.Clock) func(work func()) {
	var last atomic.Int64
	return func(work func()) {
		if now := ticks.NowNano(); last.Load() == now {
			work()
		} else {
			last.Store(now)
			go work()
		}
	}
}

// weigh makes long keys, which an attacker can choose, count for what they take.
func weigh(key string, _ packed) uint32 {
	return 1 + uint32(len(key)/129) //nolint:gosec // store.MaxKey bounds it
}

// clock is an injected time source. It has no ticks: what ended goes at the next
// use of the cache.
type clock func() time.Time

func (c clock) NowNano() int64                      { return c().UnixNano() }
func (c clock) Tick(time.Duration) <-chan time.Time { return nil }

// Get gives the record under key. It does no I/O and does not look at ctx.
func (s *Store) Get(_ context.Context, key string) (rec store.Record, err error) {
	_, err = s.Load(key, &rec)
	return rec, err
}

// Load is Get into rec, which is zero. It gives the stamp that the record was kept with by
// PutSeen or See; 0 when there is none.
func (s *Store) Load(key string, rec *store.Record) (seen uint32, err error) {
	if s.closed.Load() {
		return 0, store.ErrClosed
	}
	p, ok := in(s.keep).GetIfPresent(key)
	if !ok {
		if p, ok = in(s.refuse).GetIfPresent(key); !ok {
			return 0, store.ErrNotFound
		}
	}
	p.unpackTo(rec, key)
	return p.seen, nil
}

// Peek is Load for maintenance: it does not count as a hit or
// a miss, and does not make the record more wanted than it is.
func (s *Store) Peek(key string) (rec store.Record, seen uint32, err error) {
	if s.closed.Load() {
		return store.Record{}, 0, store.ErrClosed
	}
	e, ok := in(s.keep).GetEntryQuietly(key)
	if !ok {
		if e, ok = in(s.refuse).GetEntryQuietly(key); !ok {
			return store.Record{}, 0, store.ErrNotFound
		}
	}
	return e.Value.unpack(key), e.Value.seen, nil
}

// See stamps the record under key, if there is one, and changes nothing else of it. Of the
// stamp before, the bits of keep stay set.
func (s *Store) See(key string, seen, keep uint32) {
	mu := s.writer(key)
	mu.Lock()
	defer mu.Unlock()
	for _, part := range []part{s.keep, s.refuse} {
		if e, ok := in(part).GetEntryQuietly(key); ok {
			p := e.Value
			p.seen = p.seen&keep | seen
			in(part).Set(e.Key, p)
			return
		}
	}
}

// Now is the store's clock.
func (s *Store) Now() time.Time { return s.now() }

// Drift is how far the machine's clock, which has just jumped, is ahead of the store's.
func (s *Store) Drift() time.Duration {
	if s.clock == nil {
		return 0
	}
	return s.clock.Drift()
}

// Has reports whether a record is kept under key, without counting as a use.
func (s *Store) Has(key string) bool {
	if _, ok := in(s.keep).GetEntryQuietly(key); ok {
		return true
	}
	_, ok := in(s.refuse).GetEntryQuietly(key)
	return ok
}

// Put keeps rec in the part it belongs to, and takes it out of the other.
func (s *Store) Put(_ context.Context, key string, rec store.Record) error {
	return s.PutSeen(key, rec, 0)
}

// PutSeen is Put with a stamp: whatever the caller wants to know again of when the
// record was last found to be right. The store makes nothing of it.
func (s *Store) PutSeen(key string, rec store.Record, seen uint32) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	if len(key) > store.MaxKey {
		return nil
	}
	rec = store.Bound(rec)
	mu := s.writer(key)
	mu.Lock()
	defer mu.Unlock()
	if rec.IsZero() || !rec.Expire().After(s.now()) {
		s.drop(key)
		return nil
	}
	into, other := s.keep, s.refuse
	if rec.Refuses() {
		into, other = other, into
	}
	p := pack(key, &rec)
	p.seen = seen
	in(into).Set(key, p)
	in(other).Invalidate(key)
	return nil
}

func (s *Store) writer(key string) *sync.Mutex {
	return &s.writers[maphash.String(s.seed, key)%uint64(len(s.writers))]
}

// drop is called with the key's writer lock held.
func (s *Store) drop(key string) bool {
	_, kept := in(s.keep).Invalidate(key)
	_, refused := in(s.refuse).Invalidate(key)
	return kept || refused
}

func (s *Store) forget(key string) bool {
	mu := s.writer(key)
	mu.Lock()
	defer mu.Unlock()
	return s.drop(key)
}

// Delete forgets the keys.
func (s *Store) Delete(_ context.Context, keys ...string) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	for _, key := range keys {
		s.forget(key)
	}
	return nil
}

// Forget deletes what matches. For anything but one address it looks at every key.
func (s *Store) Forget(ctx context.Context, t store.Tombstone) (int, error) {
	if s.closed.Load() {
		return 0, store.ErrClosed
	}
	return s.ForgetAll([]store.Tombstone{t})[0], ctx.Err()
}

// ForgetAll carries out several forgets in one pass over the keys. It gives how many
// records each of them deleted.
func (s *Store) ForgetAll(list []store.Tombstone) []int {
	counts := make([]int, len(list))
	domains, all := map[string][]int{}, []int(nil)
	for i := range list {
		switch p := list[i].Pattern; {
		case p.Address != "":
			if s.forgetBy(p.Address, &list[i]) {
				counts[i]++
			}
		case p.Domain != "":
			domains[p.Domain] = append(domains[p.Domain], i)
		default:
			all = append(all, i)
		}
	}
	if len(domains) == 0 && len(all) == 0 {
		return counts
	}
	for _, p := range []part{s.keep, s.refuse} {
		for key := range in(p).Keys() {
			for _, which := range [][]int{all, domains[store.Domain(key)]} {
				for _, i := range which {
					if s.forgetBy(key, &list[i]) {
						counts[i]++
						break
					}
				}
			}
		}
	}
	return counts
}

// forgetBy forgets key unless t spares it.
func (s *Store) forgetBy(key string, t *store.Tombstone) bool {
	if t.Spare.IsZero() {
		return s.forget(key)
	}
	mu := s.writer(key)
	mu.Lock()
	defer mu.Unlock()
	for _, part := range []part{s.keep, s.refuse} {
		e, ok := in(part).GetEntryQuietly(key)
		if !ok {
			continue
		}
		if rec := e.Value.unpack(key); t.Spares(&rec) {
			return false
		}
	}
	return s.drop(key)
}

// Range calls f for every record that matches. It does not count as use.
func (s *Store) Range(ctx context.Context, match store.Pattern, f func(string, store.Record) bool) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	for _, p := range []part{s.keep, s.refuse} {
		n := 0
		for key, value := range in(p).All() {
			if n++; n%1024 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			if match.Matches(key) && !f(key, value.unpack(key)) {
				return nil
			}
		}
	}
	return ctx.Err()
}

// Stats describes the store. Entries may count some that have just ended.
func (s *Store) Stats() store.Stats {
	kept, refused := s.keep.counts.Snapshot(), s.refuse.counts.Snapshot()
	refusals := int64(in(s.refuse).EstimatedSize())
	return store.Stats{
		Name:     "ram",
		Entries:  int64(in(s.keep).EstimatedSize()) + refusals,
		Refusals: refusals,
		Capacity: int64(s.capacity),
		Hits:     kept.Hits + refused.Hits,
		Misses:   refused.Misses, // what is not in one part is looked up in the other
		Evicted:  kept.Evictions + refused.Evictions,
	}
}

// Close ends the store's goroutines. The memory goes with the store: taking a
// million records out one by one would hold up the end of the process.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	in(s.keep).StopAllGoroutines()
	in(s.refuse).StopAllGoroutines()
	if s.coarse != nil {
		s.coarse.Stop()
	}
	return nil
}
