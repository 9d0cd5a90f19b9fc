// SPDX-License-Identifier: BSD-2-Clause

package dns

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"rcptgate"
)

// zone is a list as it is served.
type zone struct {
	name   []byte // of the zone in wire format and lower case
	labels int    // without the empty one
	list   rcptgate.Blocklist
	value  [4]byte
	soa    record
	ns     []record
	text   string // its name, for people
}

// record is the data of a record, which may end with the zone's own name: then only what is
// before it is kept, and the message points to where the name is.
type record struct {
	parts []part
}

// part is octets, and after them perhaps the zone's name.
type part struct {
	octets []byte
	zone   bool
}

// Times to live, in seconds.
const (
	maxTTL    = 300  // of a listing
	absentTTL = 60   // of its absence, RFC 2308
	zoneTTL   = 3600 // of the zone's name servers
)

// newZone prepares a zone whose configuration is valid.
func newZone(c ZoneConfig, hostname string, list rcptgate.Blocklist, serial uint32) zone {
	z := zone{name: packed(c.Name), list: list, value: [4]byte{127, 0, 0, 2}, text: c.Name}
	z.labels = mdns.CountLabel(mdns.Fqdn(c.Name))
	if c.Value != "" {
		z.value = netip.MustParseAddr(c.Value).As4()
	}
	servers := c.NS
	if len(servers) == 0 {
		servers = []string{hostname}
	}
	for _, s := range servers {
		z.ns = append(z.ns, record{[]part{z.nameOf(packed(s))}})
	}
	times := make([]byte, 20) // RFC 1035 section 3.3.13
	for i, v := range []uint32{serial, 3600, 600, 86400, absentTTL} {
		binary.BigEndian.PutUint32(times[4*i:], v)
	}
	z.soa = record{[]part{z.nameOf(packed(servers[0])), z.nameOf(contact(c)), {octets: times}}}
	return z
}

// contact is the mailbox of the zone's keeper as a name (RFC 1035 section 3.3.13).
func contact(c ZoneConfig) []byte {
	local, domain, _ := strings.Cut(cmp.Or(c.Contact, "hostmaster@"+c.Name), "@")
	return append(append([]byte{byte(len(local))}, local...), packed(domain)...)
}

// packed is a valid name in wire format and lower case.
func packed(name string) []byte {
	wire := make([]byte, maxName+1)
	end, err := mdns.PackDomainName(mdns.Fqdn(strings.ToLower(name)), wire, 0, nil, false)
	if err != nil {
		return []byte{0} // not one that Validate lets through
	}
	return wire[:end]
}

// nameOf leaves the zone's own name, if a name ends with it, to be pointed to.
func (z *zone) nameOf(name []byte) part {
	for at := 0; at < len(name); at += 1 + int(name[at]) {
		if bytes.Equal(name[at:], z.name) {
			return part{name[:at], true}
		}
	}
	return part{name, false}
}

// holds reports whether a question's name is the zone's or below it.
func (z *zone) holds(q *question) bool {
	first := q.count - z.labels
	if first < 0 {
		return false
	}
	at := len(q.name) - 1
	if z.labels > 0 {
		at = int(q.labels[first])
	}
	return equalFold(q.name[at:], z.name)
}

// equalFold compares names in wire format, the second of them in lower case. Lengths of labels
// are below 'A'.
func equalFold(name, lower []byte) bool {
	if len(name) != len(lower) {
		return false
	}
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// findZone gives the zone of a name, the innermost if there are several; nil if it is in none.
func findZone(zones []zone, q *question) *zone {
	for i := range zones {
		if zones[i].holds(q) {
			return &zones[i]
		}
	}
	return nil
}

// sortZones has inner zones come first.
func sortZones(zones []zone) {
	slices.SortStableFunc(zones, func(a, b zone) int { return b.labels - a.labels })
}

// The test entries of RFC 5782 section 5. ::FFFF:7F00:2 is 127.0.0.2 here.
var (
	testListed = netip.AddrFrom4([4]byte{127, 0, 0, 2})
	testNever  = netip.AddrFrom4([4]byte{127, 0, 0, 1})
)

// find looks a client up. left is how long the listing still lasts.
func (z *zone) find(addr netip.Addr, now time.Time) (l rcptgate.Listing, left time.Duration, listed bool) {
	switch {
	case addr == testNever:
		return l, 0, false
	case addr == testListed:
		return rcptgate.Listing{Evidence: "test entry"}, maxTTL * time.Second, true
	case !z.list.Enforced(): // in rehearsal: empty
		return l, 0, false
	}
	if l, listed = z.list.Listed(addr); !listed {
		return l, 0, false
	}
	return l, l.Until.Sub(now), true
}
