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
