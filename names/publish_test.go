// SPDX-License-Identifier: BSD-2-Clause

package names

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"rcptgate/kit/testkit"
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
	return namesWithin(t, time.Minute, servers...) // a busy machine loses no server
}

// namesWithin gives servers a time for an answer.
func namesWithin(t testing.TB, timeout time.Duration, servers ...*lab.Memcached) *memcached.Names {
	t.Helper()
	cfg := memcached.DefaultConfig()
	for _, s := range servers {
		addr, err := memcached.ParseServer(s.Socket())
		if err != nil {
			t.Fatal(err)
		}
		cfg.Servers = append(cfg.Servers, addr)
	}
	c, err := memcached.NewClient(cfg, slog.New(slog.DiscardHandler), memcached.ClientOptions{Timeout: timeout})
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

// TestPublish publishes two databases and what changes in them in real memcacheds.
func TestPublish(t *testing.T) {
	t.Parallel()
	testPublish(t, realNames(t, lab.StartMemcacheds(t, 2, lab.MemcachedOptions{})...), func(uint64, uint64, PublishStatus) {})
}

// TestPublishCounts writes nothing but what differs.
func TestPublishCounts(t *testing.T) {
	t.Parallel()
	testPublish(t, newStoredNames(), func(written, removed uint64, st PublishStatus) {
		t.Helper()
		if st.Written != written || st.Removed != removed || st.Failed != 0 || st.Losses != 0 {
			t.Errorf("%+v, want %d written, %d removed", st, written, removed)
		}
	})
}

func testPublish(t *testing.T, names store.Names, count func(written, removed uint64, st PublishStatus)) {
	t.Helper()
	first, second := newDatabase(t, many(500)), newDatabase(t, map[string]string{"name000001": "shadowed", "second": "x@example.org", "list": ":include:/etc/list"})
	opt := quick
	opt.Names = names
	p, _ := publish(t, opt, first, second)
	want := many(500)
	want["second"], want["list"] = "x@example.org", ""
	untilPublished(t, names, want)
	testkit.Eventually(t, "the first round", func() bool { st := p.Status(); return !st.Round.IsZero() && st.Of == 503 && st.Published == 503 })
	count(502, 0, p.Status())

	pairs := many(500)
	delete(pairs, "name000001") // now the second database's counts
	delete(pairs, "name000007")
	pairs["name000008"], pairs["new"] = "changed@example.org", "|/bin/program"
	first.set(t, pairs)
	want["name000001"], want["name000008"], want["new"] = "shadowed", "changed@example.org", ""
	delete(want, "name000007")
	untilPublished(t, names, want, "name000007")
	testkit.Eventually(t, "rest", func() bool { st := p.Status(); return st.State == "up to date" && st.Of == 502 })
	count(505, 1, p.Status())

	second.set(t, nil) // all of it
	delete(want, "second")
	delete(want, "list")
	delete(want, "name000001")
	untilPublished(t, names, want, "second", "list", "name000001", "name000007")

	p.Publish([]Content{second, first}) // others or in another order: what differs
	testkit.Eventually(t, "rest", func() bool { st := p.Status(); return st.State == "up to date" && st.Of == 499 })
	count(505, 4, p.Status())
	p.Publish(nil)
	testkit.Eventually(t, "nothing to publish", func() bool { return p.Status().State == "nothing to publish" })
	untilPublished(t, names, want)
}

// TestPublisherKilled renews names as long as it lives; then they end by themselves.
func TestPublisherKilled(t *testing.T) {
	t.Parallel()
	names := realNames(t, lab.StartMemcached(t, lab.MemcachedOptions{}))
	const n = 2 * workers // so few that a slow server does not hold a round up for a life
	opt := quick
	opt.Names, opt.Life = names, 3*time.Second
	p, kill := publish(t, opt, newDatabase(t, many(n)))
	untilPublished(t, names, many(n))
	testkit.Eventually(t, "renewals", func() bool { return p.Status().Written >= n*5 }) // 4 thirds of a life later
	untilPublished(t, names, many(n))
	kill()
	untilPublished(t, names, map[string]string{}, slices.Collect(maps.Keys(many(n)))...)
}

// TestPublisherAndMemcached restarts a server: what was lost comes back.
func TestPublisherAndMemcached(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 2, lab.MemcachedOptions{})
	names := realNames(t, servers...)
	opt := quick
	opt.Names = names
	p, _ := publish(t, opt, newDatabase(t, many(300)))
	untilPublished(t, names, many(300))
	testkit.Eventually(t, "the first round", func() bool { return !p.Status().Round.IsZero() })
	servers[0].Restart()
	untilPublished(t, names, many(300))
	if st := p.Status(); st.Losses == 0 {
		t.Errorf("%+v", st)
	}
}

// TestPublisherWaits has a server hang while names change: all of it is made up for.
func TestPublisherWaits(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	names := namesWithin(t, time.Second, server) // twice that until it is dead
	opt := quick
	opt.Names = names
	d := newDatabase(t, many(300))
	p, _ := publish(t, opt, d)
	untilPublished(t, names, many(300))
	testkit.Eventually(t, "the first round", func() bool { return !p.Status().Round.IsZero() })
	server.Stop()
	testkit.Eventually(t, "down", func() bool { return p.Status().State == "waiting: memcached is down" })
	pairs := many(270)
	pairs["new"] = "x@example.org"
	d.set(t, pairs)
	server.Cont()
	untilPublished(t, names, pairs)
	testkit.Eventually(t, "rest", func() bool { st := p.Status(); return st.State == "up to date" && st.Of == len(pairs) })
	if st := p.Status(); st.Failed > 0 { // three times no answer within a second
		t.Logf("the machine is too slow to take names out: %+v", st)
		return
	}
	untilPublished(t, names, pairs, slices.Collect(maps.Keys(many(300)))...)
}

// TestPublisherRate holds the rates: they are lower bounds of time.
func TestPublisherRate(t *testing.T) {
	t.Parallel()
	names := newStoredNames()
	opt := quick
	opt.Names, opt.Burst, opt.Rate = names, 400, 100
	began := time.Now()
	p, _ := publish(t, opt, newDatabase(t, many(600)))
	testkit.Eventually(t, "the first round", func() bool { return !p.Status().Round.IsZero() })
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
	const n = 4 * workers
	p, _ := publish(t, opt, newDatabase(t, many(n)))
	testkit.Eventually(t, "the first round", func() bool { return !p.Status().Round.IsZero() })
	if least, took := n/workers*9*names.delay, time.Since(began); took < least {
		t.Errorf("%d names took %v, want at least %v", n, took, least)
	}
}
