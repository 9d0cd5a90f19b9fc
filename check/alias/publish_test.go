// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/store"
	"rcptgate/store/memcached"
	"rcptgate/table/index"
	"rcptgate/test/lab"
)

// database is a table to publish, with a content to set.
type database struct {
	seed    maphash.Seed
	content atomic.Pointer[index.Index]
}

func newDatabase(t testing.TB, pairs map[string]string) *database {
	t.Helper()
	d := &database{seed: maphash.MakeSeed()}
	d.set(t, pairs)
	return d
}

func (d *database) Index() *index.Index { return d.content.Load() }

func (d *database) set(t testing.TB, pairs map[string]string) {
	t.Helper()
	b := index.Builder{Seed: d.seed}
	for k, v := range pairs {
		if err := b.Add([]byte(k), []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	d.content.Store(b.Build(nil))
}

// many makes n names.
func many(n int) map[string]string {
	pairs := make(map[string]string, n)
	for i := range n {
		pairs[fmt.Sprintf("name%06d", i)] = fmt.Sprintf("user%d@host.example.org", i)
	}
	return pairs
}

// quick is for tests: everything is looked at often.
var quick = PublisherOptions{Look: 50 * time.Millisecond, Glance: 10 * time.Millisecond, LossGap: 100 * time.Millisecond, Burst: 50_000}

func publish(t testing.TB, opt PublisherOptions, tables ...Content) (p *Publisher, kill func()) {
	t.Helper()
	p = NewPublisher(opt)
	p.Publish(tables)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	kill = func() { cancel(); <-done }
	t.Cleanup(kill)
	return p, kill
}

func realNames(t testing.TB, servers ...*lab.Memcached) *memcached.Names {
	t.Helper()
	return namesWithin(t, 5*time.Second, servers...) // a busy machine loses no server
}

// namesWithin gives servers a time for an answer.
func namesWithin(t testing.TB, timeout time.Duration, servers ...*lab.Memcached) *memcached.Names {
	t.Helper()
	cfg := memcached.DefaultConfig()
	cfg.Timeout = timeout
	for _, s := range servers {
		addr, err := memcached.ParseServer(s.Socket())
		if err != nil {
			t.Fatal(err)
		}
		cfg.Servers = append(cfg.Servers, addr)
	}
	c, err := memcached.NewClient(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return memcached.NewNames(c)
}

// values gives what is published of names.
func values(names store.Names, keys ...string) map[string]string {
	got := map[string]string{}
	for part := range slices.Chunk(keys, 100) {
		found, _ := names.Find(context.Background(), part) // what cannot be asked is not there
		for k, n := range found {
			got[k] = n.Value
		}
	}
	return got
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// untilPublished waits until names hold exactly want of the keys of want and gone.
func untilPublished(t testing.TB, names store.Names, want map[string]string, gone ...string) {
	t.Helper()
	keys := slices.Concat(slices.Collect(maps.Keys(want)), gone)
	var got map[string]string
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if got = values(names, keys...); maps.Equal(got, want) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d names are published, want %d", len(got), len(want))
		}
	}
}

// TestPublish publishes two databases and what changes in them, and nothing else.
func TestPublish(t *testing.T) {
	names := realNames(t, lab.StartMemcacheds(t, 2, lab.MemcachedOptions{})...)
	first, second := newDatabase(t, many(500)), newDatabase(t, map[string]string{"name000001": "shadowed", "second": "x@example.org", "list": ":include:/etc/list"})
	opt := quick
	opt.Names = names
	p, _ := publish(t, opt, first, second)
	want := many(500)
	want["second"], want["list"] = "x@example.org", ""
	untilPublished(t, names, want)
	until(t, "the first round", func() bool { st := p.Status(); return !st.Round.IsZero() && st.Of == 503 && st.Published == 503 })
	if st := p.Status(); st.Written != 502 || st.Removed != 0 || st.Failed != 0 || st.Losses != 0 {
		t.Errorf("%+v", st)
	}

	pairs := many(500)
	delete(pairs, "name000001") // now the second database's counts
	delete(pairs, "name000007")
	pairs["name000008"], pairs["new"] = "changed@example.org", "|/bin/program"
	first.set(t, pairs)
	want["name000001"], want["name000008"], want["new"] = "shadowed", "changed@example.org", ""
	delete(want, "name000007")
	untilPublished(t, names, want, "name000007")
	until(t, "rest", func() bool { return p.Status().State == "up to date" })
	if st := p.Status(); st.Written != 505 || st.Removed != 1 || st.Failed != 0 || st.Of != 502 {
		t.Errorf("%+v", st)
	}

	second.set(t, nil) // all of it
	delete(want, "second")
	delete(want, "list")
	delete(want, "name000001")
	untilPublished(t, names, want, "second", "list", "name000001", "name000007")

	p.Publish([]Content{second, first}) // others or in another order: what differs
	until(t, "rest", func() bool { return p.Status().State == "up to date" && p.Status().Removed == 4 })
	if st := p.Status(); st.Written != 505 {
		t.Errorf("%+v", st)
	}
	p.Publish(nil)
	until(t, "nothing to publish", func() bool { return p.Status().State == "nothing to publish" })
	untilPublished(t, names, want)
}

// TestPublisherKilled renews names as long as it lives; then they end by themselves.
func TestPublisherKilled(t *testing.T) {
	t.Parallel()
	names := realNames(t, lab.StartMemcached(t, lab.MemcachedOptions{}))
	opt := quick
	opt.Names, opt.Life = names, 3*time.Second
	p, kill := publish(t, opt, newDatabase(t, many(50)))
	untilPublished(t, names, many(50))
	until(t, "renewals", func() bool { return p.Status().Written >= 50*5 }) // 4 thirds of a life later
	untilPublished(t, names, many(50))
	kill()
	untilPublished(t, names, map[string]string{}, slices.Collect(maps.Keys(many(50)))...)
}

// TestPublisherAndMemcached restarts and stops servers: what was lost comes back, what
// changed meanwhile is made up for, and nobody is asked all the time.
func TestPublisherAndMemcached(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 2, lab.MemcachedOptions{})
	names := namesWithin(t, 100*time.Millisecond, servers...) // they will hang
	opt := quick
	opt.Names = names
	d := newDatabase(t, many(1000))
	p, _ := publish(t, opt, d)
	untilPublished(t, names, many(1000))
	until(t, "the first round", func() bool { return !p.Status().Round.IsZero() })

	servers[0].Restart()
	untilPublished(t, names, many(1000))
	if st := p.Status(); st.Losses == 0 {
		t.Errorf("%+v", st)
	}
	for _, s := range servers {
		s.Stop()
	}
	until(t, "down", func() bool { return p.Status().State == "waiting: memcached is down" })
	pairs := many(900)
	pairs["new"] = "x@example.org"
	d.set(t, pairs)
	for _, s := range servers {
		s.Cont()
	}
	untilPublished(t, names, pairs, slices.Collect(maps.Keys(many(1000)))...)
}

// TestPublisherRate holds the rates: they are lower bounds of time.
func TestPublisherRate(t *testing.T) {
	t.Parallel()
	names := newStoredNames()
	opt := quick
	opt.Names, opt.Burst, opt.Rate = names, 400, 100
	began := time.Now()
	p, _ := publish(t, opt, newDatabase(t, many(600)))
	until(t, "the first round", func() bool { return !p.Status().Round.IsZero() })
	if took := time.Since(began); took < 1300*time.Millisecond {
		t.Errorf("600 names took %v at 400 a second", took)
	}
	if p.rate(&pass{to: p.inForce}) != 100 {
		t.Error("the rate of a renewal is not the steady one")
	}
	large := &Publisher{opt: PublisherOptions{Rate: 2000, Burst: 6000, Life: 30 * time.Minute}}
	x := newDatabase(t, nil).Index()
	var lots view
	for range 3 {
		lots = append(lots, x)
	}
	if got := large.rate(&pass{to: lots}); got != 2000 {
		t.Errorf("rate of few names: %d", got)
	}
}

// TestPublisherYields gives a slow memcached a tenth of the time.
func TestPublisherYields(t *testing.T) {
	t.Parallel()
	names := newStoredNames()
	names.delay = 20 * time.Millisecond
	opt := quick
	opt.Names = names
	began := time.Now()
	p, _ := publish(t, opt, newDatabase(t, many(40)))
	until(t, "the first round", func() bool { return !p.Status().Round.IsZero() })
	if least, took := 40/workers*9*names.delay, time.Since(began); took < least {
		t.Errorf("40 names took %v, want at least %v", took, least)
	}
}

// TestPublishBesideAnswers follows aliases while they are published: all answers are
// right, and the rate is held.
func TestPublishBesideAnswers(t *testing.T) {
	t.Parallel()
	const n = 20_000
	names := realNames(t, lab.StartMemcached(t, lab.MemcachedOptions{}))
	pairs := many(n)
	for k := range pairs {
		pairs[k] = k + "@in.test"
	}
	d := newDatabase(t, pairs)
	cfg := DefaultConfig()
	cfg.Files, cfg.Domains = files(t, "hash:/a"), []string{"example.org"}
	c := newCheckWith(t, cfg, tables{"text:/etc/passwd": ""}, nil)
	c.files[0].Table = indexTable{d}
	opt := quick
	opt.Names, opt.Burst = names, n
	began := time.Now()
	p, _ := publish(t, opt, d)
	asked := 0
	for ; p.Status().Round.IsZero(); asked++ {
		name := fmt.Sprintf("name%06d", asked*7919%n)
		if got, _ := ask(t, c, name+"@example.org", rcptgate.NextHop{}); got != name+"@in.test" {
			t.Fatalf("%s: %s", name, got)
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("still publishing: %+v", p.Status())
		}
	}
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("%d names took %v at %d a second", n, took, opt.Burst)
	}
	t.Logf("%d answers meanwhile", asked)
	if got := values(names, slices.Sorted(maps.Keys(pairs))...); !maps.Equal(got, pairs) {
		t.Errorf("%d names are published, want %d", len(got), n)
	}
}

// indexTable is a database as a table.
type indexTable struct{ d *database }

func (x indexTable) Lookup(_ context.Context, key string) (string, bool, error) {
	value, found := x.d.Index().Get(key)
	return value, found, nil
}

// storedNames are published names in a map, with failures that pass.
type storedNames struct {
	store.Names
	mu      sync.Mutex
	values  map[string]string
	failing map[string]int // failures in a row
	rate    float64        // of failures
	next    store.Survey   // what the next survey shows
	delay   time.Duration  // of a write
	uneven  bool           // some writes take longer
	// The write of "held" tells met, and waits for held to be closed.
	held, met chan struct{}
}

func newStoredNames() *storedNames {
	return &storedNames{values: map[string]string{}, failing: map[string]int{}, next: store.Lost}
}

func (s *storedNames) fails(name string) error {
	if rand.Float64() < s.rate && s.failing[name] < attempts-1 { //nolint:gosec // chance is enough
		s.failing[name]++
		return errors.New("busy")
	}
	s.failing[name] = 0
	return nil
}

func (s *storedNames) Publish(_ context.Context, name string, n store.Name) error {
	delay := s.delay
	if s.uneven && rand.IntN(50) == 0 { //nolint:gosec // chance is enough
		delay += 5 * time.Millisecond
	}
	time.Sleep(delay)
	if s.held != nil && name == "held" {
		s.met <- struct{}{}
		<-s.held
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fails(name); err != nil {
		return err
	}
	s.values[name] = n.Value
	return nil
}

func (s *storedNames) Withdraw(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fails(name); err != nil {
		return err
	}
	delete(s.values, name)
	return nil
}

func (s *storedNames) Survey(context.Context, string, time.Duration) (store.Survey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.next
	s.next = store.Intact
	return found, nil
}

func (*storedNames) Down() bool { return false }

func (s *storedNames) snapshot() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.values)
}

// TestWalkerCarried walks over databases that change on the way: it meets every name
// that they have all the time.
func TestWalkerCarried(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // to be repeated
		kept := [2]map[string]string{many(200), {"b1": "x", "b2": "x", "b3": "x"}}
		tables := [2]*database{newDatabase(t, nil), newDatabase(t, nil)}
		next := func() view {
			var v view
			for i, d := range tables {
				pairs := maps.Clone(kept[i])
				for range rnd.IntN(400) {
					pairs[fmt.Sprintf("other%d", rnd.IntN(10_000))] = "x"
				}
				d.set(t, pairs)
				v = append(v, d.Index())
			}
			return v
		}
		met, w, v := map[string]bool{}, walker{}, next()
		for {
			name, _, ok, more := w.next(v, 3)
			if !ok && !more {
				break
			}
			met[name] = true
			if rnd.IntN(20) == 0 {
				old := v
				v = next()
				w.carry(old, v)
			}
		}
		for _, pairs := range kept {
			for name := range pairs {
				if !met[name] {
					t.Fatalf("seed %d: %s missed", seed, name)
				}
			}
		}
	}
}

// TestPublisherLateWrite holds a write up while its name is removed: the name stays out.
func TestPublisherLateWrite(t *testing.T) {
	t.Parallel()
	names := newStoredNames()
	names.held, names.met = make(chan struct{}), make(chan struct{}, 1)
	opt := quick
	opt.Names, opt.Burst = names, 5000
	pairs := many(5000) // the round goes on meanwhile
	pairs["held"] = "x@example.org"
	d := newDatabase(t, pairs)
	p, _ := publish(t, opt, d)
	<-names.met
	delete(pairs, "held")
	d.set(t, pairs)
	time.Sleep(200 * time.Millisecond) // many glances at the table
	close(names.held)
	until(t, "only what is left is published", func() bool {
		return p.Status().State == "up to date" && maps.Equal(names.snapshot(), pairs)
	})
}

// TestPublisherModel changes databases at random while rounds are under way: in the end
// what is published is what they hold.
func TestPublisherModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // to be repeated
		names := newStoredNames()
		names.rate, names.uneven = 0.05, true
		opt := quick
		// Without renewals, which would put right what went wrong, or with many.
		opt.Names, opt.Life, opt.Glance = names, []time.Duration{time.Hour, time.Second}[seed%2], time.Millisecond
		opt.Rate, opt.Burst = 20_000, 20_000
		pairs := [2]map[string]string{many(rnd.IntN(2000)), many(rnd.IntN(100))}
		tables := [2]*database{newDatabase(t, pairs[0]), newDatabase(t, pairs[1])}
		p, kill := publish(t, opt, tables[0], tables[1])
		for range 30 {
			i := rnd.IntN(2)
			for range rnd.IntN(300) {
				name := fmt.Sprintf("name%06d", rnd.IntN(3000))
				if rnd.IntN(2) == 0 {
					delete(pairs[i], name)
				} else {
					pairs[i][name] = fmt.Sprintf("v%d@example.org", rnd.IntN(100))
				}
			}
			tables[i].set(t, pairs[i])
			time.Sleep(time.Duration(rnd.IntN(20)) * time.Millisecond)
		}
		want := maps.Clone(pairs[1])
		maps.Copy(want, pairs[0])
		until(t, "what is published is what the tables hold", func() bool { return maps.Equal(names.snapshot(), want) })
		if st := p.Status(); st.Failed != 0 {
			t.Errorf("%+v", st)
		}
		kill()
	}
}
