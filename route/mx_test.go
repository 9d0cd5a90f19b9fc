// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"rcptgate/backend"
	"rcptgate/kit/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dnsServer is a DNS server on loopback with the records it was given.
type dnsServer struct {
	addr string

	mu      sync.Mutex
	records map[string][]string // by "name TYPE"
	broken  bool                // SERVFAIL to everything
	mute    bool                // says nothing to MX questions
	asked   int
}

func startDNS(t *testing.T, records map[string][]string) *dnsServer {
	t.Helper()
	pc, l := listenBoth(t)
	s := &dnsServer{addr: pc.LocalAddr().String(), records: records}
	for _, server := range []*dns.Server{{PacketConn: pc, Handler: s}, {Listener: l, Handler: s}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { _ = server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = server.Shutdown() })
	}
	return s
}

// listenBoth finds a port that is free for UDP and for TCP: one of them may be some
// other test's connection.
func listenBoth(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	var last error
	for range 50 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		pc, err := net.ListenPacket("udp", l.Addr().String())
		if err == nil {
			return pc, l
		}
		last = err
		_ = l.Close()
	}
	t.Fatalf("no port is free for both UDP and TCP: %v", last)
	return nil, nil
}

func (s *dnsServer) ServeDNS(w dns.ResponseWriter, req *dns.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	reply := new(dns.Msg).SetReply(req)
	name := strings.ToLower(strings.TrimSuffix(req.Question[0].Name, "."))
	kind := dns.TypeToString[req.Question[0].Qtype]
	switch {
	case s.mute && kind == "MX":
		return
	case s.broken:
		reply.Rcode = dns.RcodeServerFailure
	case s.records[name+" NXDOMAIN"] != nil:
		reply.Rcode = dns.RcodeNameError
	}
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	if udp && s.records[name+" TRUNCATED"] != nil {
		reply.Truncated = true
		_ = w.WriteMsg(reply)
		return
	}
	for _, data := range s.records[name+" "+kind] {
		rr, err := dns.NewRR(req.Question[0].Name + " 300 IN " + kind + " " + data)
		if err == nil {
			reply.Answer = append(reply.Answer, rr)
		}
	}
	_ = w.WriteMsg(reply)
}

func (s *dnsServer) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *dnsServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// servers gives a route's backends as text.
func servers(t *testing.T, rt *Route, domain string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	list, err := rt.Backends(ctx, domain)
	var texts []string
	for _, b := range list {
		texts = append(texts, b.Address().String())
	}
	return strings.Join(texts, ", "), err
}

func mxRouter(t *testing.T, s *dnsServer, backends ...string) *Route {
	t.Helper()
	r := newRouter(t, Options{
		Servers: []string{s.addr}, Hostname: "gw.example.org",
		IsSelf:  func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.77") },
		Domains: []DomainConfig{{Name: "any.example", Backend: backends}},
	})
	return r.sects[0].route
}

var zone = map[string][]string{
	"two.example MX":          {"20 b.two.example.", "10 A.two.example."},
	"a.two.example A":         {"192.0.2.10"},
	"b.two.example A":         {"192.0.2.11"},
	"implicit.example A":      {"192.0.2.12"},
	"null.example MX":         {"0 ."},
	"gone.example NXDOMAIN":   {""},
	"selfname.example MX":     {"5 a.two.example.", "10 gw.example.org.", "10 b.two.example.", "20 c.example."},
	"selfaddr.example MX":     {"5 a.two.example.", "10 me.example.", "20 b.two.example."},
	"me.example A":            {"192.0.2.77"},
	"onlyself.example MX":     {"10 gw.example.org.", "20 b.two.example."},
	"literal.example MX":      {"10 192.0.2.1.", "20 b.two.example."},
	"long.example TRUNCATED":  {""},
	"long.example MX":         {"10 b.two.example."},
	"gateway.two.example MX":  {"1 b.two.example."},
	"unresolvable.example MX": {"10 nowhere.example."},
}

func TestMX(t *testing.T) {
	s := startDNS(t, zone)
	for _, tt := range []struct {
		backends []string
		domain   string
		want     string
		err      error
	}{
		{[]string{"mx"}, "two.example", "smtp:[a.two.example]:25, smtp:[b.two.example]:25", nil},
		{[]string{"mx"}, "implicit.example", "smtp:[implicit.example]:25", nil},
		{[]string{"mx"}, "null.example", "", ErrNoBackend},
		{[]string{"mx"}, "gone.example", "", errNoDomain},
		{[]string{"mx"}, "selfname.example", "smtp:[a.two.example]:25", nil},
		{[]string{"mx"}, "selfaddr.example", "smtp:[a.two.example]:25", nil},
		{[]string{"mx"}, "onlyself.example", "", ErrNoBackend},
		{[]string{"mx"}, "literal.example", "smtp:[b.two.example]:25", nil},
		{[]string{"mx"}, "long.example", "smtp:[b.two.example]:25", nil},
		{[]string{"mx"}, "unresolvable.example", "smtp:[nowhere.example]:25", nil},
		{[]string{"mx"}, "[192.0.2.1]", "", errNoDomain},
		{[]string{"smtp:gateway.two.example:2525"}, "any.example", "smtp:[b.two.example]:2525", nil},
		{[]string{"smtp:[10.0.0.1]", "mx"}, "two.example", "smtp:[10.0.0.1]:25, smtp:[a.two.example]:25, smtp:[b.two.example]:25", nil},
		{[]string{"smtp:[10.0.0.1]", "mx"}, "null.example", "smtp:[10.0.0.1]:25", nil},
	} {
		got, err := servers(t, mxRouter(t, s, tt.backends...), tt.domain)
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%v for %s: %q, %v; want %q, %v", tt.backends, tt.domain, got, err, tt.want, tt.err)
		}
	}
}

func TestMXIsRemembered(t *testing.T) {
	s := startDNS(t, zone)
	rt := mxRouter(t, s, "mx")
	if _, err := servers(t, rt, "two.example"); err != nil {
		t.Fatal(err)
	}
	before := s.count()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got, err := servers(t, rt, "two.example"); err != nil || got != "smtp:[a.two.example]:25, smtp:[b.two.example]:25" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	wg.Wait()
	if n := s.count(); n != before {
		t.Errorf("DNS was asked %d times more", n-before)
	}
	if !rt.Has("two.example", "smtp:[b.two.example]:25") || rt.Has("two.example", "smtp:[old.two.example]:25") {
		t.Error("Has does not follow what DNS said")
	}
	if !rt.IsClient("two.example", netip.MustParseAddr("192.0.2.11")) || rt.IsClient("two.example", netip.MustParseAddr("192.0.2.99")) {
		t.Error("IsClient does not follow what DNS said")
	}
}

func TestDNSFailureServesWhatWasKnown(t *testing.T) {
	s := startDNS(t, zone)
	rt := mxRouter(t, s, "mx")
	if _, err := servers(t, rt, "two.example"); err != nil {
		t.Fatal(err)
	}
	expire := func() { expireAll(rt.router.dns) }
	s.set(func() { s.broken = true })
	expire()
	if got, err := servers(t, rt, "two.example"); err != nil || got == "" {
		t.Errorf("with DNS broken: %q, %v", got, err)
	}
	if got, err := servers(t, rt, "implicit.example"); err == nil || errors.Is(err, ErrNoBackend) {
		t.Errorf("never known, DNS broken: %q, %v", got, err)
	}
	s.set(func() { s.broken = false; s.records = map[string][]string{"two.example MX": {"0 ."}} })
	expire()
	if got, err := servers(t, rt, "two.example"); !errors.Is(err, ErrNoBackend) {
		t.Errorf("taken back by DNS: %q, %v", got, err)
	}
	s.set(func() { s.records = zone })
}

// expireAll ends the lives of what DNS said of the zone's names.
func expireAll(r *resolver) {
	for record := range zone {
		name, _, _ := strings.Cut(record, " ")
		expire(r.mxs, name)
		expire(r.ips, name)
	}
}

func expire[V any](c *cache[V], name string) {
	c.shard(name).Update(name, func(e cached[V]) cached[V] {
		e.until = time.Now().Add(-time.Second)
		return e
	})
}

// TestStaleMXServesAtOnce: name servers that say nothing cost a known domain a moment,
// and not the whole deadline.
func TestStaleMXServesAtOnce(t *testing.T) {
	s := startDNS(t, zone)
	rt := mxRouter(t, s, "mx")
	want, err := servers(t, rt, "two.example")
	if err != nil {
		t.Fatal(err)
	}
	s.set(func() { s.mute = true })
	expireAll(rt.router.dns)
	asked := s.count()
	start := time.Now()
	if got, err := servers(t, rt, "two.example"); err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	if waited := time.Since(start); waited > 5*exchangeTimeout { // half of what there was
		t.Errorf("waited %v", waited)
	}
	testkit.Eventually(t, "DNS to be asked in the background", func() bool { return s.count() > asked })
	// A day later it no longer serves.
	rt.router.dns.mxs.shard("two.example").Update("two.example", func(e cached[mxSet]) cached[mxSet] {
		e.good, e.until = time.Now().Add(-staleFor), time.Now().Add(-time.Second)
		return e
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if list, err := rt.Backends(ctx, "two.example"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after a day: %v, %v", list, err)
	}
}

// TestChangedMXIsSeen: while DNS answers, an answer that has ended does not serve.
func TestChangedMXIsSeen(t *testing.T) {
	s := startDNS(t, zone)
	rt := mxRouter(t, s, "mx")
	if _, err := servers(t, rt, "two.example"); err != nil {
		t.Fatal(err)
	}
	s.set(func() { s.records = map[string][]string{"two.example MX": {"10 new.two.example."}} })
	if got, err := servers(t, rt, "two.example"); err != nil || strings.Contains(got, "new") {
		t.Errorf("within its life: %q, %v", got, err)
	}
	expireAll(rt.router.dns)
	if got, err := servers(t, rt, "two.example"); err != nil || got != "smtp:[new.two.example]:25" {
		t.Errorf("after its life: %q, %v", got, err)
	}
}

func TestMuteDNSHasADeadline(t *testing.T) {
	s := startDNS(t, zone)
	s.set(func() { s.mute = true })
	rt := mxRouter(t, s, "mx")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := rt.Backends(ctx, "two.example"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if waited := time.Since(start); waited > 5*exchangeTimeout {
		t.Errorf("waited %v", waited)
	}
}

func TestNamedBackendIsClient(t *testing.T) {
	s := startDNS(t, map[string][]string{"mail.example A": {"192.0.2.30"}})
	rt := mxRouter(t, s, "smtp:[mail.example]:25")
	if got, err := servers(t, rt, "x.example"); err != nil || got != "smtp:[mail.example]:25" {
		t.Fatalf("%q, %v", got, err)
	}
	client := netip.MustParseAddr("192.0.2.30")
	testkit.Eventually(t, "the background look-up", func() bool { return rt.IsClient("x.example", client) })
}

func TestDNSServerSetting(t *testing.T) {
	_, err := New(Options{Get: get, Servers: []string{"ns.example"}})
	if err == nil || !strings.Contains(err.Error(), `"ns.example"`) {
		t.Errorf("error %v", err)
	}
	if list := systemServers(); len(list) == 0 || len(list) > maxServers {
		t.Errorf("system servers %v", list)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache[int]()
	for i := range 3 * cacheShards * cachePerShard {
		c.put(netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}).String(), i, nil, time.Hour)
	}
	total := 0
	for _, s := range c.shards {
		total += s.Len()
	}
	if total > cacheShards*cachePerShard {
		t.Errorf("%d entries", total)
	}
}

func TestOwnAddresses(t *testing.T) {
	isSelf := ownAddresses()
	for text, want := range map[string]bool{"127.0.0.1": true, "127.9.9.9": true, "::1": true, "0.0.0.0": true, "192.0.2.1": false, "::ffff:127.0.0.1": true} {
		if isSelf(netip.MustParseAddr(text)) != want {
			t.Errorf("%s: %v", text, !want)
		}
	}
	list, _ := net.InterfaceAddrs()
	if !slices.ContainsFunc(list, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && isSelf(p.Addr())
	}) && len(list) > 0 {
		t.Error("no interface's address is our own")
	}
}

// backend.Set gives what Options.Get must give.
var _ Backend = (*backend.Backend)(nil)

// TestLookUpThatLearnsNothing holds that a look-up whose answer is not remembered, because other
// names drove it out at once or because it panicked, is an error and not a domain without servers.
func TestLookUpThatLearnsNothing(t *testing.T) {
	r, err := newResolver([]string{"127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	for name, lookUp := range map[string]func(string){
		"forgotten": func(string) {},
		"panicked":  func(string) { panic("a reply that cannot be read") },
	} {
		if set, stale, err := ask(t.Context(), r, newPatience(), r.mxs, "mx of ", name, lookUp); err == nil || stale {
			t.Errorf("%s: %v, stale %v, %v", name, set, stale, err)
		}
	}
}
