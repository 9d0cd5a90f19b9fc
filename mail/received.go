// SPDX-License-Identifier: BSD-2-Clause

package mail

import (
	"net/netip"
	"regexp"
	"strings"
)

// bracketed finds addresses in Received fields: "[192.0.2.1]", "(IPv6:2001:db8::1)".
var bracketed = regexp.MustCompile(`(?i)[\[(](?:ipv6:)?([0-9a-f]*[.:][0-9a-f.:]+)[\])]`)

// SourceIP gives the first public address that the Received fields say mail came from, the
// newest field first: where it entered the site that keeps it. It is not valid if there is
// none.
func (h Header) SourceIP() netip.Addr {
	for _, value := range h.Values("Received") {
		from, _, _ := strings.Cut(value, " by ")
		for _, m := range bracketed.FindAllStringSubmatch(from, 4) {
			if ip, err := netip.ParseAddr(m[1]); err == nil && isPublic(ip.Unmap()) {
				return ip.Unmap()
			}
		}
	}
	return netip.Addr{}
}

// shared is the address space of carriers (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")

// isPublic reports whether an address can be somebody else's on the internet.
func isPublic(ip netip.Addr) bool {
	return ip.IsGlobalUnicast() && !ip.IsPrivate() && !shared.Contains(ip)
}

// Network gives the network that an address stands for in counts: its /24, or /64 in IPv6;
// "" for one that is not valid.
func Network(ip netip.Addr) string {
	if !ip.IsValid() {
		return ""
	}
	bits := 24
	if ip.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(ip, bits).Masked().String()
}
