// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/store/disk"
	"rcptgate/store/ram"
	"rcptgate/store/storetest"
)

// TestStore puts the tiers through the suite of all stores, over two places.
func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T, entries int) store.Store {
		d, err := disk.Open(disk.Options{Dir: testkit.Dir(t), Entries: entries})
		if err != nil {
			t.Fatal(err)
		}
		between := ram.New(ram.Options{Entries: entries})
		return asStore{unhurried(New(ram.New(ram.Options{Entries: entries}), between, d))}
	})
}

// unhurried waits for its places as long as a busy machine needs.
func unhurried(t *Tiers) *Tiers {
	for _, p := range t.local.places {
		p.patience = time.Minute
	}
	return t
}

// asStore shows the tiers as one store.
type asStore struct{ *Tiers }

func (s asStore) Get(ctx context.Context, key string) (store.Record, error) {
	if rec, _, ok := s.Recall(ctx, key); ok {
		return rec, nil
	}
	if _, err := s.local.ram.Get(ctx, key); err != nil {
		return store.Record{}, err
	}
	return store.Record{}, store.ErrNotFound
}

func (s asStore) Put(_ context.Context, key string, rec store.Record) error {
	if s.local.ram.Delete(context.Background()) != nil {
		return store.ErrClosed
	}
	s.Learn(key, time.Now(), func(store.Record) store.Record { return rec })
	return nil
}

func (s asStore) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := s.Put(ctx, key, store.Record{}); err != nil {
			return err
		}
	}
	return nil
}

func (s asStore) Forget(ctx context.Context, tomb store.Tombstone) (int, error) {
	return s.Tiers.Forget(ctx, tomb.Pattern)
}

// Stats adds up what the suite looks at: the place that is behind bounds the whole.
func (s asStore) Stats() store.Stats {
	sum := store.Stats{Name: "tiers", Evicted: 1 << 40, Capacity: 1 << 40}
	for _, st := range s.Tiers.Stats() {
		sum.Entries = max(sum.Entries, st.Entries)
		sum.Refusals = max(sum.Refusals, st.Refusals)
		sum.Evicted = min(sum.Evicted, st.Evicted+st.Errors)
		sum.Capacity = min(sum.Capacity, st.Capacity)
		sum.Hits += st.Hits
		sum.Misses += st.Misses
	}
	return sum
}

// slow is a place that counts, and that fails, hangs or waits on demand.
type slow struct {
	store.Store
	gets  atomic.Int64
	fail  atomic.Bool
	hang  atomic.Bool
	enter chan struct{} // if set, receives when a Get has read
	leave chan struct{} // and that it may return
}

var errBroken = errors.New("broken")

func (s *slow) Get(ctx context.Context, key string) (store.Record, error) {
	s.gets.Add(1)
	if s.hang.Load() {
		<-ctx.Done()
		return store.Record{}, ctx.Err()
	}
	if s.fail.Load() {
		return store.Record{}, errBroken
	}
	rec, err := s.Store.Get(ctx, key)
	if s.enter != nil {
		s.enter <- struct{}{}
		<-s.leave
	}
	return rec, err
}

func (s *slow) Put(ctx context.Context, key string, rec store.Record) error {
	if s.fail.Load() {
		return errBroken
	}
	return s.Store.Put(ctx, key, rec)
}

func (s *slow) Forget(ctx context.Context, t store.Tombstone) (int, error) {
	if s.fail.Load() {
		return 0, errBroken
	}
	return s.Store.Forget(ctx, t)
}

func newRAM() *ram.Store { return ram.New(ram.Options{Entries: 1000}) }

func below() *slow { return &slow{Store: newRAM()} }

// TestCopiesUp asks the places once for equal questions, in order.
func TestCopiesUp(t *testing.T) {
	t.Parallel()
	first, second := below(), below()
	tiers := unhurried(New(newRAM(), first, second))
	defer tiers.Close()
	ctx := context.Background()
	_ = second.Store.Put(ctx, "a@b.example", valid(time.Now()))
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, _, ok := tiers.Recall(ctx, "a@b.example"); !ok {
				t.Error("not found below")
			}
		})
	}
	all.Wait()
	if first.gets.Load() != 1 || second.gets.Load() != 1 {
		t.Errorf("50 equal questions read the places %d and %d times", first.gets.Load(), second.gets.Load())
	}
	if _, source, _ := tiers.Recall(ctx, "a@b.example"); source != "ram" {
		t.Errorf("it was not copied up: %q", source)
	}
}

// TestFailingPlace passes over what fails, and over what hangs after a moment.
func TestFailingPlace(t *testing.T) {
	for what, breakIt := range map[string]func(*slow){
		"fails": func(s *slow) { s.fail.Store(true) },
		"hangs": func(s *slow) { s.hang.Store(true) },
	} {
		t.Run(what, func(t *testing.T) {
			first, second := below(), below()
			tiers := New(newRAM(), first, second)
			defer tiers.Close()
			ctx := context.Background()
			breakIt(first)
			for i := range 50 {
				key := fmt.Sprintf("u%d@b.example", i)
				_ = second.Store.Put(ctx, key, valid(time.Now()))
				if _, _, ok := tiers.Recall(ctx, key); !ok {
					t.Fatalf("%s is not found below the place that %s", key, what)
				}
			}
			if n := first.gets.Load(); n > 40 {
				t.Errorf("the place was read %d times although it %s", n, what)
			}
			if n := tiers.Stats()[1].Errors; n != 50 {
				t.Errorf("%d errors were counted", n)
			}
			first.fail.Store(false)
			first.hang.Store(false)
			time.Sleep(rest + 10*time.Millisecond)
			before := first.gets.Load()
			tiers.Recall(ctx, "other@b.example")
			if first.gets.Load() == before {
				t.Error("the place was not tried again")
			}
		})
	}
}

// TestForgetNamesThePlace that could not.
func TestForgetNamesThePlace(t *testing.T) {
	t.Parallel()
	place := below()
	tiers := New(newRAM(), place)
	defer tiers.Close()
	learnValid(tiers, "a@b.example", time.Now())
	place.fail.Store(true)
	n, err := tiers.Forget(context.Background(), store.Pattern{Address: "a@b.example"})
	if n != 1 || !errors.Is(err, errBroken) {
		t.Errorf("forget with a broken place: %d, %v", n, err)
	}
}

// TestForgetDuringLookUp: what a look-up read before the forget is not brought back
// into RAM after it.
func TestForgetDuringLookUp(t *testing.T) {
	t.Parallel()
	place := below()
	place.enter, place.leave = make(chan struct{}), make(chan struct{})
	tiers := New(newRAM(), place)
	defer tiers.Close()
	ctx := context.Background()
	_ = place.Store.Put(ctx, "a@b.example", valid(time.Now()))
	recalled := make(chan bool)
	go func() {
		_, _, ok := tiers.Recall(ctx, "a@b.example")
		recalled <- ok
	}()
	<-place.enter
	if n, err := tiers.Forget(ctx, store.Pattern{Domain: "b.example"}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	close(place.leave)
	if <-recalled {
		t.Error("a forgotten answer was given")
	}
	if tiers.local.ram.Has("a@b.example") {
		t.Error("a forgotten answer came back into RAM")
	}
}

// TestLearnIsAtomic counts in one record from many goroutines.
func TestLearnIsAtomic(t *testing.T) {
	t.Parallel()
	tiers := New(newRAM(), below())
	defer tiers.Close()
	now := time.Now()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				tiers.Learn("a@b.example", now, func(old store.Record) store.Record {
					rec := valid(now)
					rec.Doubt = store.Doubt{Count: old.Doubt.Count + 1, First: now, Last: now}
					return rec
				})
			}
		})
	}
	all.Wait()
	if rec, _, _ := tiers.Recall(context.Background(), "a@b.example"); rec.Doubt.Count != 800 {
		t.Errorf("800 changes left a count of %d", rec.Doubt.Count)
	}
}

// TestForgetsAreBounded forgets more addresses than are remembered one by one.
func TestForgetsAreBounded(t *testing.T) {
	t.Parallel()
	start := time.Now()
	f := newForgets(start.Add(-time.Hour))
	const n = 3 * store.MaxTombstones
	for i := range n {
		p := store.Pattern{Address: fmt.Sprintf("u%d@b.example", i)}
		f.begin(p, start.Add(time.Duration(i)*time.Millisecond))
		f.end(p)
	}
	if len(f.set) > store.MaxTombstones+100 || len(f.open) > 0 {
		t.Errorf("%d forgets are remembered, %d are open", len(f.set), len(f.open))
	}
	for i := range n {
		if !f.after(fmt.Sprintf("u%d@b.example", i), start.Add(time.Duration(i-1)*time.Millisecond)) {
			t.Fatalf("address %d is no longer known as forgotten", i)
		}
	}
	if f.after("other@b.example", start.Add(n*time.Millisecond)) {
		t.Error("a probe that began after all forgets counts as forgotten")
	}
}

// TestModel drives the tiers and a map through the same learning, asking,
// forgetting, passing of time and restarts.
func TestModel(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the full run without the race detector has it")
	}
	base := testkit.Dir(t)
	var run atomic.Int64
	rapid.Check(t, func(t *rapid.T) {
		m := &model{dir: fmt.Sprintf("%s/%d", base, run.Add(1)), now: time.Now(), known: map[string]store.Record{}}
		m.open(t)
		defer func() { _ = m.tiers.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"learn":  m.learn,
			"late":   m.learnLate,
			"forget": m.forget,
			"wait": func(t *rapid.T) {
				m.turn(rapid.SampledFrom([]time.Duration{time.Second, time.Hour, 20 * 24 * time.Hour}).Draw(t, "wait"))
			},
			"restart": func(t *rapid.T) { _ = m.tiers.Close(); m.open(t) },
			"evict":   func(*rapid.T) { _ = m.tiers.local.ram.Delete(context.Background(), modelKeys...) },
			"":        m.check,
		})
	})
}

type model struct {
	dir   string
	now   time.Time
	clock atomic.Int64 // the same for the stores' goroutines
	tiers *Tiers
	known map[string]store.Record
}

var modelKeys = []string{"a@b.example", "c@b.example", "a@d.example", store.FindingKey("mx", "b.example")}

func (m *model) turn(by time.Duration) {
	m.now = m.now.Add(by)
	m.clock.Store(m.now.UnixNano())
}

func (m *model) open(t *rapid.T) {
	m.turn(0)
	clock := func() time.Time { return time.Unix(0, m.clock.Load()) }
	d, err := disk.Open(disk.Options{Dir: m.dir, Entries: 1000, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	m.tiers = unhurried(New(ram.New(ram.Options{Entries: 1000, Now: clock}), d))
}

func (m *model) record(t *rapid.T, key string) store.Record {
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		return storetest.Valid(m.now)
	case 1:
		return storetest.Unknown(key, m.now)
	case 2:
		return store.Record{}
	}
	return storetest.Full(key, m.now)
}

func (m *model) learn(t *rapid.T) {
	key := rapid.SampledFrom(modelKeys).Draw(t, "key")
	rec := m.record(t, key)
	m.tiers.Learn(key, m.now, func(old store.Record) store.Record {
		if want := m.expected(key); !storetest.Equal(old, want) {
			t.Fatalf("learning %s: was given %+v, want %+v", key, old, want)
		}
		return rec
	})
	m.known[key] = rec
}

// learnLate learns from a probe that began before a forget.
func (m *model) learnLate(t *rapid.T) {
	began := m.now
	m.turn(time.Second)
	key := rapid.SampledFrom(modelKeys).Draw(t, "key")
	m.forgetMatching(t, rapid.SampledFrom([]store.Pattern{{Address: key}, {Domain: store.Domain(key)}, {}}).Draw(t, "match"))
	m.tiers.Learn(key, began, func(store.Record) store.Record { return storetest.Valid(m.now) })
}

func (m *model) forget(t *rapid.T) {
	m.forgetMatching(t, rapid.SampledFrom([]store.Pattern{
		{Address: modelKeys[0]}, {Address: modelKeys[3]}, {Domain: "b.example"}, {Domain: "no.example"}, {},
	}).Draw(t, "match"))
}

func (m *model) forgetMatching(t *rapid.T, match store.Pattern) {
	if _, err := m.tiers.Forget(context.Background(), match); err != nil {
		t.Fatal(err)
	}
	for key := range m.known {
		if match.Matches(key) {
			delete(m.known, key)
		}
	}
	m.turn(time.Microsecond) // what follows comes after it
}

// expected is what the tiers must know: a record that has ended is nothing.
func (m *model) expected(key string) store.Record {
	rec := store.Bound(m.known[key])
	if !rec.Expire().After(m.now) {
		return store.Record{}
	}
	return rec
}

func (m *model) check(t *rapid.T) {
	listed := map[string]store.Record{}
	if err := m.tiers.Range(context.Background(), store.Pattern{}, func(key string, rec store.Record) bool {
		if _, twice := listed[key]; twice {
			t.Fatalf("%s is listed twice", key)
		}
		listed[key] = rec
		return true
	}); err != nil {
		t.Fatal(err)
	}
	for _, key := range modelKeys {
		want := m.expected(key)
		got, _, ok := m.tiers.Recall(context.Background(), key)
		if ok == want.IsZero() || !storetest.Equal(got, want) {
			t.Fatalf("%s: recalled %+v, want %+v", key, got, want)
		}
		if inList, ok := listed[key]; ok == want.IsZero() || !storetest.Equal(inList, want) {
			t.Fatalf("%s: listed %+v, want %+v", key, inList, want)
		}
	}
}
