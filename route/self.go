// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"net"
	"net/netip"
)

// ownAddresses gives a test for the addresses of this machine's interfaces as they
// are now. Loopback and unspecified addresses always count.
func ownAddresses() func(netip.Addr) bool {
	own := make(map[netip.Addr]bool)
	list, err := net.InterfaceAddrs()
	if err == nil { // without it, loopback and our own name are still recognised
		for _, a := range list {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				own[p.Addr().Unmap().WithZone("")] = true
			}
		}
	}
	return func(a netip.Addr) bool {
		a = a.Unmap().WithZone("")
		return a.IsLoopback() || a.IsUnspecified() || own[a]
	}
}
