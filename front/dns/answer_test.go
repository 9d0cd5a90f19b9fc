// SPDX-License-Identifier: BSD-2-Clause

package dns

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"rcptgate/kit/testkit"
	"rcptgate/unit/fronttest"
)

// testZones are two zones of one list, one zone inside the other, and one of a list in rehearsal.
func testZones(t testing.TB) ([]zone, *fronttest.List) {
	t.Helper()
	list, trial := fronttest.NewList("virus"), fronttest.NewList("trial")
	trial.Rehearse = true
	for addr, evidence := range map[string]string{
		"192.0.2.1": "Eicar-Test-Signature", "198.51.100.255": strings.Repeat("long", 100), "2001:db8::1": "Win.Ιός", "127.0.0.1": "never", "1.2.3.4": "",
	} {
		if err := list.Add(netip.MustParseAddr(addr), evidence, "q", 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := trial.Add(netip.MustParseAddr("192.0.2.1"), "x", "", 0); err != nil {
		t.Fatal(err)
	}
	zones := []zone{
		newZone(ZoneConfig{Name: "Virbl.Example.org"}, "mx1.example.org", list, 7),
		newZone(ZoneConfig{Name: "in.virbl.example.org", Value: "127.0.0.9", NS: []string{"ns1.in.virbl.example.org", "ns2.example.net"}, Contact: "who.ever@example.com"}, "mx", list, 7),
		newZone(ZoneConfig{Name: "trial.example.org"}, "mx", trial, 7),
		newZone(ZoneConfig{Name: "v"}, strings.Repeat("very-long-name.", 10)+"example", list, 7),
	}
	sortZones(zones)
	return zones, list
}

// ask packs a question, and unpacks the answer.
func ask(t testing.TB, zones []zone, m *mdns.Msg, allowed, datagram bool) (*mdns.Msg, kind) {
	t.Helper()
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	out, k := respond(zones, nil, wire, new(question), allowed, datagram, time.Now())
	if len(out) == 0 {
		return nil, k
	}
	r := new(mdns.Msg)
	if err := r.Unpack(out); err != nil {
		t.Fatalf("%v\n%v: % x", m, err, out)
	}
	if datagram && (len(out) > maxUDP || len(out) > factor*len(wire)) {
		t.Errorf("%v: %d octets for %d", m.Question, len(out), len(wire))
	}
	for i, want := range []int{len(r.Question), len(r.Answer), len(r.Ns), len(r.Extra)} { // Unpack does not mind
		if got := int(binary.BigEndian.Uint16(out[4+2*i:])); got != want {
			t.Errorf("%v: the header counts %d records in section %d, there are %d", m.Question, got, i, want)
		}
	}
	if r.Id != m.Id || !r.Response || r.RecursionAvailable || r.RecursionDesired != m.RecursionDesired {
		t.Errorf("%v: header %+v", m.Question, r.MsgHdr)
	}
	return r, k
}

// shown is an answer in short: the code, the records, and whether it is authoritative.
func shown(r *mdns.Msg) string {
	words := []string{mdns.RcodeToString[r.Rcode]}
	if r.Authoritative {
		words = append(words, "aa")
	}
	if r.Truncated {
		words = append(words, "tc")
	}
	for _, rr := range r.Answer {
		words = append(words, strings.Join(strings.Fields(rr.String()), " "))
	}
	for _, rr := range r.Ns {
		words = append(words, "/", strings.Join(strings.Fields(rr.String()), " "))
	}
	return strings.Join(words, " ")
}

func msg(name string, qtype uint16) *mdns.Msg {
	m := new(mdns.Msg).SetQuestion(mdns.Fqdn(name), qtype)
	return m.SetEdns0(4096, true)
}

const soaOf = " / virbl.example.org. 60 IN SOA mx1.example.org. hostmaster.virbl.example.org. 7 3600 600 86400 60"

func TestAnswers(t *testing.T) {
	zones, _ := testZones(t)
	until := time.Now().Add(time.Hour).UTC().Format("2006-01-02 15:04")
	const nibbles = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.virbl.example.org"
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"1.2.0.192.virbl.example.org", mdns.TypeA, "NOERROR aa 1.2.0.192.virbl.example.org. 300 IN A 127.0.0.2"},
		{"1.2.0.192.in.virbl.example.org", mdns.TypeA, "NOERROR aa 1.2.0.192.in.virbl.example.org. 300 IN A 127.0.0.9"},
		{"1.2.0.192.VIRBL.example.ORG", mdns.TypeA, "NOERROR aa 1.2.0.192.VIRBL.example.ORG. 300 IN A 127.0.0.2"},
		{"1.2.0.192.virbl.example.org", mdns.TypeTXT, `NOERROR aa 1.2.0.192.virbl.example.org. 300 IN TXT "virus: Eicar-Test-Signature, until ` + until + ` UTC"`},
		{"4.3.2.1.virbl.example.org", mdns.TypeTXT, `NOERROR aa 4.3.2.1.virbl.example.org. 300 IN TXT "virus, until ` + until + ` UTC"`},
		{"1.2.0.192.virbl.example.org", mdns.TypeANY, `NOERROR aa 1.2.0.192.virbl.example.org. 3600 IN HINFO "RFC8482" ""`},
		{"1.2.0.192.virbl.example.org", mdns.TypeAAAA, "NOERROR aa" + soaOf},
		{"2.2.0.192.virbl.example.org", mdns.TypeA, "NXDOMAIN aa" + soaOf},
		{"2.2.0.192.virbl.example.org", mdns.TypeANY, "NXDOMAIN aa" + soaOf},
		{nibbles, mdns.TypeA, "NOERROR aa " + nibbles + ". 300 IN A 127.0.0.2"},
		{strings.Replace(nibbles, "8.b.d.0", "8.B.D.0", 1), mdns.TypeA, "NOERROR aa " + strings.Replace(nibbles, "8.b.d.0", "8.B.D.0", 1) + ". 300 IN A 127.0.0.2"},
		{nibbles, mdns.TypeTXT, "NOERROR aa " + nibbles + `. 300 IN TXT "virus: Win.??????, until ` + until + ` UTC"`},
		{"2" + nibbles[1:], mdns.TypeA, "NXDOMAIN aa" + soaOf},
		{nibbles[2:], mdns.TypeA, "NOERROR aa" + soaOf},
		{"0." + nibbles, mdns.TypeA, "NXDOMAIN aa" + soaOf},

		// The test entries of RFC 5782 section 5.
		{"2.0.0.127.virbl.example.org", mdns.TypeA, "NOERROR aa 2.0.0.127.virbl.example.org. 300 IN A 127.0.0.2"},
		{"2.0.0.127.virbl.example.org", mdns.TypeTXT, `NOERROR aa 2.0.0.127.virbl.example.org. 300 IN TXT "virus: test entry"`},
		{"1.0.0.127.virbl.example.org", mdns.TypeA, "NXDOMAIN aa" + soaOf},
		{"2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.virbl.example.org", mdns.TypeA, "NOERROR aa 2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.virbl.example.org. 300 IN A 127.0.0.2"},
		{"1.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.virbl.example.org", mdns.TypeA, "NXDOMAIN aa" + soaOf},
		{"2.0.0.127.trial.example.org", mdns.TypeA, "NOERROR aa 2.0.0.127.trial.example.org. 300 IN A 127.0.0.2"},
		{"1.2.0.192.trial.example.org", mdns.TypeA, "NXDOMAIN aa / trial.example.org. 60 IN SOA mx. hostmaster.trial.example.org. 7 3600 600 86400 60"},

		// The zone itself, and names that are no client's.
		{"virbl.example.org", mdns.TypeSOA, "NOERROR aa virbl.example.org. 60 IN SOA mx1.example.org. hostmaster.virbl.example.org. 7 3600 600 86400 60"},
		{"virbl.example.org", mdns.TypeNS, "NOERROR aa virbl.example.org. 3600 IN NS mx1.example.org."},
		{"in.virbl.example.org", mdns.TypeNS, "NOERROR aa in.virbl.example.org. 3600 IN NS ns1.in.virbl.example.org. in.virbl.example.org. 3600 IN NS ns2.example.net."},
		{"in.virbl.example.org", mdns.TypeSOA, `NOERROR aa in.virbl.example.org. 60 IN SOA ns1.in.virbl.example.org. who\.ever.example.com. 7 3600 600 86400 60`},
		{"virbl.example.org", mdns.TypeANY, `NOERROR aa virbl.example.org. 3600 IN HINFO "RFC8482" ""`},
		{"virbl.example.org", mdns.TypeA, "NOERROR aa" + soaOf},
		{"www.virbl.example.org", mdns.TypeA, "NXDOMAIN aa" + soaOf},
		{"x.2.0.192.virbl.example.org", mdns.TypeA, "NXDOMAIN aa" + soaOf},
		{"256.2.0.192.virbl.example.org", mdns.TypeA, "NXDOMAIN aa" + soaOf},
		{"01.2.0.192.virbl.example.org", mdns.TypeA, "NXDOMAIN aa" + soaOf},
		{`\001.2.0.192.virbl.example.org`, mdns.TypeA, "NXDOMAIN aa" + soaOf},
		{"1.1.2.0.192.virbl.example.org", mdns.TypeA, "NXDOMAIN aa" + soaOf},
		{strings.Repeat("a.", 100) + "virbl.example.org", mdns.TypeA, "NXDOMAIN aa" + soaOf},

		// Not ours.
		{"1.2.0.192.virbl.example.com", mdns.TypeA, "REFUSED"},
		{"xvirbl.example.org", mdns.TypeA, "REFUSED"},
		{"example.org", mdns.TypeA, "REFUSED"},
		{".", mdns.TypeNS, "REFUSED"},
		{"virbl.example.org", mdns.TypeAXFR, "REFUSED"},
		{"virbl.example.org", mdns.TypeIXFR, "REFUSED"},
	} {
		for _, datagram := range []bool{true, false} {
			r, _ := ask(t, zones, msg(c.name, c.qtype), true, datagram)
			if got := shown(r); got != c.want {
				t.Errorf("%s %s: %s\nwant %s", c.name, mdns.TypeToString[c.qtype], got, c.want)
			}
			if opt := r.IsEdns0(); opt == nil || opt.UDPSize() != maxUDP || opt.Do() {
				t.Errorf("%s: EDNS %v", c.name, opt)
			}
		}
	}
}

// A listing that ends soon is not cached beyond its end.
func TestTimeToLive(t *testing.T) {
	zones, list := testZones(t)
	for life, least := range map[time.Duration]uint32{30 * time.Second: 28, time.Hour: 300, 500 * time.Millisecond: 0} {
		if err := list.Add(netip.MustParseAddr("192.0.2.77"), "x", "", life); err != nil {
			t.Fatal(err)
		}
		r, _ := ask(t, zones, msg("77.2.0.192.virbl.example.org", mdns.TypeA), true, true)
		if ttl := r.Answer[0].Header().Ttl; ttl < least || ttl > uint32(min(life/time.Second, 300)) {
			t.Errorf("%v: time to live %d", life, ttl)
		}
	}
	list.Remove(netip.MustParseAddr("192.0.2.77"))
	if r, _ := ask(t, zones, msg("77.2.0.192.virbl.example.org", mdns.TypeA), true, true); r.Rcode != mdns.RcodeNameError {
		t.Errorf("after its end: %s", shown(r))
	}
}

// TestNothingAboveAClientIsAbsent asks as a resolver with QNAME minimisation does: an answer
// that a name does not exist would stand for everything below it (RFC 8020).
func TestNothingAboveAClientIsAbsent(t *testing.T) {
	zones, _ := testZones(t)
	for _, addr := range []string{"192.0.2.1", "198.51.100.255", "2001:db8::1", "127.0.0.2", "1.2.3.4", "2001::2", "abcd::", "1234:5678::9"} {
		name, err := mdns.ReverseAddr(addr)
		if err != nil {
			t.Fatal(err)
		}
		labels := mdns.SplitDomainName(name)
		labels = labels[:len(labels)-2] // in-addr.arpa
		for i := 1; i <= len(labels); i++ {
			at := strings.Join(labels[i:], ".") + ".virbl.example.org"
			for _, qtype := range []uint16{mdns.TypeA, mdns.TypeNS, mdns.TypeANY, mdns.TypeTXT} {
				if r, _ := ask(t, zones, msg(strings.TrimPrefix(at, "."), qtype), true, true); r.Rcode != mdns.RcodeSuccess {
					t.Errorf("%s: %s", at, shown(r))
				}
			}
		}
	}
}

// TestNeverMoreThanThreeForOne asks everything of zones of all sizes.
func TestNeverMoreThanThreeForOne(t *testing.T) {
	_, list := testZones(t)
	truncated, asked := 0, 0
	types := []uint16{mdns.TypeA, mdns.TypeNS, mdns.TypeSOA, mdns.TypeMX, mdns.TypeTXT, mdns.TypeAAAA, mdns.TypeDS, mdns.TypeIXFR, mdns.TypeANY, 65000}
	for qtype := uint16(1); int(qtype) < testkit.Rounds(1, 300); qtype++ {
		if qtype != mdns.TypeOPT {
			types = append(types, qtype)
		}
	}
	long := strings.Repeat("a-label-of-forty-octets-in-a-long-name-x.", 6)
	names := []string{"v", "v.gr", "bl.example.org", "virbl.tee.gr", long[:180] + "x"}
	for _, zoneName := range names {
		for _, ns := range [][]string{nil, {"ns." + zoneName}, {long[:200] + "y", long[:200] + "z", "c.example"}} {
			zones := []zone{newZone(ZoneConfig{Name: zoneName, NS: ns, Contact: "hostmaster@" + long[:150] + "x"}, "mx.example.org", list, 1)}
			for _, first := range []string{"", "1.2.0.192.", "255.100.51.198.", "4.3.2.1.", "2.0.0.127.", "9.9.9.9.", "9.9.", "x.", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2."} {
				for _, qtype := range types {
					for edns := range 2 {
						m := new(mdns.Msg).SetQuestion(first+zoneName+".", qtype)
						if edns == 1 {
							m.SetEdns0(4096, true)
						}
						r, _ := ask(t, zones, m, true, true) // it compares the sizes
						asked++
						if !r.Truncated {
							continue
						}
						truncated++
						if len(r.Answer)+len(r.Ns) > 0 {
							t.Errorf("%v: a truncated answer with records", m.Question)
						}
						if full, _ := ask(t, zones, m, true, false); full.Truncated || len(full.Answer)+len(full.Ns) == 0 {
							t.Errorf("%v over TCP: %s", m.Question, shown(full))
						}
					}
				}
			}
		}
	}
	if truncated == 0 || truncated == asked {
		t.Errorf("%d of %d answers were truncated: the test does not test", truncated, asked)
	}
	// A usual zone needs no TCP for anything that clients ask.
	zones := []zone{newZone(ZoneConfig{Name: "virbl.example.org"}, "mx1.example.org", list, 1)}
	for _, first := range []string{"1.2.0.192.", "255.100.51.198.", "4.3.2.1.", "9.9.9.9.", "2.0.0.127."} {
		for _, qtype := range []uint16{mdns.TypeA, mdns.TypeTXT, mdns.TypeAAAA, mdns.TypeANY} {
			if r, _ := ask(t, zones, new(mdns.Msg).SetQuestion(first+"virbl.example.org.", qtype), true, true); r.Truncated {
				t.Errorf("%s%s: truncated", first, mdns.TypeToString[qtype])
			}
		}
	}
}

// A long text is cut within the evidence; how long the listing lasts stays.
func TestLongEvidence(t *testing.T) {
	zones, _ := testZones(t)
	for _, edns := range []bool{true, false} {
		m := new(mdns.Msg).SetQuestion("255.100.51.198.virbl.example.org.", mdns.TypeTXT)
		if edns {
			m.SetEdns0(4096, false)
		}
		for _, datagram := range []bool{true, false} {
			r, _ := ask(t, zones, m, true, datagram)
			text := r.Answer[0].(*mdns.TXT).Txt[0]
			if len(text) > maxText || !strings.HasPrefix(text, "virus: longlong") || !strings.HasSuffix(text, " UTC") || !datagram && len(text) != maxText {
				t.Errorf("EDNS %v, datagram %v: %d octets: %s", edns, datagram, len(text), text)
			}
		}
	}
}

func TestWhoIsNotAnswered(t *testing.T) {
	zones, _ := testZones(t)
	if r, k := ask(t, zones, msg("1.2.0.192.virbl.example.org", mdns.TypeA), false, true); shown(r) != "REFUSED" || k != kindRefused {
		t.Errorf("a client that may not ask: %s", shown(r))
	}
	for name, change := range map[string]func(*mdns.Msg){
		"NOTIMP":  func(m *mdns.Msg) { m.Opcode = mdns.OpcodeNotify },
		"FORMERR": func(m *mdns.Msg) { m.Question = append(m.Question, m.Question[0]) },
		"BADVERS": func(m *mdns.Msg) { m.IsEdns0().SetVersion(1) },
		"REFUSED": func(m *mdns.Msg) { m.Question[0].Qclass = mdns.ClassCHAOS },
		"NOERROR": func(m *mdns.Msg) { m.RecursionDesired, m.CheckingDisabled, m.AuthenticatedData = false, true, true },
	} {
		m := msg("1.2.0.192.virbl.example.org", mdns.TypeA)
		change(m)
		r, _ := ask(t, zones, m, true, true)
		rcode := mdns.RcodeToString[r.Rcode]
		if rcode == "BADSIG" {
			rcode = "BADVERS" // they have the same number
		}
		if rcode != name || r.AuthenticatedData || r.Opcode != m.Opcode {
			t.Errorf("%s: %v", name, r)
		}
	}
	for _, n := range []int{0, 1, 2} {
		m := msg("1.2.0.192.virbl.example.org", mdns.TypeA)
		for range n {
			m.Extra = append(m.Extra, m.Extra[0])
		}
		if n == 0 {
			m.Question = nil
		}
		if r, k := ask(t, zones, m, true, true); r.Rcode != mdns.RcodeFormatError || k != kindMalformed {
			t.Errorf("case %d: %v", n, r)
		}
	}
	m := msg("1.2.0.192.virbl.example.org", mdns.TypeA)
	m.Response = true
	if r, k := ask(t, zones, m, true, true); r != nil || k != kindDropped {
		t.Errorf("an answer was answered: %v", r)
	}
	wire, _ := msg("1.2.0.192.virbl.example.org", mdns.TypeA).Pack()
	for n := range len(wire) {
		out, k := respond(zones, nil, wire[:n], new(question), true, true, time.Now())
		if n < headerSize && (len(out) > 0 || k != kindDropped) || n >= headerSize && (len(out) < headerSize || out[3]&0xf != mdns.RcodeFormatError) {
			t.Errorf("the first %d octets: % x", n, out)
		}
	}
	pointed := append([]byte{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, 0xc0, 12, 0, 1, 0, 1)
	if out, _ := respond(zones, nil, pointed, new(question), true, true, time.Now()); out[3]&0xf != mdns.RcodeFormatError {
		t.Errorf("a name that points to itself: % x", out)
	}
}

// TestMalformedQuestions has what RFC 1035 section 4.1 does not allow.
func TestMalformedQuestions(t *testing.T) {
	zones, _ := testZones(t)
	header := []byte{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	tail := []byte{0, 0, 1, 0, 1}
	label := func(n int) []byte { return append([]byte{byte(n)}, strings.Repeat("a", n)...) }
	join := func(parts ...[]byte) []byte { return slices.Concat(append([][]byte{header}, parts...)...) }
	long := []byte{}
	for range 4 {
		long = append(long, label(63)...)
	}
	record := func(size int) []byte { return []byte{0, 0, 16, 0, 1, 0, 0, 0, 0, 0, byte(size), 1, 2} }
	counted := func(b []byte) []byte { b = slices.Clone(b); b[11] = 1; return b }
	for name, msg := range map[string][]byte{
		"a name of 257 octets":       join(long, tail),
		"a label of 64":              join(label(64), tail),
		"a label of an old type":     join([]byte{0x81, 'a'}, tail),
		"data beyond the message":    counted(join(label(1), tail, record(3))),
		"a record that is not there": counted(join(label(1), tail)),
	} {
		if out, k := respond(zones, nil, msg, new(question), true, false, time.Now()); k != kindMalformed || out[3]&0xf != mdns.RcodeFormatError {
			t.Errorf("%s: % x", name, out)
		}
	}
	for name, msg := range map[string][]byte{"a name of 255 octets": join(label(63), label(63), label(63), label(61), tail), "a record of another kind": counted(join(label(1), tail, record(2)))} {
		if out, k := respond(zones, nil, msg, new(question), true, false, time.Now()); k != kindRefused || out[3]&0xf != mdns.RcodeRefused {
			t.Errorf("%s: % x", name, out)
		}
	}
	for _, name := range []string{"257.2.0.192", "1.2.0.448", "999.2.0.192"} {
		if r, _ := ask(t, zones, msg(name+".virbl.example.org", mdns.TypeA), true, true); r.Rcode != mdns.RcodeNameError {
			t.Errorf("%s: %s", name, shown(r))
		}
	}
	m := msg("bl.other", mdns.TypeA)
	m.Authoritative, m.Truncated, m.RecursionAvailable = true, true, true
	if r, _ := ask(t, zones, m, true, true); shown(r) != "REFUSED" {
		t.Errorf("flags of the question are repeated: %s", shown(r))
	}
}

// Random names: what the answer to one of a client's names is follows from the address alone.
func TestNamesOfClients(t *testing.T) {
	zones, list := testZones(t)
	rounds := testkit.Rounds(2000, 50_000)
	for i := range rounds {
		var addr netip.Addr
		if i%2 == 0 {
			addr = netip.AddrFrom4([4]byte{byte(i * 7), byte(i >> 3), byte(i * 31), byte(i)})
		} else {
			addr = netip.AddrFrom16([16]byte{byte(i * 7), byte(i >> 3), byte(i * 31), 15: byte(i)})
		}
		name, err := mdns.ReverseAddr(addr.String())
		if err != nil {
			t.Fatal(err)
		}
		name = strings.TrimSuffix(strings.TrimSuffix(name, "in-addr.arpa."), "ip6.arpa.") + "virbl.example.org"
		if i%3 == 0 && list.Add(addr, "x", "", 0) != nil {
			continue
		}
		_, want := list.Listed(addr.Unmap())
		r, _ := ask(t, zones, msg(name, mdns.TypeA), true, true)
		if got := len(r.Answer) == 1; got != want && addr.Unmap() != testNever && addr.Unmap() != testListed {
			t.Fatalf("%v: listed %v, answered %s", addr, want, shown(r))
		}
	}
}

// FuzzRespond sends any octets: an answer is one that another implementation understands, to
// the question that was asked, and within its bounds.
func FuzzRespond(f *testing.F) {
	zones, _ := testZones(f)
	for _, name := range []string{"1.2.0.192.virbl.example.org", "2.0.0.127.v", ".", "virbl.example.org", "0.0.192.in.virbl.example.org"} {
		for _, qtype := range []uint16{mdns.TypeA, mdns.TypeTXT, mdns.TypeANY, mdns.TypeSOA, mdns.TypeIXFR} {
			m := msg(name, qtype)
			wire, err := m.Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(wire, true)
			f.Add(wire[:len(wire)-5], false)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, datagram bool) {
		out, k := respond(zones, make([]byte, 0, maxUDP), data, new(question), true, datagram, time.Now())
		if len(out) == 0 {
			if k != kindDropped {
				t.Fatalf("no answer, and %d", k)
			}
			return
		}
		if datagram && (len(out) > maxUDP || len(out) > factor*len(data)) {
			t.Fatalf("%d octets for %d", len(out), len(data))
		}
		r := new(mdns.Msg)
		if err := r.Unpack(out); err != nil {
			t.Fatalf("%v: % x", err, out)
		}
		if out[0] != data[0] || out[1] != data[1] || !r.Response || r.RecursionAvailable {
			t.Fatalf("header of % x", out)
		}
		asked := new(mdns.Msg)
		if asked.Unpack(data) != nil || len(asked.Question) != 1 || asked.Opcode != mdns.OpcodeQuery {
			return
		}
		if len(r.Question) == 1 && r.Question[0] != asked.Question[0] {
			t.Fatalf("asked %v, answered %v", asked.Question, r.Question)
		}
		for _, rr := range r.Answer {
			if rr.Header().Name != asked.Question[0].Name {
				t.Fatalf("asked %v, answered %v", asked.Question, rr)
			}
		}
	})
}

func TestNoAllocation(t *testing.T) {
	zones, _ := testZones(t)
	out, q := make([]byte, 0, maxUDP), new(question)
	for _, name := range []string{"1.2.0.192.virbl.example.org", "2.2.0.192.virbl.example.org", "virbl.example.org"} {
		for _, qtype := range []uint16{mdns.TypeA, mdns.TypeTXT, mdns.TypeSOA} {
			wire, _ := msg(name, qtype).Pack()
			now := time.Now()
			if n := testing.AllocsPerRun(100, func() { respond(zones, out, wire, q, true, true, now) }); n > 0 {
				t.Errorf("%s %s: %v allocations", name, mdns.TypeToString[qtype], n)
			}
		}
	}
}

func BenchmarkRespond(b *testing.B) {
	zones, _ := testZones(b)
	out, q, now := make([]byte, 0, maxUDP), new(question), time.Now()
	for _, name := range []string{"1.2.0.192", "2.2.0.192", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2"} {
		wire, err := msg(name+".virbl.example.org", mdns.TypeA).Pack()
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("labels=%d", strings.Count(name, ".")+1), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				respond(zones, out, wire, q, true, true, now)
			}
		})
	}
}
