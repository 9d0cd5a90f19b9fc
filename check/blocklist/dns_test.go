// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate/kit/notice"
)

// zone is a resolver without a network: what is not in it does not exist.
type zone struct {
	ptr    map[string][]string
	addrs  map[string][]netip.Addr
	mx     map[string][]*net.MX
	fails  atomic.Bool
	broken string // no answer about the addresses of this host
	hides  string // DNS never answers about the name of this address
}

func (z *zone) find(name string) error {
	if z.fails.Load() {
		return errors.New("no answer")
	}
	return &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (z *zone) LookupAddr(_ context.Context, a string) ([]string, error) {
	if a == z.hides {
		return nil, &net.DNSError{Err: "server misbehaving", Name: a, IsTemporary: true}
	}
	if names, ok := z.ptr[a]; ok && !z.fails.Load() {
		return names, nil
	}
	return nil, z.find(a)
}

func (z *zone) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if host == z.broken {
		return nil, errors.New("no answer")
	}
	if addrs, ok := z.addrs[host]; ok && !z.fails.Load() {
		return append([]netip.Addr{}, addrs...), nil
	}
	return nil, z.find(host)
}

func (z *zone) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	if mx, ok := z.mx[name]; ok && !z.fails.Load() {
		return mx, nil
	}
	return nil, z.find(name)
}

func addrs(list ...string) (out []netip.Addr) {
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func TestWhomDNSExcuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "[[blocklist]]\nname = \"virus\"\nnever_names = [\".relay.example\"]\nnever_dns = [\"white.example\"]\n[[domain]]\nname = \"example.com\"\nbackend = [\"smtp:[192.0.2.9]:25\"]\n")
		z := &zone{
			ptr: map[string][]string{"198.51.100.1": {"a.relay.example."}, "198.51.100.2": {"forged.relay.example."}, "198.51.100.8": {"a.relay.example.", "b.other.example."}},
			addrs: map[string][]netip.Addr{
				"a.relay.example.": addrs("198.51.100.1"), "forged.relay.example.": addrs("198.51.100.99"),
				"3.100.51.198.white.example.": addrs("127.0.9.1"), "4.100.51.198.white.example.": addrs("127.255.255.254"), "5.100.51.198.white.example.": addrs("192.0.2.1"),
				"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.white.example.": addrs("127.0.0.2"),
				"mx2.example.net.": addrs("198.51.100.6", "::ffff:198.51.100.7"),
			},
			mx: map[string][]*net.MX{"example.com.": {{Host: "mx2.example.net."}}},
		}
		d := w.list("virus").(*List).dns
		d.resolver = z
		defer w.begin()()
		synctest.Wait()
		want := map[string]bool{
			"198.51.100.1": false, // its name
			"198.51.100.2": true,  // a name that does not lead back
			"198.51.100.3": false, // a list in DNS
			"198.51.100.4": false, // that list refuses our questions: not found out
			"198.51.100.5": false, // nonsense instead of an answer: not found out
			"198.51.100.6": false, // an MX host of ours
			"198.51.100.7": false,
			"198.51.100.8": true, // a name that leads to another address
			"198.51.100.9": true, // DNS knows nothing
			"2001:db8::1":  false,
		}
		for client := range want {
			w.message(client, "Win.X")
		}
		synctest.Wait()
		for client, listed := range want {
			if w.listed("virus", client) != listed {
				t.Errorf("%s: listed %v, want %v", client, !listed, listed)
			}
		}
		z.fails.Store(true)
		w.message("198.51.100.20", "Win.X")
		synctest.Wait()
		if w.listed("virus", "198.51.100.20") || len(w.host.Notices.List()) == 0 {
			t.Error("without DNS a client is listed, or nothing is reported")
		}
		time.Sleep(2 * mxEvery) // what DNS said before holds
		if err := w.list("virus").Add(netip.MustParseAddr("198.51.100.6"), "", "", 0); err == nil {
			t.Error("an MX host is listed because DNS does not answer")
		}
	})
}

// TestNobodyHidesBehindItsNameServers has a client whose name servers fail on purpose. It is
// listed once they have failed for some time while others' answered; while DNS does not answer
// at all, nobody is.
func TestNobodyHidesBehindItsNameServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "[[blocklist]]\nname = \"virus\"\nnever_names = [\".relay.example\"]\n")
		z := &zone{hides: "198.51.100.1", ptr: map[string][]string{"198.51.100.2": {"a.relay.example."}}, addrs: map[string][]netip.Addr{"a.relay.example.": addrs("198.51.100.2")}}
		w.list("virus").(*List).dns.resolver = z
		defer w.begin()()
		sends := func(client string) bool {
			w.message(client, "Win.X")
			synctest.Wait()
			return w.listed("virus", client)
		}
		z.fails.Store(true)
		for range 4 {
			if sends("198.51.100.1") || sends("198.51.100.2") {
				t.Fatal("listed while DNS does not answer")
			}
			time.Sleep(6 * time.Minute)
		}
		z.fails.Store(false)
		if sends("198.51.100.2") {
			t.Error("a relay is listed")
		}
		if !sends("198.51.100.1") {
			t.Error("the client hides behind its name servers")
		}
		w.list("virus").Remove(netip.MustParseAddr("198.51.100.1"))
		z.hides = ""
		sends("198.51.100.1") // an answer
		w.list("virus").Remove(netip.MustParseAddr("198.51.100.1"))
		z.hides = "198.51.100.1"
		if sends("198.51.100.1") {
			t.Error("one failure is enough")
		}
	})
}

// TestMXHostsDoNotPileUp has DNS answer about one of two MX hosts, again and again.
func TestMXHostsDoNotPileUp(t *testing.T) {
	z := &zone{
		addrs: map[string][]netip.Addr{"mx1.example.net.": addrs("198.51.100.6", "198.51.100.6")}, broken: "mx2.example.net.",
		mx: map[string][]*net.MX{"example.com.": {{Host: "mx1.example.net."}, {Host: "mx2.example.net."}}},
	}
	d := newDNS(z, new(notice.Board))
	known := map[string][]netip.Addr{"example.com": addrs("198.51.100.7")}
	for range 3 {
		next, pause := d.findMX(t.Context(), []string{"example.com"}, known)
		if known = next; pause != mxRetry || len(known["example.com"]) != 2 {
			t.Errorf("%v, again after %v", known, pause)
		}
	}
	z.broken, z.addrs["mx2.example.net."] = "", addrs("198.51.100.8")
	if next, pause := d.findMX(t.Context(), []string{"example.com"}, known); pause != mxEvery || !slices.Equal(next["example.com"], addrs("198.51.100.6", "198.51.100.8")) {
		t.Errorf("%v, again after %v", next, pause)
	}
}
