// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate/kit/notice"
)

// slowZone is a resolver that takes its time, and counts.
type slowZone struct {
	names           []string
	lookUp          time.Duration // for the addresses of a name
	never           bool          // no answer before the time is up
	asked, running  atomic.Int64
	most, questions atomic.Int64
	mx              atomic.Int64
}

func (z *slowZone) LookupAddr(ctx context.Context, _ string) ([]string, error) {
	z.asked.Add(1)
	z.most.Store(max(z.most.Load(), z.running.Add(1)))
	defer z.running.Add(-1)
	if z.never {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return z.names, nil
}

func (z *slowZone) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	z.questions.Add(1)
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(z.lookUp):
		return addrs("198.51.100.1"), nil
	}
}

func (z *slowZone) LookupMX(context.Context, string) ([]*net.MX, error) {
	z.mx.Add(1)
	return nil, nil
}

// TestTimesOfDNS bounds what one client can have us ask.
func TestTimesOfDNS(t *testing.T) {
	for name, tt := range map[string]struct {
		zone   *slowZone
		took   time.Duration
		listed bool
	}{
		"no answer about the address": {&slowZone{never: true}, dnsTime, false},
		"no answer about a name":      {&slowZone{names: []string{"a.example."}, lookUp: time.Hour}, dnsTime, false},
		"many slow names":             {&slowZone{names: make([]string, 9), lookUp: 4 * time.Second}, caseTime, false},
		"a few slow names":            {&slowZone{names: make([]string, 4), lookUp: 4 * time.Second}, 16 * time.Second, true},
		"too many names":              {&slowZone{names: append(make([]string, 10), "a.relay.example."), lookUp: time.Second}, 10 * time.Second, true},
		"ten names":                   {&slowZone{names: append(make([]string, 9), "A.RELAY.Example."), lookUp: time.Second}, 10 * time.Second, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "[[blocklist]]\nname = \"virus\"\nnever_names = [\".relay.example\"]\n")
			l := w.list("virus").(*List)
			l.dns.resolver = tt.zone
			began := time.Now()
			l.dns.judge(t.Context(), &accusation{list: l, client: netip.MustParseAddr("198.51.100.1"), evidence: "Win.X"})
			if took := time.Since(began); took != tt.took || w.listed("virus", "198.51.100.1") != tt.listed {
				t.Errorf("%s: took %v, want %v; listed: %v", name, took, tt.took, !tt.listed)
			}
		})
	}
}

// TestAccusationsAreBounded has DNS answer nothing while many clients send viruses.
func TestAccusationsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "[[blocklist]]\nname = \"virus\"\nnever_names = [\".relay.example\"]\n")
		z := &slowZone{never: true}
		d := w.list("virus").(*List).dns
		d.resolver = z
		for i := range dnsQueue + 3 {
			w.message(fmt.Sprintf("198.51.%d.%d", i/256, i%256), "Win.X")
		}
		if n := d.dropped.Load(); n != 3 {
			t.Errorf("%d were dropped, want 3", n)
		}
		defer w.begin()()
		time.Sleep(time.Minute)
		if z.most.Load() != dnsWorkers {
			t.Errorf("%d questions at one time", z.most.Load())
		}
	})
}

// TestAnswersOfLists reads what lists in DNS answer (RFC 5782 section 2.1).
func TestAnswersOfLists(t *testing.T) {
	const zoneName = "white.example"
	for answer, want := range map[string]string{
		"127.0.0.2": "true", "127.9.8.7": "true", "127.0.0.254": "true", "": "false",
		"127.255.255.254": "refuses", "127.0.0.255": "refuses", "127.0.255.1": "true", "127.255.0.1": "refuses",
		"192.0.2.1": "not in 127", "::1": "not in 127", "2001:db8::1": "not in 127",
	} {
		z := &zone{addrs: map[string][]netip.Addr{}}
		if answer != "" {
			z.addrs["7.100.51.198.white.example."] = addrs(answer)
		}
		found, err := newDNS(z, new(notice.Board)).inZone(t.Context(), netip.MustParseAddr("::ffff:198.51.100.7"), zoneName)
		if got := fmt.Sprint(found, err); !strings.Contains(got, want) || (err != nil) == (want == "true" || want == "false") {
			t.Errorf("%q: %s, want %s", answer, got, want)
		}
	}
	z := &zone{}
	z.fails.Store(true)
	if _, err := newDNS(z, new(notice.Board)).inZone(t.Context(), netip.MustParseAddr("198.51.100.7"), zoneName); err == nil {
		t.Error("no answer is an answer")
	}
}

// TestHides holds from when on a client is not spared for the silence of its name servers.
func TestHides(t *testing.T) {
	now, client := time.Unix(1_800_000_000, 0), netip.MustParseAddr("198.51.100.1")
	other := netip.MustParseAddr("198.51.100.2")
	d := newDNS(&zone{}, new(notice.Board))
	d.heard(other, now.Add(time.Minute), true)
	if d.hides(client, now.Add(time.Hour)) {
		t.Error("nobody has asked about it")
	}
	d.heard(client, now, false)
	for after, want := range map[time.Duration]bool{silentFor - 1: false, silentFor: true} {
		if d.hides(client, now.Add(after)) != want {
			t.Errorf("after %v: hides %v", after, !want)
		}
	}
	d.answered.Store(now.UnixNano()) // DNS has not answered since
	if d.hides(client, now.Add(silentFor)) {
		t.Error("DNS answers about nobody")
	}
	d.answered.Store(now.Add(time.Minute).UnixNano())
	d.heard(client, now.Add(-time.Hour), false) // the clock was set back
	if d.hides(client, now.Add(-time.Hour+silentFor-1)) || !d.hides(client, now.Add(-time.Hour+silentFor)) {
		t.Error("the clock was set back, and the silence did not begin anew")
	}
}

// TestWhoIsExcusedIsSaid holds the log line and the counter, that the name is the one that the MTA
// has verified, and that DNS is not asked again about a client that is listed.
func TestWhoIsExcusedIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "[[blocklist]]\nname = \"virus\"\nnever_names = [\".relay.example\"]\nnever_dns = [\"white.example\"]\n")
		l := w.list("virus").(*List)
		var log strings.Builder
		l.log = slog.New(slog.NewTextHandler(&log, nil))
		z := &zone{ptr: map[string][]string{"198.51.100.1": {"a.relay.example."}}, addrs: map[string][]netip.Addr{"a.relay.example.": addrs("198.51.100.1")}}
		l.dns.resolver = z
		judge := func(name string) {
			l.dns.judge(t.Context(), &accusation{list: l, client: netip.MustParseAddr("198.51.100.1"), name: name, evidence: "Win.X"})
		}
		judge("")
		if l.dns.excused.Load() != 1 || !strings.Contains(log.String(), "excused: its name is a.relay.example") || w.listed("virus", "198.51.100.1") {
			t.Errorf("%d excused, log %s", l.dns.excused.Load(), log.String())
		}
		judge("b.other.example")
		if !w.listed("virus", "198.51.100.1") {
			t.Error("the name is not the one that the MTA says")
		}
		z.fails.Store(true)
		w.message("198.51.100.1", "Win.Y")
		if e, _ := l.Listed(netip.MustParseAddr("198.51.100.1")); e.Count != 2 || e.Evidence != "Win.Y" {
			t.Errorf("further evidence: %+v", e)
		}
	})
}

// TestMXHostsAreFollowed counts questions: each hour, and no more of them than mxDomains.
func TestMXHostsAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := new(slowZone)
		d := newDNS(z, new(notice.Board))
		go d.followMX(t.Context())
		domains := make([]string, mxDomains+1)
		d.own(domains)
		synctest.Wait()
		if n := z.mx.Load(); n != mxDomains {
			t.Errorf("%d questions for %d domains", n, len(domains))
		}
		d.own([]string{"a.example", "b.example"})
		synctest.Wait()
		z.mx.Store(0)
		time.Sleep(mxEvery - time.Second)
		if n := z.mx.Load(); n != 0 {
			t.Errorf("%d questions within the hour", n)
		}
		time.Sleep(3*mxEvery + 2*time.Second)
		synctest.Wait()
		if n := z.mx.Load(); n != 8 {
			t.Errorf("%d questions in four hours for two domains", n)
		}
	})
}
