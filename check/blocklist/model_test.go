// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"rcptgate/kit/testkit"
)

func TestMain(m *testing.M) {
	testkit.Checks(30)
	os.Exit(m.Run())
}

// event is a message of a client in the model.
type event struct {
	at       time.Time
	infected bool
}

// naive is one client as the documentation has it, from everything that ever happened.
type naive struct {
	events []event
	until  time.Time     // of the last listing
	life   time.Duration // of the last listing
	ever   bool
}

// message takes note of a message. Listed is when it ends, by the rules: evidence prolongs,
// a repeat doubles.
func (n *naive) message(at time.Time, infected bool, cfg *Config) {
	n.events = append(n.events, event{at, infected})
	if !infected {
		return
	}
	half := int64(cfg.For.Std() / 2)
	var messages, bad int
	for _, e := range n.events {
		if e.at.UnixNano()/half >= at.UnixNano()/half-1 {
			messages++
			if e.infected {
				bad++
			}
		}
	}
	if bad < cfg.After || messages > few && float64(bad)/float64(messages) < cfg.Share {
		return
	}
	n.list(at, cfg)
}

func (n *naive) list(at time.Time, cfg *Config) {
	switch {
	case n.ever && at.Before(n.until): // goes on
	case n.ever && at.Before(n.until.Add(cfg.ForMax.Std())):
		n.life = min(2*n.life, max(cfg.For, cfg.ForMax).Std())
	default:
		n.life = cfg.For.Std()
	}
	n.ever = true
	if until := at.Add(n.life); until.After(n.until) {
		n.until = until
	}
}

// TestModel holds lists against a naive model of expiry, doubling, share and removal.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			max := rapid.SampledFrom([]string{"0", "90m", "8h"}).Draw(rt, "for_max")
			w := newWorld(t, fmt.Sprintf("[[blocklist]]\nname = \"virus\"\nfor_max = %q\nafter = %d\nshare = %v\n",
				max, rapid.IntRange(1, 3).Draw(rt, "after"), rapid.SampledFrom([]float64{0, 0.2, 0.5, 1}).Draw(rt, "share")))
			list := w.list("virus").(*List)
			clients := []string{"198.51.100.1", "198.51.100.2", "2001:db8::1"}
			model := map[string]*naive{}
			for _, c := range clients {
				model[c] = new(naive)
			}
			for range rapid.IntRange(1, 60).Draw(rt, "steps") {
				c := rapid.SampledFrom(clients).Draw(rt, "client")
				n := model[c]
				switch rapid.IntRange(0, 9).Draw(rt, "what") {
				case 0:
					w.add("virus", c)
					n.list(time.Now(), &list.cfg)
				case 1:
					was := time.Now().Before(n.until)
					if list.Remove(netip.MustParseAddr(c)) != was {
						rt.Fatalf("remove %s: it was listed: %v", c, was)
					}
					if was {
						n.until, n.ever = time.Time{}, false
					}
				case 2:
					list.sweep()
				case 3, 4, 5, 6:
					infected := rapid.Bool().Draw(rt, "infected")
					virus := ""
					if infected {
						virus = "Win.X"
					}
					w.message(c, virus)
					n.message(time.Now(), infected, &list.cfg)
				default:
					time.Sleep(time.Duration(rapid.IntRange(1, 100).Draw(rt, "minutes")) * time.Minute)
				}
				for _, c := range clients {
					l, listed := list.Listed(netip.MustParseAddr(c))
					if listed != time.Now().Before(model[c].until) || listed && !l.Until.Equal(model[c].until) {
						rt.Fatalf("%s: listed %v until %v, want until %v", c, listed, l.Until, model[c].until)
					}
				}
			}
		})
	})
}

// TestEntriesAreBounded has more clients than entries: those whose listing ends first make
// room, and the newest is always there.
func TestEntriesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "[[blocklist]]\nname = \"virus\"\nentries = 200\n")
		list := w.list("virus").(*List)
		for i := range 2000 {
			a := netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})
			if err := list.Add(a, "Win.X", "", 0); err != nil {
				t.Fatal(err)
			}
			if _, ok := list.Listed(a); !ok {
				t.Fatalf("%s is not listed", a)
			}
			time.Sleep(time.Second)
		}
		n := 0
		list.table.Load().each(func(*entry) bool { n++; return true })
		if n != 200 || list.table.Load().count.Load() != 200 || list.table.Load().evicted.Load() != 1800 {
			t.Errorf("%d entries, counted %d, evicted %d", n, list.table.Load().count.Load(), list.table.Load().evicted.Load())
		}
	})
}

// FuzzEntry reads whatever stands on disk or in memcached: nothing that cannot be is believed,
// and what is believed reads the same again.
func FuzzEntry(f *testing.F) {
	now := time.UnixMilli(1_800_000_000_000)
	good := &entry{life: time.Hour}
	good.Network = netip.MustParsePrefix("198.51.100.7/32")
	good.First, good.Last, good.Until = now.Add(-time.Hour), now.Add(-time.Minute), now.Add(time.Hour)
	good.Count, good.Evidence, good.QueueID = 3, "Win.X", "4Q1"
	f.Add(bytes.TrimSuffix(appendEntry(nil, good), []byte("\n")))
	f.Add([]byte("rgl1\t2001:db8::/64\t1\t9\t9\t1\t1\t0\t\t"))
	f.Add([]byte("rgl1\t::ffff:1.2.3.4/128\t-1\t9999999999999999999\t\t\t\t\t\t"))
	f.Fuzz(func(t *testing.T, line []byte) {
		const longest = 2 * time.Hour
		e, err := parseEntry(string(line), now, longest)
		if err != nil {
			return
		}
		if e.Until.After(e.Last.Add(longest)) || e.Until.After(now.Add(longest+ahead)) || e.Last.After(now.Add(ahead)) || e.life > longest || !e.Network.IsValid() {
			t.Errorf("believed: %+v", e)
		}
		written := appendEntry(nil, e)
		if bytes.Count(written, []byte("\n")) != 1 || bytes.Count(written, []byte("\t")) != entryFields-1 {
			t.Errorf("written as %q", written)
		}
		again, err := parseEntry(string(bytes.TrimSuffix(written, []byte("\n"))), now, longest)
		if err != nil || *again != *e {
			t.Errorf("%q: %+v, %v; was %+v", written, again, err, e)
		}
	})
}

// FuzzExport lists a client for what a stranger has written: no format has a line more.
func FuzzExport(f *testing.F) {
	f.Add("Win.X", "4Q1", []byte{198, 51, 100, 7})
	f.Add("a\nb\r\n$INCLUDE /etc/passwd\x00\xff\t}", "\n", bytes.Repeat([]byte{0x20}, 16))
	f.Fuzz(func(t *testing.T, evidence, queueID string, octets []byte) {
		client, ok := netip.AddrFromSlice(octets)
		if !ok || isLocal(client.Unmap()) {
			return
		}
		w := newWorld(t, "[[blocklist]]\nname = \"virus\"\n")
		if err := w.list("virus").Add(client, evidence, queueID, 0); err != nil {
			return
		}
		network, err := client.Unmap().WithZone("").Prefix(map[bool]int{true: 32, false: 64}[client.Unmap().Is4()])
		if err != nil {
			t.Fatal(err)
		}
		keys := len(accessKeys(network)) // two for a network with a zero at its end, none for one with more zeros
		for format, lines := range map[string]int{"text": 1, "cidr": 1, "texthash": keys, "nft": 3, "rbldnsd": 7} {
			tables, err := w.do("export", "virus", "--format="+format)
			if err != nil || len(tables[0].Rows) != lines {
				t.Errorf("%s: %v, %+v", format, err, tables)
			}
		}
	})
}
