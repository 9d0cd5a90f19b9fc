// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate"
	"rcptgate/config/setting"
	"rcptgate/store/memcached"
)

// TestNext holds how long a client is listed after each piece of evidence.
func TestNext(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	network := netip.MustParsePrefix("198.51.100.1/32")
	l := &List{cfg: Config{For: setting.Duration(time.Hour), ForMax: setting.Duration(8 * time.Hour)}}
	was := func(life time.Duration, until time.Duration) *entry { // which ended, or ends, at now + until
		e := &entry{life: life}
		e.Network, e.First, e.Last, e.Until, e.Count = network, now.Add(-100*time.Hour), now.Add(until-life), now.Add(until), 7
		return e
	}
	removed := was(4*time.Hour, -time.Minute)
	removed.removed = removed.Until
	ahead := was(4*time.Hour, -time.Minute)
	ahead.removed = now
	for _, tt := range []struct {
		name      string
		old       *entry
		life      time.Duration
		want      time.Duration // it is listed for
		wantLife  time.Duration
		count     int
		sameFirst bool
	}{
		{"the first", nil, 0, time.Hour, time.Hour, 1, false},
		{"the first, for a minute", nil, time.Minute, time.Minute, time.Minute, 1, false},
		{"the first, for too long", nil, 100 * time.Hour, 8 * time.Hour, 8 * time.Hour, 1, false},
		{"while it is listed", was(time.Hour, time.Minute), 0, time.Hour, time.Hour, 8, true},
		{"while it is listed for longer", was(4*time.Hour, 3*time.Hour), 0, 4 * time.Hour, 4 * time.Hour, 8, true},
		{"while it is listed for long, for a minute", was(4*time.Hour, 3*time.Hour), time.Minute, 3 * time.Hour, time.Minute, 8, true},
		{"at its end", was(time.Hour, 0), 0, 2 * time.Hour, 2 * time.Hour, 1, false},
		{"soon after", was(2*time.Hour, -8*time.Hour+1), 0, 4 * time.Hour, 4 * time.Hour, 1, false},
		{"too late for a repeat", was(2*time.Hour, -8*time.Hour), 0, time.Hour, time.Hour, 1, false},
		{"after a minute by hand", was(time.Minute, -time.Minute), 0, time.Hour, time.Hour, 1, false},
		{"at most for_max", was(5*time.Hour, -time.Minute), 0, 8 * time.Hour, 8 * time.Hour, 1, false},
		{"after a removal", removed, 0, time.Hour, time.Hour, 1, false},
	} {
		e := l.next(tt.old, network, now, tt.life, "Win.X", "4Q1")
		if e.Until.Sub(now) != tt.want || e.life != tt.wantLife || e.Count != tt.count || tt.sameFirst != (e.First != now) || e.Last != now || !e.removed.IsZero() {
			t.Errorf("%s: listed for %v with a life of %v, %+v", tt.name, e.Until.Sub(now), e.life, e)
		}
	}
	if e := l.next(ahead, network, now, 0, "", ""); e.Last != now.Add(time.Millisecond) || merge(ahead, e) != e {
		t.Errorf("after a removal by a clock that is ahead: %+v", e)
	}
	l.cfg.ForMax = 0 // always for the same time
	if e := l.next(was(time.Hour, -1), network, now, 0, "", ""); e.Until.Sub(now) != time.Hour {
		t.Errorf("without for_max: listed for %v", e.Until.Sub(now))
	}
}

// TestWhatIsLogged holds the log lines, which other programs read, and the counters.
func TestWhatIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "[[blocklist]]\nname = \"virus\"\n[[blocklist]]\nname = \"dry\"\nenforce = false\n")
		l, dry := w.list("virus").(*List), w.list("dry").(*List)
		var log strings.Builder
		l.log = slog.New(slog.NewTextHandler(&log, nil))
		dry.log = l.log
		says := func(want string, not ...string) {
			t.Helper()
			if !strings.Contains(log.String(), want) || len(not) > 0 && strings.Contains(log.String(), not[0]) {
				t.Errorf("the log has not %q: %s", want, log.String())
			}
			log.Reset()
		}
		client := netip.MustParseAddr("198.51.100.1")
		if err := l.Add(client, strings.Repeat("x", evidenceMax+1), strings.Repeat("y", queueIDMax+1), 0); err != nil {
			t.Fatal(err)
		}
		says(`"blocklist=virus client=198.51.100.1 listed" evidence=`)
		if e, _ := l.Listed(client); len(e.Evidence) != evidenceMax || len(e.QueueID) != queueIDMax {
			t.Errorf("%+v", e)
		}
		_ = l.Add(client, "Win.X", "4Q1", 0)
		says("", "listed") // it goes on
		time.Sleep(time.Hour)
		_ = l.Add(client, "Win.X", "4Q1", 0)
		says("rehearsed=false")
		_ = dry.Add(client, "Win.X", "4Q1", 0)
		says("rehearsed=true")
		l.Remove(client)
		says(`"blocklist=virus client=198.51.100.1 removed" by=command`)
		if l.Remove(client) {
			t.Error("removed twice")
		}
		if l.listed.Load() != 2 || dry.listed.Load() != 1 {
			t.Errorf("%d and %d listings", l.listed.Load(), dry.listed.Load())
		}
		other := someEntry(2, time.Now())
		l.learn(other)
		says(`"blocklist=virus client=198.51.100.2 listed" evidence="" queue_id="" until=`)
		gone := *other
		gone.removed, gone.Until = time.Now(), time.Now()
		l.learn(&gone)
		says(`"blocklist=virus client=198.51.100.2 removed" by="another gateway"`)
		l.learn(&gone)
		says("", "removed")
		if l.listed.Load() != 3 {
			t.Errorf("%d listings", l.listed.Load())
		}
		for i := range 11 {
			virus := ""
			if i == 10 {
				virus = "Win.X"
			}
			w.message("198.51.100.3", virus)
		}
		says(`"blocklist=virus client=198.51.100.3 spared: most of its mail is clean" evidence=Win.X messages=11 infected=1`)
		if l.spared.Load() != 1 || w.listed("virus", "198.51.100.3") {
			t.Errorf("%d spared", l.spared.Load())
		}
	})
}

// TestWhatIsCounted holds which messages count for the share of those that are infected.
func TestWhatIsCounted(t *testing.T) {
	w := newWorld(t, "[[blocklist]]\nname = \"virus\"\n")
	l := w.list("virus").(*List)
	u := &live{}
	u.active.Store(&[]*List{l})
	client := netip.MustParseAddr("198.51.100.1")
	count := func() uint32 {
		c := l.traffic.Load().counts.Get(client)
		return c.now.messages + c.old.messages
	}
	message := rcptgate.NewMessage(0)
	for name, q := range map[string]*rcptgate.Query{
		"a recipient": {Stage: rcptgate.StageRcpt, Client: client, Message: message}, "no message": {Stage: rcptgate.StageMessage, Client: client},
		"authenticated": {Stage: rcptgate.StageMessage, Client: client, Message: message, AuthUser: "joe"}, "no client": {Stage: rcptgate.StageMessage, Message: message},
		"this machine's": {Stage: rcptgate.StageMessage, Client: client, Message: message, Session: &rcptgate.Session{Local: true}},
	} {
		if u.Observe(q, nil); count() != 0 {
			t.Errorf("%s counts", name)
		}
	}
	u.Observe(&rcptgate.Query{Stage: rcptgate.StageMessage, Client: client, Message: message, Session: new(rcptgate.Session)}, nil)
	if count() != 1 {
		t.Errorf("%d messages count", count())
	}
	for name, want := range map[string]string{"a.example": "a.example", "unknown": "", "[192.0.2.1]": "", "": "", "unknown.example": "unknown.example"} {
		if got := found(name); got != want {
			t.Errorf("%q: %q", name, got)
		}
	}
}

// TestTable holds the bounds of the table and the order in which entries make room.
func TestTable(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for limit, shards := range map[int]int{1: 1, 64: 1, 128: 2, 129: 2, 192: 4, 100_000: 2048} {
		if n := len(newTable(limit, 64).shards); n != shards {
			t.Errorf("%d entries: %d shards, want %d", limit, n, shards)
		}
	}
	tab := newTable(1000, 48)
	for client, want := range map[string]string{
		"198.51.100.7": "198.51.100.7/32", "::ffff:198.51.100.7": "198.51.100.7/32", "2001:db8:1:2::3%eth0": "2001:db8:1::/48",
	} {
		if p, ok := tab.network(netip.MustParseAddr(client)); !ok || p.String() != want {
			t.Errorf("%s: %v, %v", client, p, ok)
		}
	}
	if _, ok := tab.network(netip.Addr{}); ok || tab.get(netip.Addr{}) != nil {
		t.Error("no address has a network")
	}
	put := func(tab *table, e *entry, limit int) {
		tab.update(e.Network, limit, func(*entry) *entry { return e })
	}
	tab = newTable(1, 64) // one shard: the order is what it is
	for i, minutes := range []int{5, 1, 3} {
		e := someEntry(i, now)
		e.Until = now.Add(time.Duration(minutes) * time.Minute)
		put(tab, e, 3)
	}
	for i, gone := range []int{1, 2, 0} { // those that end first make room
		put(tab, someEntry(10+i, now), 3)
		if tab.get(netip.AddrFrom4([4]byte{198, 51, 100, byte(gone)})) != nil || tab.count.Load() != 3 || tab.evicted.Load() != uint64(i+1) {
			t.Errorf("%d is there; %d entries, %d evicted", gone, tab.count.Load(), tab.evicted.Load())
		}
	}
	put(tab, someEntry(10, now), 3) // it is there: nobody makes room
	tab.update(someEntry(11, now).Network, 3, func(*entry) *entry { return nil })
	tab.update(someEntry(99, now).Network, 3, func(*entry) *entry { return nil })
	if tab.count.Load() != 2 || tab.evicted.Load() != 3 {
		t.Errorf("%d entries, %d evicted", tab.count.Load(), tab.evicted.Load())
	}
	seen := 0
	tab.each(func(*entry) bool { seen++; return false })
	if seen != 1 {
		t.Errorf("each went on: %d", seen)
	}
}

// TestSweep drops what does not matter any more, when it does not, and has ends exported.
func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "[[blocklist]]\nname = \"virus\"\nfor_max = \"2h\"\n")
		l := w.list("virus").(*List)
		client, other := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")
		for _, a := range []netip.Addr{client, other} {
			if err := l.Add(a, "Win.X", "", 0); err != nil {
				t.Fatal(err)
			}
		}
		l.sweep()
		l.Remove(other)
		before := l.edition.Load()
		at := func(after time.Duration, known, removed bool, change uint64) {
			t.Helper()
			time.Sleep(time.Until(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(after)))
			l.sweep()
			if got := l.table.Load().get(client) != nil; got != known {
				t.Errorf("after %v: known %v", after, got)
			}
			if got := l.table.Load().get(other) != nil; got != removed {
				t.Errorf("after %v: the removal is known: %v", after, got)
			}
			if n := l.edition.Load() - before; n != change {
				t.Errorf("after %v: %d changes", after, n)
			}
		}
		at(time.Hour-time.Second, true, true, 0)
		at(time.Hour, true, true, 1) // it has ended
		at(time.Hour+time.Second, true, true, 1)
		at(2*time.Hour-time.Second, true, true, 1)
		at(2*time.Hour, true, true, 1) // the removal was a millisecond later than the evidence
		at(2*time.Hour+time.Millisecond, true, false, 1)
		at(3*time.Hour-time.Second, true, false, 1)
		at(3*time.Hour, false, false, 1)
	})
}

// TestChangesThatWait bounds the entries that wait for the journal: beyond that all are written.
func TestChangesThatWait(t *testing.T) {
	s := newState("virus", &Config{Entries: 100, IPv6Prefix: 64, For: setting.Duration(time.Hour)}, slog.New(slog.DiscardHandler), time.Now)
	for range changedMax {
		s.note(nil)
	}
	if len(s.changed) != changedMax || s.all {
		t.Errorf("%d wait, all: %v", len(s.changed), s.all)
	}
	s.note(nil)
	s.note(nil)
	if len(s.changed) != 0 || !s.all || s.edition.Load() != changedMax+2 {
		t.Errorf("%d wait, all: %v", len(s.changed), s.all)
	}
}

// TestNever holds what becomes of entries whose network is never listed any more, and which
// networks have such addresses in them.
func TestNever(t *testing.T) {
	w := newWorld(t, "[[blocklist]]\nname = \"virus\"\n")
	l := w.list("virus").(*List)
	for _, client := range []string{"198.51.100.6", "198.51.100.7", "198.51.100.8"} {
		w.add("virus", client)
	}
	count := func(more bool) (n int) {
		l.Each(func(rcptgate.Listing) bool { n++; return more })
		return n
	}
	l.dns.setMX(map[string][]netip.Addr{"example.com": addrs("198.51.100.6")})
	if all, one := count(true), count(false); all != 2 || one != 1 {
		t.Errorf("%d are listed; the first of %d", all, one)
	}
	if _, err := l.list(netip.MustParseAddr("198.51.100.6"), "", "", 0); err == nil || !strings.Contains(err.Error(), "an MX host of an own domain") {
		t.Error(err)
	}
	no := func(netip.Addr) bool { return false }
	only := func(want string) func(netip.Addr) bool {
		return func(a netip.Addr) bool { return a == netip.MustParseAddr(want) }
	}
	n := &never{trusted: only("203.0.113.5"), own: only("192.0.2.1"), backend: only("192.0.2.2"), isMX: no, extra: l.never.extra, known: func() []netip.Prefix {
		return []netip.Prefix{
			netip.MustParsePrefix("2001:db8:0:1::/64"), netip.MustParsePrefix("2001:db8:0:2::5/128"), netip.MustParsePrefix("2001:db8:1::/63"), netip.MustParsePrefix("198.51.100.1/32"),
		}
	}}
	for client, want := range map[string]string{
		"203.0.113.5": "in a trusted network", "::ffff:203.0.113.5": "in a trusted network", "192.0.2.1": "this machine", "192.0.2.2": "a server behind",
		"::1": "this machine", "10.0.0.1": "one of never", "198.51.100.1": "",
	} {
		if got := n.has(netip.MustParseAddr(client)); got != want {
			t.Errorf("%s: %q, want %q", client, got, want)
		}
	}
	within := n.within(64)
	if len(within) != 2 || !within[netip.MustParsePrefix("2001:db8:0:1::/64")] || !within[netip.MustParsePrefix("2001:db8:0:2::/64")] {
		t.Errorf("%v", within)
	}
}

// TestLearn holds what is taken over from other gateways.
func TestLearn(t *testing.T) {
	w := newWorld(t, "[[blocklist]]\nname = \"virus\"\nnever = [\"198.51.100.64/26\"]\n")
	l := w.list("virus").(*List)
	now := time.Now()
	ended := someEntry(1, now.Add(-2*time.Hour))
	wide := someEntry(2, now)
	wide.Network = netip.MustParsePrefix("198.51.100.0/24")
	narrow := someEntry(3, now)
	narrow.Network = netip.MustParsePrefix("2001:db8::1/128")
	gone := someEntry(66, now) // of one that is never listed
	gone.removed, gone.Until = now, now
	for name, tt := range map[string]struct {
		e      *entry
		known  bool
		listed bool
	}{
		"a listing": {someEntry(4, now), true, true}, "one that has ended": {ended, true, false}, "a wider network": {wide, false, false}, "a narrower one": {narrow, false, false},
		"one that is never listed": {someEntry(65, now), false, false}, "a removal of one": {gone, true, false},
	} {
		l.learn(tt.e)
		l.learn(tt.e) // it is the same listing
		client := tt.e.Network.Addr()
		if known := l.table.Load().get(client) != nil; known != tt.known || w.listed("virus", client.String()) != tt.listed {
			t.Errorf("%s: known %v, listed %v", name, known, w.listed("virus", client.String()))
		}
	}
	if n := l.listed.Load(); n != 1 {
		t.Errorf("%d listings begun", n)
	}
}

// TestDue holds how often the others are asked about a client.
func TestDue(t *testing.T) {
	x := newExchange(new(memcached.Client))
	now, client := time.Unix(1_800_000_000, 0), netip.MustParseAddr("198.51.100.1")
	for _, step := range []struct {
		client string
		after  time.Duration
		want   bool
	}{
		{"198.51.100.1", 0, true}, {"198.51.100.1", 0, false}, {"::ffff:198.51.100.1", lookEvery - 1, false}, {"198.51.100.2", 1, true}, {"198.51.100.1", lookEvery, true},
		{"198.51.100.1", 2*lookEvery - 1, false}, {"198.51.100.1", -time.Hour, true}, {"198.51.100.1", lookEvery - 1 - time.Hour, false},
		{"fe80::1%eth0", 0, true}, {"fe80::1%eth1", 0, false},
	} {
		if got := x.due(netip.MustParseAddr(step.client), now.Add(step.after)); got != step.want {
			t.Errorf("%s after %v: %v", step.client, step.after, got)
		}
	}
	for i := range 3 * askedMax / 2 {
		x.due(netip.AddrFrom4([4]byte{100, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	n := 0
	for _, shard := range x.asked {
		n += shard.Len()
	}
	if n > askedMax || n < askedMax/2 {
		t.Errorf("%d clients are remembered", n)
	}
	var none *exchange
	if none.publish(nil, nil); none.ask(t.Context(), nil, client, 0, now) != nil {
		t.Error("nothing is shared, and asked")
	}
	none.look(t.Context(), nil, client, now)
	none.round(t.Context(), nil)
}

// TestAWalkBeginsAnywhere walks a table from each of its shards: every entry comes once.
func TestAWalkBeginsAnywhere(t *testing.T) {
	tab := newTable(2000, 64)
	for i := range 1000 {
		network := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 32)
		tab.move(&entry{Listing: rcptgate.Listing{Network: network, Until: time.Unix(1, 0)}}, 2000)
	}
	firsts := map[netip.Prefix]bool{}
	for from := range tab.shards {
		seen := map[netip.Prefix]int{}
		tab.eachFrom(from, func(e *entry) bool {
			if len(seen) == 0 {
				firsts[e.Network] = true
			}
			seen[e.Network]++
			return true
		})
		if len(seen) != 1000 {
			t.Fatalf("from shard %d: %d entries", from, len(seen))
		}
	}
	if len(firsts) < len(tab.shards)/2 {
		t.Errorf("%d shards, but only %d first entries", len(tab.shards), len(firsts))
	}
}
