// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/kit/testkit"
	"rcptgate/test/lab"
	"rcptgate/unit"
)

// gateway is a gateway that shares its lists.
func gateway(t *testing.T, server *lab.Memcached, keys, text string) *world {
	t.Helper()
	w := &world{t: t}
	units := []unit.Unit{Unit()}
	schema, err := unit.Compose(units)
	if err != nil {
		t.Fatal(err)
	}
	state := testkit.Dir(t)
	if err := os.WriteFile(filepath.Join(state, "keys"), []byte(keys+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := unit.Parse(schema, "test.toml", "state = \""+state+"\"\nenforce = true\n"+text+
		"[cache]\nmemcached = [\""+server.Socket()+"\"]\nmemcached_key_file = \""+filepath.Join(state, "keys")+"\"\n")
	if err != nil {
		t.Fatal(err)
	}
	if w.host, err = unit.Open(t.Context(), units, c, unit.Options{
		Stderr: io.Discard, Wait: 10 * time.Second, Hook: func(s *unit.Setup) { w.setup = s }, // machines are busy
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.host.Stop)
	if err := w.host.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	return w
}

// refuses asks as a client does: that has the others' lists read.
func (w *world) refuses(client string) bool {
	m := address.Parse("u@example.org")
	ctx := rcptgate.WithBudget(w.t.Context(), time.Second)
	return w.host.Gate.Ask(ctx, &rcptgate.Query{Stage: rcptgate.StageRcpt, Client: netip.MustParseAddr(client), Recipient: m, Target: m}).Action == rcptgate.Reject
}

const key, otherKey = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"

func TestTwoGatewaysShareAList(t *testing.T) {
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	synctest.Test(t, func(t *testing.T) {
		a, b := gateway(t, server, key, disk), gateway(t, server, key, disk)
		stranger := gateway(t, server, otherKey, disk)
		for _, w := range []*world{a, b, stranger} {
			defer w.host.Stop()
		}
		const bad = "198.51.100.1"
		if b.refuses(bad) {
			t.Fatal("refused before")
		}
		a.add("virus", bad)
		a.add("virus", "2001:db8::1")
		testkit.Eventually(t, "the listing on the other gateway", func() bool { return b.refuses(bad) })
		testkit.Eventually(t, "an IPv6 network there", func() bool { return b.refuses("2001:db8::2") })
		l, _ := b.list("virus").Listed(netip.MustParseAddr(bad))
		if l.Evidence != "Eicar-Test" || l.QueueID != "4Q1" {
			t.Errorf("%+v", l)
		}
		if stranger.refuses(bad) || stranger.listed("virus", bad) {
			t.Error("what is sealed with another key is believed")
		}
		if !b.list("virus").Remove(netip.MustParseAddr(bad)) {
			t.Error("the other gateway cannot remove it")
		}
		testkit.Eventually(t, "the removal on the first gateway", func() bool { return !a.refuses(bad) })

		// A removed client that errs again is listed again.
		time.Sleep(2 * time.Millisecond)
		b.add("virus", bad)
		testkit.Eventually(t, "the new listing", func() bool { return a.refuses(bad) })
	})
}

// TestWithinFiveSeconds lists a client, and ends its listing, while it goes on writing to another
// gateway, which has just asked about it. The time is the bubble's: it does not pass while
// memcached is asked.
func TestWithinFiveSeconds(t *testing.T) {
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	synctest.Test(t, func(t *testing.T) {
		a, b := gateway(t, server, key, disk), gateway(t, server, key, disk)
		defer a.host.Stop()
		defer b.host.Stop()
		takes := func(what string, client string, want bool) {
			t.Helper()
			for began := time.Now(); b.refuses(client) != want; time.Sleep(50 * time.Millisecond) {
				if time.Since(began) > 5*time.Second {
					t.Fatalf("%s has no effect on the other gateway after 5 s", what)
				}
			}
		}
		for i := range 20 {
			client := netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}).String()
			if b.refuses(client) {
				t.Fatal("refused before")
			}
			time.Sleep(time.Duration(i) * 200 * time.Millisecond)
			a.add("virus", client)
			takes("a listing", client, true)
			a.list("virus").Remove(netip.MustParseAddr(client))
			takes("a removal", client, false)
		}
	})
}

// TestASlowLookGoesOn has memcached answer later than the client's answer may wait.
func TestASlowLookGoesOn(t *testing.T) {
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	synctest.Test(t, func(t *testing.T) {
		a, b := gateway(t, server, key, disk), gateway(t, server, key, disk)
		defer a.host.Stop()
		defer b.host.Stop()
		const bad = "198.51.100.1"
		waitPublished(t, a, bad)
		m := address.Parse("u@example.org")
		late := rcptgate.WithBudget(t.Context(), 0)
		b.host.Step(rcptgate.StageRcpt, stepName).Check(late, &rcptgate.Query{Stage: rcptgate.StageRcpt, Client: netip.MustParseAddr(bad), Recipient: m, Target: m})
		testkit.Eventually(t, "the listing, without another question", func() bool { return b.listed("virus", bad) })
	})
}

// TestMemcachedIsBack lists a client while memcached is dead. The next round would be half a
// minute later.
func TestMemcachedIsBack(t *testing.T) {
	server, outside := lab.StartMemcached(t, lab.MemcachedOptions{}), testkit.Outside(t)
	synctest.Test(t, func(t *testing.T) {
		a, b := gateway(t, server, key, disk), gateway(t, server, key, disk)
		defer a.host.Stop()
		defer b.host.Stop()
		server.Kill()
		testkit.Eventually(t, "the death of memcached", func() bool { a.refuses("198.51.100.2"); return a.host.Shared.Down() })
		const bad = "198.51.100.1"
		a.add("virus", bad)
		outside(server.Restart)
		testkit.Eventually(t, "memcached to be back", func() bool { return !a.host.Shared.Down() && !b.host.Shared.Down() })
		began := time.Now()
		testkit.Eventually(t, "the listing on the other gateway", func() bool { return b.refuses(bad) })
		if took := time.Since(began); took > roundEvery/2 {
			t.Errorf("it took %v", took)
		}
	})
}

// TestARemovalThatStaysHere removes a client while memcached is dead: the command says that
// the other gateway keeps it, and it does until memcached is back.
func TestARemovalThatStaysHere(t *testing.T) {
	server, outside := lab.StartMemcached(t, lab.MemcachedOptions{}), testkit.Outside(t)
	synctest.Test(t, func(t *testing.T) {
		a, b := gateway(t, server, key, disk), gateway(t, server, key, disk)
		defer a.host.Stop()
		defer b.host.Stop()
		const bad = "198.51.100.1"
		a.add("virus", bad)
		testkit.Eventually(t, "the listing on the other gateway", func() bool { return b.refuses(bad) })
		server.Kill()
		testkit.Eventually(t, "the death of memcached", func() bool { a.refuses("198.51.100.2"); return a.host.Shared.Down() })
		for want, client := range map[string]string{"was removed from blocklist": bad, "the others could not be asked": "198.51.100.3"} {
			_, err := a.host.Do(t.Context(), "blocklist", "remove", []string{"virus", client})
			if _, part := errors.AsType[*unit.PartError](err); !part || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", client, err)
			}
		}
		if a.refuses(bad) || !b.refuses(bad) {
			t.Error("this gateway still refuses it, or the other no longer does")
		}
		_, err := a.host.Do(t.Context(), "blocklist", "add", []string{"virus", "198.51.100.4"})
		if _, part := errors.AsType[*unit.PartError](err); !part || !a.refuses("198.51.100.4") {
			t.Errorf("a listing that stays here: %v", err)
		}
		outside(server.Restart)
		testkit.Eventually(t, "the removal on the other gateway", func() bool { return !b.refuses(bad) })
		_, err = a.host.Do(t.Context(), "blocklist", "remove", []string{"virus", bad})
		if _, input := errors.AsType[*unit.InputError](err); !input {
			t.Errorf("with memcached back: %v", err)
		}
	})
}

// TestARoundMendsTheOthers has memcached lose everything, and a gateway that nobody asks.
func TestARoundMendsTheOthers(t *testing.T) {
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	synctest.Test(t, func(t *testing.T) {
		a, b := gateway(t, server, key, disk), gateway(t, server, key, disk)
		defer a.host.Stop()
		defer b.host.Stop()
		const bad = "198.51.100.1"
		a.add("virus", bad)
		testkit.Eventually(t, "the listing on the other gateway", func() bool { return b.refuses(bad) })
		x := newExchange(a.host.Shared)
		server.Flush()
		x.round(t.Context(), a.list("virus").(*List))
		if _, _, err := a.host.Shared.Get(t.Context(), x.key(a.list("virus").(*List), netip.MustParsePrefix(bad+"/32"))); err != nil {
			t.Errorf("what memcached has lost is not there again: %v", err)
		}
		b.list("virus").Remove(netip.MustParseAddr(bad))
		testkit.Eventually(t, "the removal, without a question", func() bool {
			x.round(t.Context(), a.list("virus").(*List))
			return !a.listed("virus", bad)
		})
		server.Flush() // the tombstone as well: who knows of the removal keeps it
		newExchange(b.host.Shared).round(t.Context(), b.list("virus").(*List))
		if a.refuses(bad) || b.refuses(bad) {
			t.Error("what was removed is back")
		}
	})
}

// TestARoundWritesOnlyWhatIsMissing has two gateways compare a list that both know.
func TestARoundWritesOnlyWhatIsMissing(t *testing.T) {
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	synctest.Test(t, func(t *testing.T) {
		a := gateway(t, server, key, disk)
		defer a.host.Stop()
		l := a.list("virus").(*List)
		for i := range 20 {
			waitPublished(t, a, fmt.Sprintf("198.51.100.%d", i))
		}
		x := newExchange(a.host.Shared)
		x.round(t.Context(), l)
		before := server.Stats()["cmd_set"]
		x.round(t.Context(), l)
		if now := server.Stats()["cmd_set"]; now != before {
			t.Errorf("cmd_set was %s, and is %s", before, now)
		}
	})
}

// TestAListThatIsNotShared neither reads nor writes what the others have, and nothing is believed
// that lies under another network's key.
func TestAListThatIsNotShared(t *testing.T) {
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	synctest.Test(t, func(t *testing.T) {
		a, own := gateway(t, server, key, disk), gateway(t, server, key, disk+"shared = false\n")
		defer a.host.Stop()
		defer own.host.Stop()
		const bad, other = "198.51.100.1", "198.51.100.2"
		waitPublished(t, a, bad)
		l := own.list("virus").(*List)
		x := newExchange(own.host.Shared)
		if own.refuses(bad) || x.ask(t.Context(), []*List{l}, netip.MustParseAddr(bad), time.Second, l.now()) != nil || own.listed("virus", bad) {
			t.Error("a list that is not shared has learnt")
		}
		own.add("virus", other)
		x.round(t.Context(), l)
		e := l.table.Load().get(netip.MustParseAddr(other))
		x.publish(l, e)
		theirs := a.list("virus").(*List)
		if x.tell(t.Context(), l, e) != nil || len(x.waiting) > 0 || a.refuses(other) {
			t.Error("a list that is not shared is published")
		}
		value := appendEntry(nil, theirs.table.Load().get(netip.MustParseAddr(bad)))
		for network, want := range map[string]bool{bad + "/32": true, other + "/32": false} {
			p := netip.MustParsePrefix(network)
			before := badForm(own)
			if e := x.read(theirs, p, x.key(theirs, p), value, theirs.now()); (e != nil) != want || badForm(own) > before == want {
				t.Errorf("under the key of %s: %+v; %d values are not as documented, %d before", network, e, badForm(own), before)
			}
		}
	})
}

// badForm is how many values of memcached a gateway has ignored.
func badForm(w *world) (n uint64) {
	for _, s := range w.host.Shared.Stats() {
		n += s.BadForm
	}
	return n
}

// TestWhatIsThereIsKept: writing an entry takes over what the others have written, and a client is
// asked about once in a few seconds. An error of memcached is one of the person who waits.
func TestWhatIsThereIsKept(t *testing.T) {
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	synctest.Test(t, func(t *testing.T) {
		a := gateway(t, server, key, disk)
		defer a.host.Stop()
		const bad, fine = "198.51.100.1", "198.51.100.9"
		waitPublished(t, a, bad)
		l := a.list("virus").(*List)
		x := newExchange(a.host.Shared)
		old := *l.table.Load().get(netip.MustParseAddr(bad)) // another gateway knows an earlier one only
		old.First, old.Last, old.Until, old.Count = old.First.Add(-time.Minute), old.Last.Add(-time.Minute), old.Until.Add(-time.Minute), 1
		if err := x.put(t.Context(), l, &old); err != nil {
			t.Fatal(err)
		}
		value, _, err := a.host.Shared.Get(t.Context(), x.key(l, old.Network))
		if err != nil {
			t.Fatal(err)
		}
		if e := x.read(l, old.Network, x.key(l, old.Network), value, l.now()); e == nil || !e.Until.Equal(l.table.Load().get(netip.MustParseAddr(bad)).Until) {
			t.Errorf("the later listing is lost: %+v", e)
		}
		if err := a.host.Shared.Set(t.Context(), x.key(l, old.Network), appendEntry(nil, &old), l.forgotten(&old)); err != nil {
			t.Fatal(err)
		}
		x.round(t.Context(), l)
		if value, _, err = a.host.Shared.Get(t.Context(), x.key(l, old.Network)); err != nil {
			t.Fatal(err)
		}
		if e := x.read(l, old.Network, x.key(l, old.Network), value, l.now()); e == nil || !e.Until.Equal(l.table.Load().get(netip.MustParseAddr(bad)).Until) {
			t.Errorf("a round leaves the earlier listing: %+v", e)
		}
		before := server.Stats()["cmd_get"]
		a.refuses(fine)
		once := server.Stats()["cmd_get"]
		a.refuses(fine)
		if now := server.Stats()["cmd_get"]; once == before || now != once {
			t.Errorf("cmd_get was %s, %s after a question, and %s after another", before, once, now)
		}
		if n := badForm(a); n > 0 {
			t.Errorf("%d values are not as documented", n)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if x.tell(gone, l, &old) == nil || x.ask(gone, []*List{l}, netip.MustParseAddr(bad), time.Second, l.now()) == nil {
			t.Error("what has not been read or written is no error")
		}
	})
}

// TestRoundsByThemselves has memcached lose more than a batch, twice. It is there again after a round,
// and not before: rounds are work.
func TestRoundsByThemselves(t *testing.T) {
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	synctest.Test(t, func(t *testing.T) {
		a := gateway(t, server, key, disk)
		defer a.host.Stop()
		l := a.list("virus").(*List)
		x := newExchange(a.host.Shared)
		var keys []string
		for i := range roundBatch + 20 {
			client := netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})
			a.add("virus", client.String())
			keys = append(keys, x.key(l, netip.PrefixFrom(client, 32)))
		}
		there := func() int {
			values, err := a.host.Shared.GetMulti(t.Context(), keys)
			if err != nil {
				t.Fatal(err)
			}
			return len(values)
		}
		testkit.Eventually(t, "the entries in memcached", func() bool { return there() == len(keys) })
		for range 2 {
			server.Flush()
			time.Sleep(roundEvery / 3)
			if n := there(); n > 0 {
				t.Errorf("%d entries are there again before a round", n)
			}
			time.Sleep(roundEvery)
			if n := there(); n != len(keys) {
				t.Errorf("%d entries of %d are there after a round", n, len(keys))
			}
			time.Sleep(roundEvery * 2 / 3)
		}
	})
}

// TestTries: what fails is done again, at most some times, and not once its time is over.
func TestTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := errors.New("failed")
		for succeeds, want := range map[int]int{1: 1, 3: 3, publishTries + 1: publishTries} {
			n := 0
			try(t.Context(), func(ctx context.Context) error {
				if _, ok := ctx.Deadline(); !ok {
					t.Error("a try without a deadline")
				}
				if n++; n >= succeeds {
					return nil
				}
				return failed
			})
			if n != want {
				t.Errorf("%d tries, want %d", n, want)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), publishPause*3/2)
		defer cancel()
		n := 0
		if try(ctx, func(context.Context) error { n++; return failed }); n != 2 {
			t.Errorf("%d tries in the time of 2", n)
		}
	})
}

func TestMerge(t *testing.T) {
	at := func(minute int) time.Time {
		return time.Unix(1_800_000_000, 0).Add(time.Duration(minute) * time.Minute)
	}
	listed := func(first, last, until, count int) *entry {
		e := &entry{life: time.Hour}
		e.First, e.Last, e.Until, e.Count = at(first), at(last), at(until), count
		return e
	}
	removed := func(e *entry, minute int) *entry {
		gone := *e
		gone.removed, gone.Until = at(minute), at(minute)
		return &gone
	}
	for _, tt := range []struct {
		name    string
		a, b    *entry
		until   int
		removed bool
	}{
		{"one knows nothing", listed(0, 0, 60, 1), nil, 60, false},
		{"both", listed(0, 0, 60, 1), listed(10, 30, 90, 2), 90, false},
		{"fewer pieces later", listed(0, 0, 60, 3), listed(0, 30, 90, 1), 90, false},
		{"shorter evidence later", listed(0, 0, 60, 1), listed(10, 10, 20, 1), 60, false},
		{"an earlier listing had ended", listed(0, 0, 60, 5), listed(90, 90, 150, 1), 150, false},
		{"removed after", listed(0, 5, 60, 1), removed(listed(0, 0, 60, 1), 6), 6, true},
		{"listed after the removal", listed(0, 7, 67, 1), removed(listed(0, 0, 60, 1), 6), 67, false},
		{"removed at the same moment", listed(0, 6, 66, 1), removed(listed(0, 0, 60, 1), 6), 6, true},
		{"both removed", removed(listed(0, 0, 60, 1), 8), removed(listed(0, 0, 60, 1), 6), 8, true},
	} {
		for _, m := range []*entry{merge(tt.a, tt.b), merge(tt.b, tt.a)} {
			if !m.Until.Equal(at(tt.until)) || m.removed.IsZero() == tt.removed {
				t.Errorf("%s: %+v", tt.name, m)
			}
		}
		if m := merge(tt.a, tt.b); tt.name == "fewer pieces later" && m.Count != 3 || tt.name == "both" && (m.Count != 2 || !m.First.Equal(at(0))) || strings.HasPrefix(tt.name, "an earlier") && (m.Count != 1 || !m.First.Equal(at(90))) {
			t.Errorf("%s: count %d, since %v", tt.name, m.Count, m.First)
		}
		if tt.b != nil {
			m := merge(tt.a, tt.b)
			if again := merge(m, tt.a); again != m {
				t.Errorf("%s: merging what is known changes it: %+v, %+v", tt.name, m, again)
			}
		}
	}
}
