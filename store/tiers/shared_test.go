// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/store/disk"
	"rcptgate/store/memcached"
	"rcptgate/store/ram"
	"rcptgate/store/storetest"
	"rcptgate/test/lab"
)

// TestTimingKeepsThePromise: a change made on one gateway is seen by the others within
// 60 s, and an answer waits for the shared place for at most 50 ms.
func TestTimingKeepsThePromise(t *testing.T) {
	t.Parallel()
	timing := DefaultTiming()
	if timing.Stale > time.Minute || timing.Fresh >= timing.Stale || timing.Budget > 40*time.Millisecond {
		t.Errorf("%+v", timing)
	}
	if learning := timing.Budget / learnShare; timing.Budget+learning > 50*time.Millisecond {
		t.Errorf("an answer waits %v and learns for %v", timing.Budget, learning)
	}
}

// sharer is one gateway's tiers over a hub, with a clock to turn.
type sharer struct {
	*Tiers
	hub   *storetest.Hub
	way   *storetest.Gateway
	clock *atomic.Int64
	told  []store.Pattern // by OnForget
	again int             // calls of a second subscriber
}

type sharers struct {
	t     *testing.T
	clock atomic.Int64
	hub   *storetest.Hub
}

func newSharers(t *testing.T) *sharers {
	s := &sharers{t: t}
	s.clock.Store(time.Now().UnixNano())
	s.hub = storetest.NewHub(s.now)
	first := s.hub.Gateway() // so that there is a list of what was forgotten
	first.Start(nil, func(store.Tombstone) {}, func() {})
	s.turn(2 * time.Second)
	return s
}

func (s *sharers) now() time.Time        { return time.Unix(0, s.clock.Load()) }
func (s *sharers) turn(by time.Duration) { s.clock.Add(int64(by)) }
func (s *sharers) valid() store.Record   { return storetest.Valid(s.now()) }
func (s *sharers) disk(dir string) *disk.Store {
	d, err := disk.Open(disk.Options{Dir: dir, Entries: 1000, Now: s.now})
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// open makes a gateway with the places given between RAM and the end, the hub included
// by itself.
func (s *sharers) open(places ...store.Store) *sharer {
	g := &sharer{hub: s.hub, way: s.hub.Gateway(), clock: &s.clock}
	g.Tiers = New(ram.New(ram.Options{Entries: 1000, Now: s.now}), append([]store.Store{g.way}, places...)...)
	patientAndQuick(g.Tiers)
	var mu sync.Mutex
	g.OnForget(func(p store.Pattern) {
		mu.Lock()
		defer mu.Unlock()
		g.told = append(g.told, p)
	})
	g.OnForget(func(store.Pattern) {
		mu.Lock()
		defer mu.Unlock()
		g.again++
	})
	g.Join(patientTiming())
	s.t.Cleanup(func() { _ = g.Close() })
	return g
}

// patientTiming is the default with a budget that no busy machine uses up.
func patientTiming() Timing {
	timing := DefaultTiming()
	timing.Budget = time.Minute
	return timing
}

// patientAndQuick makes tiers whose tests are about what is known, not about how soon.
func patientAndQuick(t *Tiers) {
	t.shared.looks.pause = 0
	for _, p := range t.local.places {
		p.patience = time.Minute
	}
}

// settled waits for what goes on in the background.
func (g *sharer) settled(t *testing.T) {
	t.Helper()
	m := &sharedModel{gateways: [2]*sharedGateway{{tiers: g.Tiers}, nil}}
	done := make(chan struct{})
	go func() { m.settle(); close(done) }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("the background work does not end")
	}
}

func (g *sharer) know(key string, rec store.Record) {
	g.Learn(key, time.Unix(0, g.clock.Load()), func(store.Record) store.Record { return rec })
}

func (g *sharer) recall(key string) (class store.Class, source string) {
	rec, source, ok := g.Recall(context.Background(), key)
	if !ok {
		return store.None, ""
	}
	return rec.Standing.Class, source
}

func (g *sharer) expect(t *testing.T, key string, class store.Class, source string) {
	t.Helper()
	if c, from := g.recall(key); c != class || from != source {
		t.Errorf("%s: %v from %q, want %v from %q", key, c, from, class, source)
	}
}

const someone = "a@b.example"

// TestCopies: a copy is served for 30 s without a question, then looked up in the background, and
// after 60 s the shared place is asked first.
func TestCopies(t *testing.T) {
	t.Parallel()
	s := newSharers(t)
	a, b := s.open(), s.open()
	a.know(someone, s.valid())
	b.expect(t, someone, store.Valid, "memcached")
	gets, _ := s.hub.Counts()
	s.turn(29 * time.Second)
	b.expect(t, someone, store.Valid, "ram")
	b.settled(t)
	if now, _ := s.hub.Counts(); now != gets {
		t.Errorf("a copy of 29 s made %d questions", now-gets)
	}
	a.know(someone, storetest.Unknown(someone, s.now()))
	s.turn(2 * time.Second)
	b.expect(t, someone, store.Valid, "ram") // at once, and looked up in the background
	b.settled(t)
	b.expect(t, someone, store.Unknown, "ram")

	a.know(someone, s.valid())
	s.turn(61 * time.Second)
	b.expect(t, someone, store.Valid, "memcached")
	if _, ok := b.Fresh(someone); !ok {
		t.Error("what was just seen is not fresh")
	}
}

// TestSharedPlaceFillsUp: a copy that the shared place has lost is put there again, from
// RAM and from the disk.
func TestSharedPlaceFillsUp(t *testing.T) {
	t.Parallel()
	s := newSharers(t)
	dir := testkit.Dir(t)
	a := s.open(s.disk(dir))
	for i := range 3 * lookBatch {
		a.know(fmt.Sprintf("u%d@b.example", i), s.valid())
	}
	_ = a.Close()
	s.hub.Lose()
	a = s.open(s.disk(dir))
	b := s.open()
	for i := range 3 * lookBatch {
		key := fmt.Sprintf("u%d@b.example", i)
		a.expect(t, key, store.Valid, "disk")
		b.expect(t, key, store.Valid, "memcached")
	}
	s.hub.Lose()
	s.turn(31 * time.Second)
	for i := range 3 * lookBatch {
		a.expect(t, fmt.Sprintf("u%d@b.example", i), store.Valid, "ram")
	}
	a.settled(t)
	b = s.open()
	for i := range 3 * lookBatch {
		b.expect(t, fmt.Sprintf("u%d@b.example", i), store.Valid, "memcached")
	}
}

// TestNewerOnDisk: what was learnt while the shared place was dead is not lost to an
// older record there.
func TestNewerOnDisk(t *testing.T) {
	t.Parallel()
	s := newSharers(t)
	dir := testkit.Dir(t)
	a := s.open(s.disk(dir))
	a.know(someone, storetest.Unknown(someone, s.now()))
	s.hub.SetDown(true)
	s.turn(time.Minute)
	a.know(someone, s.valid())
	_ = a.Close()
	s.hub.SetDown(false)
	a = s.open(s.disk(dir))
	a.expect(t, someone, store.Valid, "disk")
	s.open().expect(t, someone, store.Valid, "memcached")
}

// TestReplacedDoesNotComeBack: a demoted mailbox is not brought back by a gateway whose
// copy that was not asked for while the refusal lived.
func TestReplacedDoesNotComeBack(t *testing.T) {
	t.Parallel()
	s := newSharers(t)
	dir := testkit.Dir(t)
	a, b := s.open(), s.open(s.disk(dir))
	a.know(someone, s.valid())
	b.expect(t, someone, store.Valid, "memcached")
	s.turn(time.Hour)
	refusal := storetest.Unknown(someone, s.now())
	a.know(someone, refusal)
	s.turn(2 * time.Hour) // the refusal has ended
	b.expect(t, someone, store.None, "")
	_ = b.Close()
	b = s.open(s.disk(dir))
	b.expect(t, someone, store.None, "")
	a.know(someone, s.valid()) // it has been made again
	s.hub.Drop(someone)
	b.expect(t, someone, store.None, "")
	s.turn(time.Minute)
	a.expect(t, someone, store.Valid, "ram")
	b.expect(t, someone, store.Valid, "memcached")
}

// TestRecipientsAreNoMarks: no recipient, however it is spelt, has the key of a mark or a
// finding about another one.
func TestRecipientsAreNoMarks(t *testing.T) {
	t.Parallel()
	s := newSharers(t)
	a := s.open()
	a.know(someone, s.valid())
	s.turn(time.Minute)
	odd := "@" + store.Domain(someone) + " replaced " + someone
	a.know(odd, storetest.Unknown(odd, s.now()))
	s.hub.Drop(someone)
	s.turn(2 * time.Minute)
	a.expect(t, someone, store.Valid, "ram")
	for _, key := range []string{odd, "", "postmaster"} {
		if key == store.ReplacedKey(someone) || key == store.FindingKey("replaced "+someone, "example.com") || !store.IsRecipient(key) {
			t.Errorf("%q is the key of a mark", key)
		}
	}
}

// TestMerge holds the rules for two views of one recipient.
func TestMerge(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_800_000_000, 0)
	at := func(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }
	standing := func(class store.Class, minutes int) store.Record {
		return store.Record{Standing: store.Answer{Class: class, Learnt: at(minutes)}}
	}
	with := func(rec store.Record, change func(*store.Record)) store.Record { change(&rec); return rec }
	full := func(minutes int) func(*store.Record) {
		return func(r *store.Record) { r.Transient = store.Answer{Class: store.Full, Learnt: at(minutes)} }
	}
	doubt := func(count, minutes int) func(*store.Record) {
		return func(r *store.Record) { r.Doubt = store.Doubt{Count: count, First: at(1), Last: at(minutes)} }
	}
	tried := func(minutes int) func(*store.Record) { return func(r *store.Record) { r.Tried = at(minutes) } }
	valid := standing(store.Valid, 10)
	for name, c := range map[string]struct{ here, there, want store.Record }{
		"nothing here":              {store.Record{}, valid, valid},
		"nothing there":             {valid, store.Record{}, valid},
		"refreshed there":           {valid, standing(store.Valid, 20), standing(store.Valid, 20)},
		"refreshed here":            {standing(store.Valid, 20), valid, standing(store.Valid, 20)},
		"demoted there":             {with(valid, doubt(2, 15)), standing(store.Unknown, 20), standing(store.Unknown, 20)},
		"same second, other class":  {valid, standing(store.Unknown, 10), standing(store.Unknown, 10)},
		"full there":                {valid, with(valid, full(20)), with(valid, full(20))},
		"full here":                 {with(valid, full(20)), valid, with(valid, full(20))},
		"full no longer":            {with(valid, full(20)), standing(store.Valid, 30), standing(store.Valid, 30)},
		"full here, refreshed":      {with(valid, full(30)), standing(store.Valid, 20), with(standing(store.Valid, 20), full(30))},
		"doubted there":             {with(valid, doubt(1, 20)), with(valid, doubt(2, 40)), with(valid, doubt(2, 40))},
		"doubted here":              {with(valid, doubt(2, 40)), with(valid, doubt(1, 20)), with(valid, doubt(2, 40))},
		"doubt ended by a refresh":  {with(valid, doubt(2, 40)), standing(store.Valid, 50), standing(store.Valid, 50)},
		"doubt ended by full":       {with(valid, doubt(2, 40)), with(valid, full(50)), with(valid, full(50))},
		"doubt after both":          {standing(store.Valid, 20), with(standing(store.Valid, 20), doubt(1, 40)), with(standing(store.Valid, 20), doubt(1, 40))},
		"tried there":               {with(valid, tried(20)), with(valid, tried(30)), with(valid, tried(30))},
		"tried here, doubted there": {with(valid, tried(50)), with(valid, doubt(1, 40)), with(with(valid, doubt(1, 40)), tried(50))},
	} {
		if got := merge(c.here, c.there); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
		if back := merge(c.there, merge(c.here, c.there)); back != c.want {
			t.Errorf("%s: merging again gives %+v", name, back)
		}
	}
}

// TestDownCostsNothing: without a living server nothing is asked, and what is learnt
// goes there once one is back.
func TestDownCostsNothing(t *testing.T) {
	t.Parallel()
	s := newSharers(t)
	a, b := s.open(), s.open()
	a.know(someone, s.valid())
	s.hub.SetDown(true)
	gets, puts := s.hub.Counts()
	s.turn(time.Hour)
	a.expect(t, someone, store.Valid, "ram")
	a.know("other@b.example", s.valid())
	a.expect(t, "other@b.example", store.Valid, "ram")
	if g, p := s.hub.Counts(); g != gets || p != puts {
		t.Errorf("%d records were read and %d written", g-gets, p-puts)
	}
	s.hub.SetDown(false)
	a.expect(t, "other@b.example", store.Valid, "ram") // asked for first, and put there
	b.expect(t, "other@b.example", store.Valid, "memcached")
}

// TestLearnBuildsOnAll counts in one record from three gateways.
func TestLearnBuildsOnAll(t *testing.T) {
	t.Parallel()
	s := newSharers(t)
	list := []*sharer{s.open(), s.open(), s.open()}
	list[0].know(someone, s.valid())
	for i := range 30 {
		s.turn(time.Minute)
		list[i%3].Learn(someone, s.now(), func(old store.Record) store.Record {
			old.Doubt.Count++
			old.Doubt.Last = s.now()
			return old
		})
	}
	s.turn(61 * time.Second)
	for _, g := range list {
		if rec, _, _ := g.Recall(context.Background(), someone); rec.Doubt.Count != 30 {
			t.Errorf("30 changes left a count of %d", rec.Doubt.Count)
		}
	}
}

// TestSharedConcurrent has everything at once happen to two gateways over real servers,
// for the race detector.
func TestSharedConcurrent(t *testing.T) {
	// Not in parallel: a child that is about to start holds the locks of all.
	servers := lab.StartMemcacheds(t, 2, lab.MemcachedOptions{})
	cfg := memcached.DefaultConfig()
	for _, m := range servers {
		server, err := memcached.ParseServer(m.Socket())
		if err != nil {
			t.Fatal(err)
		}
		cfg.Servers = append(cfg.Servers, server)
	}
	var list []*Tiers
	for range 2 {
		client, err := memcached.NewClient(cfg, slog.New(slog.DiscardHandler), memcached.ClientOptions{Timeout: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		d, err := disk.Open(disk.Options{Dir: testkit.Dir(t), Entries: 1000})
		if err != nil {
			t.Fatal(err)
		}
		g := New(newRAM(), memcached.New(client, memcached.Options{Every: 20 * time.Millisecond}), d)
		g.Join(Timing{Fresh: 5 * time.Millisecond, Stale: 20 * time.Millisecond, Budget: 10 * time.Second})
		t.Cleanup(func() { _ = g.Close(); _ = client.Close() })
		list = append(list, g)
	}
	ctx := t.Context()
	var all sync.WaitGroup
	for i, g := range list {
		for w := range 4 {
			all.Go(func() {
				for k := range 200 {
					key := fmt.Sprintf("u%d@d%d.example", k%20, k%3)
					switch (k + w) % 8 {
					case 0:
						learnValid(g, key, time.Now())
					case 1:
						if k%40 == i {
							_, _ = g.Forget(ctx, store.Pattern{Domain: store.Domain(key)})
						}
					case 2:
						g.Look(ctx, key)
					case 3:
						if release, err := g.Lease(ctx, key, "somewhere"); err == nil {
							release()
						}
					case 4:
						_, _, _ = g.Await(ctx, key, "somewhere")
					default:
						g.Recall(ctx, key)
					}
				}
			})
		}
	}
	all.Wait()
}
