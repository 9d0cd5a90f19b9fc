// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/test/lab"
)

// told records what Start calls back.
type told struct {
	mu    sync.Mutex
	tombs []store.Tombstone
	lost  int
}

func start(s *Store, known ...store.Tombstone) *told {
	n := &told{}
	s.Start(known, func(t store.Tombstone) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if s.tombstones.newest.Load() >= t.When.UnixNano() {
			panic("what is stamped with it is believed before it was carried out")
		}
		n.tombs = append(n.tombs, t)
	}, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.lost++
	})
	return n
}

func (n *told) has(p store.Pattern) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.tombs, func(t store.Tombstone) bool { return t.Pattern == p })
}

func (n *told) losses() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lost
}

// often exchanges as often as a test has patience for.
var often = Options{Every: 50 * time.Millisecond}

func forget(t testing.TB, s *Store, p store.Pattern) store.Tombstone {
	t.Helper()
	tomb := store.Tombstone{Pattern: p, When: s.After(s.now())}
	if _, err := s.Forget(ctx, tomb); err != nil {
		t.Fatalf("forgetting %s: %v", p, err)
	}
	return tomb
}

var somebody = store.Pattern{Address: "somebody@example.org"}

// TestForgetReachesAll: the others are notified once, what was written before is void for
// them, and what is written after is not.
func TestForgetReachesAll(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 3, lab.MemcachedOptions{})
	cfg := config(t, servers...)
	cfg.KeyFile = keyFile(t, keyOne)
	one, two := gateway(t, cfg, often), gateway(t, cfg, often)
	start(one)
	second := start(two)
	late := gateway(t, cfg, often) // knows of nothing yet
	_ = late.Put(ctx, somebody.Address, numbered(0))
	written(t, late)
	forget(t, one, somebody)
	absent(t, one, "at once, on the one that forgot", somebody.Address)
	testkit.Eventually(t, "the other is told", func() bool { return second.has(somebody) })
	_ = late.Put(ctx, somebody.Address, numbered(0)) // by one that has not heard
	written(t, late)
	absent(t, two, "written by one that has not heard", somebody.Address)
	_ = two.Put(ctx, somebody.Address, numbered(0))
	written(t, two)
	if _, err := one.Get(ctx, somebody.Address); err != nil {
		t.Errorf("learnt again: %v", err)
	}
	third := start(late)
	if !third.has(somebody) {
		t.Error("a gateway that starts is not told before its first answer")
	}
	time.Sleep(5 * often.Every)
	if second.mu.Lock(); len(second.tombs) != 1 {
		t.Errorf("told %d times: %v", len(second.tombs), second.tombs)
	}
	second.mu.Unlock()
}

// TestForgetWithoutServers says so, and is published when a server is back, which then
// has what the others had.
func TestForgetWithoutServers(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 2, lab.MemcachedOptions{})
	one, two := gateway(t, config(t, servers...), often), gateway(t, config(t, servers...), often)
	start(one)
	second := start(two)
	for _, server := range servers {
		server.Kill()
	}
	tomb := store.Tombstone{Pattern: somebody, When: one.After(time.Now())}
	if _, err := one.Forget(ctx, tomb); !errors.Is(err, store.ErrUnpublished) {
		t.Errorf("nobody can be told: %v", err)
	}
	servers[1].Restart()
	testkit.Eventually(t, "the other is told", func() bool { return second.has(somebody) })
	testkit.Eventually(t, "the loss of the list is noticed", func() bool { return second.losses() > 0 })
	servers[0].Restart()
	testkit.Eventually(t, "both servers have the list", func() bool {
		for _, server := range servers {
			if l := one.readList(serverOf(one, server)); !l.good || l.set[somebody] == 0 {
				return false
			}
		}
		return true
	})
}

func serverOf(s *Store, m *lab.Memcached) *server {
	for _, server := range s.c.setup.Load().ring.servers {
		if server.name == m.Addr {
			return server
		}
	}
	return nil
}

// TestForgetWithOneServer is enough; the other gets it later.
func TestForgetWithOneServer(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 2, lab.MemcachedOptions{})
	s := gateway(t, config(t, servers...), often)
	start(s)
	servers[0].Kill()
	forget(t, s, somebody)
	servers[0].Restart()
	testkit.Eventually(t, "the other server has it too", func() bool {
		return s.readList(serverOf(s, servers[0])).set[somebody] != 0
	})
}

// TestLostList: all servers at once have lost it. Every gateway is notified, once; what is known
// is published again, from the memory of gateways that run and the disk of one that starts.
func TestLostList(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 2, lab.MemcachedOptions{})
	one := gateway(t, config(t, servers...), often)
	first := start(one)
	if first.losses() != 1 {
		t.Errorf("there was no list, and lost was called %d times", first.losses())
	}
	tomb := forget(t, one, somebody)
	servers[0].Flush()
	time.Sleep(5 * often.Every)
	if first.losses() != 1 {
		t.Error("one of two servers was emptied, and the list was taken for lost")
	}
	testkit.Eventually(t, "the loss is noticed", func() bool {
		for _, server := range servers { // a round in between puts it back on the first one
			server.Flush()
		}
		time.Sleep(3 * often.Every)
		return first.losses() >= 2
	})
	testkit.Eventually(t, "it is there again", func() bool { return one.readList(serverOf(one, servers[0])).set[somebody] != 0 })
	_ = one.Close()
	for _, server := range servers {
		server.Flush()
	}
	two := gateway(t, config(t, servers...), often)
	second := start(two, tomb)
	if second.losses() != 1 || second.has(somebody) {
		t.Errorf("a gateway that starts: lost %d times, told %v", second.losses(), second.tombs)
	}
	absent(t, two, "what was forgotten before the restart", somebody.Address)
	if two.readList(serverOf(two, servers[1])).set[somebody] == 0 {
		t.Error("what its disk knew was not published")
	}
}

// TestBadLists: what cannot be believed is replaced.
func TestBadLists(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	cfg := config(t, server)
	cfg.KeyFile = keyFile(t, keyOne)
	s := gateway(t, cfg, often)
	notes := start(s)
	forget(t, s, somebody)
	future := sealer{[][]byte{[]byte(keyOne)}}
	for name, text := range map[string]string{
		"nonsense":     "hello",
		"empty":        "",
		"not sealed":   "rgf1\nforget\t1790000000000000000\tall\n",
		"other mac":    "rgf1\nforget\t1790000000000000000\tall\nmac\t00112233445566778899aabbccddeeff\n",
		"long":         strings.Repeat("x", 1_000_000),
		"other list":   string(future.seal("rg:other", encodeList(store.Tombstones{{}: time.Now().UnixNano()}, nil, 1))),
		"from 2255":    string(future.seal("rg:forgotten", encodeList(store.Tombstones{{}: 9e18}, nil, 1))),
		"sealed noise": string(future.seal("rg:forgotten", []byte("hello"))),
	} {
		raw(t, server, "rg:forgotten", []byte(text))
		testkit.Eventually(t, name+" is replaced", func() bool {
			l := s.readList(serverOf(s, server))
			return l.good && l.set[somebody] != 0
		})
	}
	if notes.has(store.Pattern{}) {
		t.Error("a forged tombstone was carried out")
	}
	if newest := s.tombstones.newest.Load(); newest > time.Now().UnixNano() {
		t.Errorf("a forged tombstone moved the clock to %d", newest)
	}
}

// TestLostListIsLogged: the loss costs all refusals, and the log says why, once a minute.
func TestLostListIsLogged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why  string
		lose func(t *testing.T, server *lab.Memcached)
	}{
		{"they were restarted", func(_ *testing.T, server *lab.Memcached) { server.Flush() }},
		{"do all gateways have the same key file", func(t *testing.T, server *lab.Memcached) {
			raw(t, server, "rg:forgotten", []byte("rgf1\nepoch\t1790000000000000000\n"))
		}},
	} {
		server := lab.StartMemcached(t, lab.MemcachedOptions{})
		cfg := config(t, server)
		cfg.KeyFile = keyFile(t, keyOne)
		s, log := logging(t, cfg, often)
		notes := start(s)
		forget(t, s, somebody)
		if log.count("memcached has lost the list") != 0 {
			t.Error("a gateway that starts with an empty memcached has lost nothing")
		}
		for _, times := range []int{2, 3} { // the first call is that of the start
			c.lose(t, server)
			testkit.Eventually(t, "the loss is noticed", func() bool { return notes.losses() >= times })
		}
		testkit.Eventually(t, c.why, func() bool { return log.count(c.why) == 1 })
		if n := log.count("memcached has lost the list"); n != 1 {
			t.Errorf("%d lines", n)
		}
	}
}

// TestManyTombstones: the oldest are forgotten coarsely, and the list stays bounded.
func TestManyTombstones(t *testing.T) {
	t.Parallel()
	s := store.Tombstones{}
	more := store.Tombstones{}
	const n = store.MaxTombstones + 500
	for i := range n {
		more[store.Pattern{Address: fmt.Sprintf("user%d@d%d.example", i, i%50)}] = int64(1000 + i)
	}
	s.Merge(more, 0)
	if len(s) > store.MaxTombstones || len(s) < n/2 || s.Lacks(more) {
		t.Errorf("%d tombstones of %d are left, lacks %v", len(s), n, s.Lacks(more))
	}
	if s[store.Pattern{}] != 0 {
		t.Error("everything is forgotten where domains would do")
	}
	domains := store.Tombstones{}
	for i := range n {
		domains[store.Pattern{Domain: fmt.Sprintf("%d.example", i)}] = int64(1_000_000 + i)
		more[store.Pattern{Domain: fmt.Sprintf("%d.example", i)}] = int64(1_000_000 + i)
	}
	s.Merge(domains, 0)
	if len(s) > store.MaxTombstones || s.Lacks(more) {
		t.Errorf("%d tombstones, lacks %v", len(s), s.Lacks(more))
	}
	long := store.Tombstones{}
	for i := range 2000 {
		long[store.Pattern{Address: fmt.Sprintf("%d%s@example.org", i, strings.Repeat("x", 900))}] = int64(i + 1)
	}
	s = store.Tombstones{}
	s.Merge(long, 0)
	if n := len(encodeList(s, nil, 1)); n > maxBulk-macLine || s.Lacks(long) {
		t.Errorf("the list has %d octets", n)
	}
	s.Merge(nil, 1<<40)
	if len(s) != 0 {
		t.Error("old tombstones are kept")
	}
}

// TestMergedSetsForgetAsMuch: whatever is merged in whatever order, what one of the sets
// forgets the union does, and merging is the same from both sides.
func TestMergedSetsForgetAsMuch(t *testing.T) {
	t.Parallel()
	pattern := rapid.Custom(func(t *rapid.T) store.Pattern {
		domain := rapid.SampledFrom([]string{"a.example", "b.example"}).Draw(t, "domain")
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			return store.Pattern{}
		case 1:
			return store.Pattern{Domain: domain}
		}
		return store.Pattern{Address: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "local") + "@" + domain}
	})
	sets := rapid.MapOfN(pattern, rapid.Int64Range(1, 20), 0, 6)
	rapid.Check(t, func(t *rapid.T) {
		a, b := store.Tombstones(sets.Draw(t, "a")), store.Tombstones(sets.Draw(t, "b"))
		ab, ba := store.Tombstones{}, store.Tombstones{}
		ab.Merge(a, 0)
		ab.Merge(b, 0)
		ba.Merge(b, 0)
		ba.Merge(a, 0)
		g, separate := newTombstones(), []*tombstones{newTombstones(), newTombstones()}
		g.merge(ab, nil, 0)
		separate[0].merge(a, nil, 0)
		separate[1].merge(b, nil, 0)
		for _, key := range []string{"x@a.example", "y@a.example", "x@b.example", "z@c.example", "@a.example smtp:[10.0.0.5]:25"} {
			for generation := range int64(21) {
				want := separate[0].void(key, generation) || separate[1].void(key, generation)
				if got := g.void(key, generation); got != want {
					t.Fatalf("%s written at %d: void %v, want %v", key, generation, got, want)
				}
			}
		}
		if ab.Lacks(ba) || ba.Lacks(ab) || len(ab) != len(ba) {
			t.Fatalf("%v is not %v", ab, ba)
		}
	})
}

// TestForgetWithAWrongClock: what a gateway forgets while its clock is a year ahead, and
// what it forgets after that, reaches the others.
func TestForgetWithAWrongClock(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	var off atomic.Int64
	first := gateway(t, config(t, server), Options{Every: often.Every, Clock: func() time.Time { return time.Now().Add(time.Duration(off.Load())) }})
	first.settled = func() bool { return off.Load() == 0 }
	second := gateway(t, config(t, server), often)
	start(first)
	heard := start(second)
	const year = 365 * 24 * time.Hour
	off.Store(int64(year))
	early, late := store.Pattern{Address: "early@example.org"}, store.Pattern{Address: "late@example.org"}
	forget(t, first, early)
	off.Store(0)
	forget(t, first, late)
	testkit.Eventually(t, "the other hears of both", func() bool { return heard.has(early) && heard.has(late) })
	if newest := first.tombstones.newest.Load(); newest > time.Now().Add(future).UnixNano() {
		t.Errorf("the newest tombstone lies at %v", time.Unix(0, newest))
	}
}
