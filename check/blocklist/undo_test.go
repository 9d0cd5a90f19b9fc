// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/kit/notice"
	"rcptgate/kit/testkit"
	"rcptgate/test/lab"
)

// TestARemovalHoldsAgainstAFastClock removes a listing of a gateway whose clock is ahead: its
// copy comes back from there, and must not list the client again. Evidence after it does.
func TestARemovalHoldsAgainstAFastClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "[[blocklist]]\nname = \"virus\"\n")
		l := w.list("virus").(*List)
		client := netip.MustParseAddr("198.51.100.1")
		theirs := time.Now().Add(4*time.Minute + 500*time.Microsecond)
		copied := &entry{life: time.Hour}
		copied.Network, copied.First, copied.Last, copied.Until = netip.MustParsePrefix("198.51.100.1/32"), theirs, theirs, theirs.Add(time.Hour)
		l.learn(copied)
		if !l.Remove(client) {
			t.Fatal("it was not listed")
		}
		gone, err := parseEntry(strings.TrimSuffix(string(appendEntry(nil, l.table.Load().get(client))), "\n"), time.Now(), l.cfg.longest())
		if err != nil {
			t.Fatal(err)
		}
		if both := merge(copied, gone); both.active(time.Now()) {
			t.Error("the other gateway does not believe the removal")
		}
		l.learn(copied)
		if w.listed("virus", "198.51.100.1") {
			t.Fatal("a copy of what was removed lists the client again")
		}
		w.add("virus", "198.51.100.1")
		l.learn(gone)
		if !w.listed("virus", "198.51.100.1") {
			t.Error("evidence after the removal does not list the client")
		}
	})
}

// TestAShortListingByHandMakesNoneShorter lists a client for a minute by hand; evidence then
// lists it for as long as any other.
func TestAShortListingByHandMakesNoneShorter(t *testing.T) {
	for name, pause := range map[string]time.Duration{"during": 0, "after": 2 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "[[blocklist]]\nname = \"virus\"\nfor_max = \"1d\"\n")
			client := netip.MustParseAddr("198.51.100.1")
			if err := w.list("virus").Add(client, "by hand", "", time.Minute); err != nil {
				t.Fatal(err)
			}
			time.Sleep(pause)
			w.message("198.51.100.1", "Win.X")
			if e, _ := w.list("virus").Listed(client); time.Until(e.Until) < time.Hour {
				t.Errorf("evidence %s: listed for %v", name, time.Until(e.Until))
			}
		})
	}
}

// TestAShorterTimeHoldsWithoutARestart shortens for: what is listed, and is listed again, ends
// within it.
func TestAShorterTimeHoldsWithoutARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "[[blocklist]]\nname = \"virus\"\nfor = \"30d\"\n")
		client := netip.MustParseAddr("198.51.100.1")
		w.add("virus", "198.51.100.1")
		short := *w.list("virus").(*List)
		short.cfg.For = short.cfg.For / 720
		u := &live{next: []*List{&short}, dns: short.dns}
		u.adopt()
		if e, ok := short.Listed(client); !ok || time.Until(e.Until) > time.Hour {
			t.Errorf("%v, listed for %v", ok, time.Until(e.Until))
		}
		if err := short.Add(client, "Win.X", "", 0); err != nil {
			t.Fatal(err)
		}
		if e, _ := short.Listed(client); time.Until(e.Until) > time.Hour {
			t.Errorf("listed again for %v", time.Until(e.Until))
		}
	})
}

// TestAClockSetBackCountsMessagesAnew counts while the clock is a year ahead.
func TestAClockSetBackCountsMessagesAnew(t *testing.T) {
	now, client := time.Unix(1_800_000_000, 0), netip.MustParseAddr("198.51.100.1")
	c := newTraffic(time.Hour, 10)
	for range 50 {
		c.add(client, true, now.AddDate(1, 0, 0))
	}
	if sum := c.add(client, true, now); sum.messages != 1 {
		t.Errorf("%+v", sum)
	}
	if sum := c.add(client, true, now.Add(-10*time.Minute)); sum.messages != 2 {
		t.Errorf("a small step: %+v", sum)
	}
}

// TestMXHostsAreFoundOnceDNSAnswers starts while DNS does not answer, as at boot.
func TestMXHostsAreFoundOnceDNSAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{addrs: map[string][]netip.Addr{"mx2.example.net.": addrs("198.51.100.6")}, mx: map[string][]*net.MX{"example.com.": {{Host: "mx2.example.net."}}}}
		z.fails.Store(true)
		d := newDNS(z, new(notice.Board))
		d.own([]string{"example.com"})
		go d.followMX(t.Context())
		synctest.Wait()
		z.fails.Store(false)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if !d.isMX(netip.MustParseAddr("198.51.100.6")) {
			t.Error("the backup MX is not known minutes after DNS answers")
		}
	})
}

// twoStages has a list at each of two stages.
const twoStages = "[[blocklist]]\nname = \"early\"\nstage = \"connect\"\n[[blocklist]]\nname = \"virus\"\n"

// TestListsOfAllStagesAreShared asks as a session does: at once at connect and for a recipient.
func TestListsOfAllStagesAreShared(t *testing.T) {
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	synctest.Test(t, func(t *testing.T) {
		a, b := gateway(t, server, key, twoStages), gateway(t, server, key, twoStages)
		defer a.host.Stop()
		defer b.host.Stop()
		const bad = "198.51.100.1"
		waitPublished(t, a, bad)
		ctx := rcptgate.WithBudget(t.Context(), time.Second)
		testkit.Eventually(t, "the listing, within one session", func() bool {
			x := newExchange(b.host.Shared)
			for _, name := range []string{"early", "virus"} { // not asked lately
				b.list(name).(*List).exchange.asked = x.asked
			}
			b.host.Gate.Ask(ctx, &rcptgate.Query{Stage: rcptgate.StageConnect, Client: netip.MustParseAddr(bad)})
			m := address.Parse("u@example.org")
			return b.host.Gate.Ask(ctx, &rcptgate.Query{Stage: rcptgate.StageRcpt, Client: netip.MustParseAddr(bad), Recipient: m, Target: m}).Action == rcptgate.Reject
		})
	})
}

// TestARemovalOnAnotherGateway removes a client that has never come to this gateway.
func TestARemovalOnAnotherGateway(t *testing.T) {
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	synctest.Test(t, func(t *testing.T) {
		a, b := gateway(t, server, key, disk), gateway(t, server, key, disk)
		defer a.host.Stop()
		defer b.host.Stop()
		const bad = "198.51.100.1"
		waitPublished(t, a, bad)
		if _, err := b.do("remove", "virus", bad); err != nil {
			t.Fatal(err)
		}
		x := newExchange(a.host.Shared)
		testkit.Eventually(t, "the removal where it was listed", func() bool {
			x.round(t.Context(), a.list("virus").(*List))
			return !a.listed("virus", bad)
		})
	})
}

// waitPublished lists a client on a gateway and waits until memcached has it.
func waitPublished(t *testing.T, a *world, client string) {
	t.Helper()
	a.add("virus", client)
	l := a.list("virus").(*List)
	testkit.Eventually(t, "the entry in memcached", func() bool {
		_, _, err := a.host.Shared.Get(t.Context(), l.exchange.key(l, netip.MustParsePrefix(client+"/32")))
		return err == nil
	})
}

// TestCommandsTakeNetworksAsTheyShowThem copies from the output of list.
func TestCommandsTakeNetworksAsTheyShowThem(t *testing.T) {
	w := newWorld(t, "[[blocklist]]\nname = \"virus\"\n")
	w.add("virus", "2001:db8::5")
	if _, err := w.do("show", "2001:db8::/64"); err != nil {
		t.Error(err)
	}
	if _, err := w.do("remove", "virus", "2001:db8::/48"); err == nil {
		t.Error("a network of another size is taken")
	}
	if _, err := w.do("remove", "virus", "2001:db8::/64"); err != nil || w.listed("virus", "2001:db8::5") {
		t.Error(err)
	}
}

// TestNoNameIsNoName is of what MTAs say of a client whose name they did not find: Postfix
// "unknown", Sendmail the address in brackets. DNS is asked then.
func TestNoNameIsNoName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "[[blocklist]]\nname = \"virus\"\nnever_names = [\".relay.example\"]\n")
		w.list("virus").(*List).dns.resolver = &zone{
			ptr:   map[string][]string{"198.51.100.1": {"a.relay.example."}, "2001:db8::1": {"a.relay.example."}},
			addrs: map[string][]netip.Addr{"a.relay.example.": addrs("198.51.100.1", "2001:db8::1")},
		}
		defer w.begin()()
		for client, names := range map[string][]string{"198.51.100.1": {"", "unknown", "[198.51.100.1]"}, "2001:db8::1": {"[IPv6:2001:db8::1]"}} {
			for _, name := range names {
				w.message(client, "Win.X", func(q *rcptgate.Query) { q.ClientName = name })
				synctest.Wait()
				if w.listed("virus", client) {
					t.Fatalf("a relay is listed whose name the MTA has as %q", name)
				}
			}
		}
	})
}

// TestNftReplacesTheSet holds that what is removed leaves the firewall, and what goes on stays
// in it: adding an element that is there does not change its time.
func TestNftReplacesTheSet(t *testing.T) {
	w := newWorld(t, "[[blocklist]]\nname = \"virus-1\"\n")
	tables, err := w.do("export", "virus-1", "--format=nft")
	if err != nil || len(tables[0].Rows) != 2 || tables[0].Rows[0].Cells[0] != "flush set inet mail virus_1" || tables[0].Rows[1].Cells[0] != "flush set inet mail virus_16" {
		t.Errorf("%v, %+v", err, tables)
	}
	w.add("virus-1", "198.51.100.1")
	tables, err = w.do("export", "virus-1", "--format=nft")
	if err != nil || len(tables[0].Rows) != 3 || !strings.HasPrefix(fmt.Sprint(tables[0].Rows[2].Cells[0]), "add element inet mail virus_1 { 198.51.100.1 timeout 3") {
		t.Errorf("%v, %+v", err, tables)
	}
}

// TestTheLengthOfNetworksChanges lists single addresses, then their networks: what is known of
// them is joined, by a reload and by a restart. A network does not become one of its addresses.
func TestTheLengthOfNetworksChanges(t *testing.T) {
	const bits = "[[blocklist]]\nname = \"virus\"\nfor_max = \"4h\"\nipv6_prefix = "
	check := func(t *testing.T, how string, w *world, l rcptgate.Blocklist) {
		t.Helper()
		e, ok := l.Listed(netip.MustParseAddr("2001:db8::ffff"))
		if !ok || e.Network != netip.MustParsePrefix("2001:db8::/64") || time.Until(e.Until) < 179*time.Minute || time.Since(e.First) < 59*time.Minute {
			t.Errorf("%s: %v, %+v", how, ok, e)
		}
		if _, ok := l.Listed(netip.MustParseAddr("198.51.100.1")); !ok {
			t.Errorf("%s: an IPv4 client is lost", how)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		state := testkit.Dir(t)
		w, stop := restarted(t, state, bits+"128\n")
		add := func(client string, life time.Duration) {
			if err := w.list("virus").Add(netip.MustParseAddr(client), "Win.X", "", life); err != nil {
				t.Fatal(err)
			}
		}
		add("2001:db8::1", 2*time.Hour)
		time.Sleep(time.Hour)
		add("2001:db8::2", 3*time.Hour)
		add("198.51.100.1", 0)
		time.Sleep(2 * time.Second)
		stop()
		wide := *w.list("virus").(*List)
		wide.cfg.IPv6Prefix = 64
		(&live{next: []*List{&wide}, dns: wide.dns}).adopt()
		check(t, "reload", w, &wide)
		w, stop = restarted(t, state, bits+"64\n")
		check(t, "restart", w, w.list("virus"))
		time.Sleep(2 * time.Second)
		narrow := *w.list("virus").(*List)
		narrow.cfg.IPv6Prefix = 128
		(&live{next: []*List{&narrow}, dns: narrow.dns}).adopt()
		if _, ok := narrow.Listed(netip.MustParseAddr("2001:db8::")); ok {
			t.Error("a network has become its first address")
		}
		stop()
	})
}

// TestExportsSpareWhoIsNeverListed lists networks with an address in them that is never listed:
// the gate tells them apart, a firewall does not.
func TestExportsSpareWhoIsNeverListed(t *testing.T) {
	const domain = "[[domain]]\nname = \"example.com\"\nbackend = [\"smtp:[2001:db8:0:4::25]:25\"]\n"
	w, err := tryWorld(t, testkit.Dir(t), "[[blocklist]]\nname = \"virus\"\nnever = [\"2001:db8:0:1::25\", \"2001:db8:0:2::/80\"]\n"+domain)
	if err != nil {
		t.Fatal(err)
	}
	w.list("virus").(*List).dns.mx.Store(&map[netip.Addr]struct{}{netip.MustParseAddr("2001:db8:0:3::25"): {}})
	for _, client := range []string{"198.51.100.1", "2001:db8:0:1::1", "2001:db8:0:2:1::1", "2001:db8:0:3::1", "2001:db8:0:4::1", "2001:db8:0:5::1"} {
		if w.add("virus", client); !w.listed("virus", client) {
			t.Errorf("%s is not listed", client)
		}
	}
	for _, spared := range []string{"2001:db8:0:1::25", "2001:db8:0:2::1", "2001:db8:0:3::25", "2001:db8:0:4::25"} {
		if w.listed("virus", spared) {
			t.Errorf("%s is listed", spared)
		}
	}
	tables, err := w.do("export", "virus", "--format=text")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, row := range tables[0].Rows {
		got = append(got, fmt.Sprint(row.Cells[0]))
	}
	if want := "198.51.100.1 2001:db8:0:5::/64"; strings.Join(got, " ") != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestTrafficCountsInTwoHalves holds that what came in the last half of the window counts.
func TestTrafficCountsInTwoHalves(t *testing.T) {
	now, client := time.Unix(1_800_000_000, 0), netip.MustParseAddr("198.51.100.1")
	c := newTraffic(time.Hour, 10)
	for minute, want := range []uint32{29: 1, 31: 2, 59: 3, 61: 3, 125: 1} {
		if want == 0 {
			continue
		}
		if sum := c.add(client, true, now.Add(time.Duration(minute)*time.Minute)); sum.messages != want || sum.infected != want {
			t.Errorf("after %d minutes: %+v, want %d", minute, sum, want)
		}
	}
}

// TestShorterEvidenceShortensNothing lists for long by hand, then for as long as any other.
func TestShorterEvidenceShortensNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, disk)
		client := netip.MustParseAddr("198.51.100.1")
		for _, life := range []time.Duration{3 * time.Hour, time.Minute} {
			if err := w.list("virus").Add(client, "by hand", "", life); err != nil {
				t.Fatal(err)
			}
		}
		if e, _ := w.list("virus").Listed(client); time.Until(e.Until) < 179*time.Minute {
			t.Errorf("listed for %v", time.Until(e.Until))
		}
	})
}
