// SPDX-License-Identifier: BSD-2-Clause

package dns

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// TestNamesOfZones holds which names, contacts and values a zone may have, at their bounds.
func TestNamesOfZones(t *testing.T) {
	label := strings.Repeat("x", 63)
	name := func(octets int) string { // whose wire form has so many
		text := label + "." + label + "." + label + "."
		return text[:octets-2]
	}
	for change, good := range map[*ZoneConfig]bool{
		{Name: "aZ.z-A.09_x"}: true, {Name: "a.b."}: true, {Name: "."}: false, {Name: "a/b"}: false, {Name: "a:b"}: false, {Name: "a@b"}: false, {Name: "a[b"}: false, {Name: "a`b"}: false,
		{Name: "a{b"}: false, {Name: "a*b"}: false, {Name: "é"}: false, {Name: `a\046b`}: false,
		{Name: name(maxName - longestClient)}: true, {Name: name(maxName - longestClient + 1)}: false,
		{Name: "a.b", Contact: "x@c.d"}: true, {Name: "a.b", Contact: "@c.d"}: false, {Name: "a.b", Contact: "x@"}: false, {Name: "a.b", Contact: "x@c d"}: false,
		{Name: "a.b", Contact: label + "@c.d"}: true, {Name: "a.b", Contact: label + "x@c.d"}: false,
		{Name: "a.b", NS: []string{"a.b", "c.d."}}: true, {Name: "a.b", NS: []string{"a.b", ""}}: false,
		{Name: "a.b", Value: "127.255.255.255"}: true, {Name: "a.b", Value: "::1"}: false, {Name: "a.b", Value: "::ffff:127.0.0.2"}: false, {Name: "a.b", Value: "x"}: false,
	} {
		change.List = "virus"
		if errs := change.validate("zones[1]."); (len(errs) == 0) != good {
			t.Errorf("%+v: %v", change, errs)
		}
	}
	if longestClient != len(strings.Repeat("0.", 32)) {
		t.Errorf("a client's name needs %d octets", longestClient)
	}
}

// TestTextsAreASCII holds that nothing else stands in a TXT record.
func TestTextsAreASCII(t *testing.T) {
	zones, list := testZones(t)
	if err := list.Add(netip.MustParseAddr("192.0.2.78"), "a\x01b\x1f~\x7fé", "", 0); err != nil {
		t.Fatal(err)
	}
	out, _ := respond(zones, nil, mustPack(t, msg("78.2.0.192.virbl.example.org", mdns.TypeTXT)), new(question), true, true, time.Now())
	if !strings.Contains(string(out), "virus: a?b?~???, until ") {
		t.Errorf("%q", out)
	}
}

func mustPack(t *testing.T, m *mdns.Msg) []byte {
	t.Helper()
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

// TestAlmostClients asks for names that are nearly those of clients, which do not exist.
func TestAlmostClients(t *testing.T) {
	zones, _ := testZones(t)
	code := func(name string) string {
		r, _ := ask(t, zones, msg(name, mdns.TypeA), true, true)
		return mdns.RcodeToString[r.Rcode]
	}
	for _, label := range []string{"256", "999", "1000", "01", "00", "1a", "/", ":", "-1", "/1", "1:", "x"} {
		for name, want := range map[string]string{label + ".2.0.192": "NXDOMAIN", "1.2.0." + label: "NXDOMAIN"} {
			if got := code(name + ".virbl.example.org"); got != want {
				t.Errorf("%s: %s", name, got)
			}
		}
	}
	for label, want := range map[string]string{
		"0": "NOERROR", "9": "NOERROR", "a": "NOERROR", "f": "NOERROR", "A": "NOERROR", "F": "NOERROR", "255": "NOERROR", "0.0": "NOERROR", "192.": "NOERROR",
		"g": "NXDOMAIN", "G": "NXDOMAIN", "@": "NXDOMAIN", "`": "NXDOMAIN", "/": "NXDOMAIN", ":": "NXDOMAIN", "ab": "NXDOMAIN", "256": "NXDOMAIN", "a.192": "NXDOMAIN", "192.a": "NXDOMAIN",
	} {
		if got := code(strings.TrimSuffix(label, ".") + ".virbl.example.org"); got != want {
			t.Errorf("%s: %s, want %s", label, got, want)
		}
	}
	if got := code("0." + strings.Repeat("0.", 32) + "virbl.example.org"); got != "NXDOMAIN" {
		t.Errorf("33 nibbles: %s", got)
	}
}

// TestOtherRecords has records in a question that say nothing of EDNS, and OPT records where they
// must not be (RFC 6891 section 6.1.1).
func TestOtherRecords(t *testing.T) {
	zones, _ := testZones(t)
	plain := func() *mdns.Msg { return new(mdns.Msg).SetQuestion("1.2.0.192.virbl.example.org.", mdns.TypeA) }
	record := func(text string) mdns.RR {
		rr, err := mdns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		return rr
	}
	opt := func(name string) *mdns.OPT {
		o := new(mdns.OPT)
		o.Hdr.Name, o.Hdr.Rrtype = name, mdns.TypeOPT
		return o
	}
	for name, tt := range map[string]struct {
		change func(*mdns.Msg)
		rcode  int
		edns   bool
	}{
		"none":            {func(*mdns.Msg) {}, mdns.RcodeSuccess, false},
		"another":         {func(m *mdns.Msg) { m.Extra = append(m.Extra, record("a.example. 1 IN A 192.0.2.1")) }, mdns.RcodeSuccess, false},
		"another and OPT": {func(m *mdns.Msg) { m.Extra = append(m.Extra, record("a.example. 1 IN A 192.0.2.1"), opt(".")) }, mdns.RcodeSuccess, true},
		"others in front": {func(m *mdns.Msg) {
			m.Answer, m.Ns = append(m.Answer, record("a.example. 1 IN A 192.0.2.1")), append(m.Ns, record("a.example. 1 IN NS b.example."))
		}, mdns.RcodeSuccess, false},
		"OPT of a name":       {func(m *mdns.Msg) { m.Extra = append(m.Extra, opt("a.example.")) }, mdns.RcodeFormatError, false},
		"OPT among authority": {func(m *mdns.Msg) { m.Ns = append(m.Ns, opt(".")) }, mdns.RcodeFormatError, false},
		"OPT twice":           {func(m *mdns.Msg) { m.Extra = append(m.Extra, opt("."), opt(".")) }, mdns.RcodeFormatError, true},
	} {
		m := plain()
		tt.change(m)
		r, _ := ask(t, zones, m, true, true)
		if r.Rcode != tt.rcode || (r.IsEdns0() != nil) != tt.edns {
			t.Errorf("%s: %v", name, r)
		}
	}
}

// TestNamesOfOtherRecords has a record behind the question whose name is written in every way.
func TestNamesOfOtherRecords(t *testing.T) {
	all, _ := testZones(t)
	labels := func(n int) string { return strings.Repeat("\x01a", n) }
	long := func(n byte) string { return string(rune(n)) + strings.Repeat("x", int(n)) }
	const rest = "\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\x7f\x00\x00\x02"
	for name, want := range map[string]int{
		"\x00": mdns.RcodeSuccess, "\xc0\x0c": mdns.RcodeSuccess, "\xff\xff": mdns.RcodeSuccess, "\x01a\xc0\x0c": mdns.RcodeSuccess, long(63) + "\x00": mdns.RcodeSuccess,
		labels(maxLabels) + "\x00": mdns.RcodeSuccess, labels(maxLabels+1) + "\x00": mdns.RcodeFormatError,
		long(64) + "\x00": mdns.RcodeFormatError, "\xbf" + strings.Repeat("x", 0xbf) + "\x00": mdns.RcodeFormatError, "\x40\x00": mdns.RcodeFormatError,
	} {
		m := mustPack(t, new(mdns.Msg).SetQuestion("1.2.0.192.virbl.example.org.", mdns.TypeA))
		m[11] = 1 // one more record
		out, _ := respond(all, nil, append(append(m, name...), rest...), new(question), true, true, time.Now())
		if len(out) < headerSize || int(out[3]&0xf) != want {
			t.Errorf("%.20q: % x", name, out)
		}
	}
	z := &zones{allow: []Allowed{{Trusted: true}}}
	if z.allows(netip.MustParseAddr("192.0.2.1")) || !z.allows(netip.MustParseAddr("::ffff:127.0.0.1")) {
		t.Error("who may ask without trusted networks")
	}
}
