// SPDX-License-Identifier: BSD-2-Clause

package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"go.uber.org/goleak"

	"rcptgate/check/trusted"
	"rcptgate/kit/testkit"
	"rcptgate/unit"
	"rcptgate/unit/fronttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const oneZone = "[dns]\nlisten = [\"127.0.0.1:0\"]\nzones = [{ name = \"bl.test\", list = \"virus\" }]\n"

// startDNS serves one zone and gives its address.
func startDNS(t testing.TB) (address string, list *fronttest.List) {
	t.Helper()
	list = fronttest.NewList("virus")
	if err := list.Add(netip.MustParseAddr("192.0.2.1"), "Eicar", "", 0); err != nil {
		t.Fatal(err)
	}
	h, _ := fronttest.Start(t, oneZone, fronttest.Lists(list), Unit())
	return h.Address("dns"), list
}

// over asks as a resolver does: a datagram may be lost, so that a question over UDP is put again
// every second.
func over(t testing.TB, network, address string, m *mdns.Msg) *mdns.Msg {
	t.Helper()
	client := &mdns.Client{Net: network, Timeout: testkit.Patience}
	if network == "udp" {
		client.Timeout = time.Second
	}
	for end := time.Now().Add(testkit.Patience); ; {
		r, _, err := client.Exchange(m, address)
		if err == nil {
			return r
		}
		if network != "udp" || !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(end) {
			t.Fatalf("%s %v: %v", network, m.Question, err)
		}
	}
}

func TestOverTheNetwork(t *testing.T) {
	address, list := startDNS(t)
	for _, network := range []string{"udp", "tcp"} {
		for name, want := range map[string]string{
			"1.2.0.192.bl.test": "NOERROR aa 1.2.0.192.bl.test. 300 IN A 127.0.0.2", "2.0.0.127.bl.test": "NOERROR aa 2.0.0.127.bl.test. 300 IN A 127.0.0.2",
			"1.0.0.127.bl.test": "NXDOMAIN", "bl.other": "REFUSED",
		} {
			if got := shown(over(t, network, address, msg(name, mdns.TypeA))); !strings.HasPrefix(got, want) {
				t.Errorf("%s %s: %s", network, name, got)
			}
		}
	}
	list.Remove(netip.MustParseAddr("192.0.2.1"))
	if got := shown(over(t, "udp", address, msg("1.2.0.192.bl.test", mdns.TypeA))); !strings.HasPrefix(got, "NXDOMAIN") {
		t.Errorf("after its end: %s", got)
	}
}

// Over TCP questions may come in pieces or together; connections that send something else
// are closed, and of more than 64 the one goes that is silent.
func TestTCP(t *testing.T) {
	address, _ := startDNS(t)
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
		return conn
	}
	wire, err := msg("1.2.0.192.bl.test", mdns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)
	conn := dial()
	for i := range framed {
		_, _ = conn.Write(framed[i : i+1])
	}
	_, _ = conn.Write(append(append([]byte{}, framed...), framed...))
	for range 3 {
		r, err := (&mdns.Conn{Conn: conn}).ReadMsg()
		if err != nil || len(r.Answer) != 1 {
			t.Fatalf("%v, %v", r, err)
		}
	}
	response := append([]byte{}, framed...)
	response[4] |= 0x80
	for name, octets := range map[string][]byte{"an answer": response, "a short message": {0, 3, 1, 2, 3}, "HTTP": []byte("GET / HTTP/1.1\r\n\r\n"), "nothing": {0, 0}} {
		conn := dial()
		_, _ = conn.Write(octets)
		closed(t, name, conn)
	}
	transfer := new(mdns.Msg).SetAxfr("bl.test.")
	if r := over(t, "tcp", address, transfer); r.Rcode != mdns.RcodeRefused {
		t.Errorf("AXFR: %s", shown(r))
	}
	for range tcpConns - 1 {
		c := dial()
		_, _ = c.Write(framed)
		if _, err := io.ReadFull(c, make([]byte, 20)); err != nil {
			t.Fatal(err)
		}
	}
	dial()
	closed(t, "the connection that has asked nothing for the longest time", conn)
}

// TestACrowdOverTCP has more connections than there may be say nothing, or half a question, and
// hostile datagrams come: whoever asks is answered all the same.
func TestACrowdOverTCP(t *testing.T) {
	address, _ := startDNS(t)
	for i := range 3 * tcpConns {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if i%3 > 0 {
			_, _ = conn.Write([]byte{0, 40, 1}[:i%3+1])
		}
	}
	udp, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = udp.Close() })
	good, err := msg("1.2.0.192.bl.test", mdns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		bad := append([]byte{}, good[:rng.IntN(len(good)+1)]...)
		for range rng.IntN(4) {
			if len(bad) > 0 {
				bad[rng.IntN(len(bad))] = byte([]int{0, 0xc0, 0xff, 12, 1 << rng.IntN(8)}[rng.IntN(5)])
			}
		}
		_, _ = udp.Write(append(bad, make([]byte, rng.IntN(2)*rng.IntN(2000))...))
	}
	for _, network := range []string{"tcp", "udp", "tcp"} {
		if got := shown(over(t, network, address, msg("1.2.0.192.bl.test", mdns.TypeA))); !strings.HasPrefix(got, "NOERROR aa 1.2.0.192.bl.test. 300 IN A 127.0.0.2") {
			t.Errorf("%s: %s", network, got)
		}
	}
}

// closed expects the server to hang up.
func closed(t *testing.T, what string, conn net.Conn) {
	t.Helper()
	if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: %d octets, %v", what, n, err)
	}
}

func TestAllow(t *testing.T) {
	units := []unit.Unit{fronttest.Lists(fronttest.NewList("virus")), trusted.Unit(), Unit()}
	schema, err := unit.Compose(units)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ allow, yes, no string }{
		{"", "127.0.0.1 127.0.0.9 ::1 ::ffff:127.0.0.1 192.0.2.7 ::ffff:192.0.2.7", "198.51.100.1 2001:db8::1"},
		{"allow = []", "127.0.0.1 ::1", "192.0.2.7 198.51.100.1"},
		{`allow = ["198.51.100.0/24", "2001:db8::/32"]`, "127.0.0.1 198.51.100.1 2001:db8::1", "192.0.2.7 ::ffff:192.0.2.7"},
		{`allow = ["0.0.0.0/0", "::/0"]`, "198.51.100.1 2001:db8::1 192.0.2.7", ""},
	} {
		c2, err := unit.Parse(schema, "test.toml", fmt.Sprintf("state = %q\ntrusted = [\"192.0.2.0/24\"]\n[dns]\n%s\n", t.TempDir(), c.allow))
		if err != nil {
			t.Fatal(err)
		}
		var s *unit.Setup
		h, err := unit.Open(t.Context(), units, c2, unit.Options{Stderr: io.Discard, Hook: func(set *unit.Setup) { s = set }})
		if err != nil {
			t.Fatal(err)
		}
		z := &zones{allow: unit.Part[Config](c2).Allow, trusted: func(a netip.Addr) bool { return s.Trusted(a) }}
		for _, a := range strings.Fields(c.yes) {
			if !z.allows(netip.MustParseAddr(a)) {
				t.Errorf("%s: %s may not ask", c.allow, a)
			}
		}
		for _, a := range strings.Fields(c.no) {
			if z.allows(netip.MustParseAddr(a)) {
				t.Errorf("%s: %s may ask", c.allow, a)
			}
		}
		h.Stop()
	}
}

func TestConfig(t *testing.T) {
	units := []unit.Unit{fronttest.Lists(fronttest.NewList("virus")), Unit()}
	schema, err := unit.Compose(units)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("long-label.", 20)
	for text, want := range map[string]string{
		`listen = ["unix:/x"]`:                                                          `dns.listen[1]: "unix:/x": DNS needs an address and a port`,
		`listen = ["localhost:53"]`:                                                     "dns.listen[1]",
		`listen = ["0.0.0.0:53"]`:                                                       "name each address",
		`allow = ["$backends"]`:                                                         `dns.allow[1]: "$backends" is not known`,
		`allow = ["x"]`:                                                                 "dns.allow[1]",
		`zones = [{ list = "virus" }]`:                                                  `dns.zones[1].name: "" is not a domain name`,
		`zones = [{ name = "a..b", list = "virus" }]`:                                   "is not a domain name",
		`zones = [{ name = "a b", list = "virus" }]`:                                    "is not a domain name",
		`zones = [{ name = "` + long + `", list = "virus" }]`:                           "is too long",
		`zones = [{ name = "a.b" }]`:                                                    "dns.zones[1].list: a zone needs a list",
		`zones = [{ name = "a.b", list = "other" }]`:                                    `dns.zones[1].list: there is no [[blocklist]] named "other"`,
		`zones = [{ name = "a.b", list = "virus", value = "127.0.0.1" }]`:               "dns.zones[1].value",
		`zones = [{ name = "a.b", list = "virus", value = "10.0.0.1" }]`:                "dns.zones[1].value",
		`zones = [{ name = "a.b", list = "virus", ns = ["a b"] }]`:                      `dns.zones[1].ns[1]: "a b" is not a host name`,
		`zones = [{ name = "a.b", list = "virus", contact = "x" }]`:                     "dns.zones[1].contact",
		`zones = [{ name = "a.b", list = "virus" }, { name = "A.B.", list = "virus" }]`: `dns.zones[2].name: "A.B." is there already`,
		`zones = [{ name = "a.b.", list = "virus", value = "127.1.2.3", contact = "a.b@c" }]` + "\nallow = [\"$trusted\", \"::1\"]": "",
	} {
		c, err := unit.Parse(schema, "test.toml", fmt.Sprintf("state = %q\n[dns]\n%s\n", t.TempDir(), text))
		if err == nil {
			var h *unit.Host
			if h, err = unit.Open(t.Context(), units, c, unit.Options{Offline: true}); err == nil {
				h.Stop()
			}
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// Mail does not wait for DNS: a port that is taken is tried again, and a reload that brings the
// first zone has it served.
func TestListensLater(t *testing.T) {
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	list := fronttest.NewList("virus")
	units := []unit.Unit{fronttest.Lists(list), Unit()}
	schema, err := unit.Compose(units)
	if err != nil {
		t.Fatal(err)
	}
	dir, further := t.TempDir(), ""
	read := func() (*unit.Config, error) {
		return unit.Parse(schema, "test.toml", fmt.Sprintf("state = %q\n[dns]\nlisten = [%q]\n%s", dir, taken.LocalAddr(), further))
	}
	c, err := read()
	if err != nil {
		t.Fatal(err)
	}
	h, err := unit.Open(t.Context(), units, c, unit.Options{Stderr: io.Discard, Reread: read, Look: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Stop)
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(h.Attention()) > 0 || h.Address("dns") != "" {
		t.Errorf("without zones: %v, at %q", h.Attention(), h.Address("dns"))
	}
	further = `zones = [{ name = "bl.test", list = "virus" }]`
	if _, err := h.Reload(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "a notice of the port", func() bool {
		list := h.Attention()
		return len(list) == 1 && strings.Contains(list[0].Text, "address already in use")
	})
	_ = taken.Close()
	testkit.Eventually(t, "the zone is served", func() bool { return h.Address("dns") != "" })
	if r := over(t, "udp", h.Address("dns"), msg("2.0.0.127.bl.test", mdns.TypeA)); r.Rcode != mdns.RcodeSuccess {
		t.Errorf("%s", shown(r))
	}
	if len(h.Attention()) > 0 {
		t.Errorf("attention: %v", h.Attention())
	}
	further = `zones = [{ name = "other.test", list = "virus" }]`
	if _, err := h.Reload(); err != nil {
		t.Fatal(err)
	}
	if r := over(t, "udp", h.Address("dns"), msg("2.0.0.127.bl.test", mdns.TypeA)); r.Rcode != mdns.RcodeRefused {
		t.Errorf("the old zone: %s", shown(r))
	}
	h.Stop()
	if conn, err := net.Dial("tcp", taken.LocalAddr().String()); err == nil {
		_ = conn.Close()
		t.Error("it listens after its end")
	}
}

// BenchmarkServer is what the server answers over loopback: clients with 32 questions on
// their way each.
func BenchmarkServer(b *testing.B) {
	address, _ := startDNS(b)
	wire, err := msg("1.2.0.192.bl.test", mdns.TypeA).Pack()
	if err != nil {
		b.Fatal(err)
	}
	const clients, inFlight = 4, 32
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ReportAllocs()
	b.ResetTimer()
	before := processorTime(b)
	var all sync.WaitGroup
	for range clients {
		conn, err := net.Dial("udp", address)
		if err != nil {
			b.Fatal(err)
		}
		all.Go(func() {
			defer func() { _ = conn.Close() }()
			buf := make([]byte, 512)
			for left.Add(-inFlight) > -inFlight {
				for range inFlight {
					if _, err := conn.Write(wire); err != nil {
						b.Error(err)
						return
					}
				}
				for range inFlight {
					_ = conn.SetReadDeadline(time.Now().Add(time.Second)) // a lost datagram costs a second
					if _, err := conn.Read(buf); err != nil {
						break
					}
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "questions/s")
	b.ReportMetric(float64(b.N)/(processorTime(b)-before).Seconds(), "questions/cpu-s") // the clients' share is in it
}

// processorTime is what this process has used so far.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
