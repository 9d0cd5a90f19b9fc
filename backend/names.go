// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// namesFor is how long a backend's addresses are used without asking DNS again.
const namesFor = time.Minute

// addressesMax is how many of a name's addresses are tried.
const addressesMax = 16

// names remembers a backend's addresses. When DNS fails the last ones are used on.
type names struct {
	mu    sync.Mutex
	ips   []netip.Addr
	until time.Time
}

var errNoAddress = errors.New("the name has no address")

// lookup gives the addresses to try, in the resolver's order (RFC 6724).
func (b *Backend) lookup(ctx context.Context, set *settings) ([]netip.Addr, error) {
	if ip, ok := b.addr.IP(); ok {
		return []netip.Addr{ip}, nil
	}
	b.names.mu.Lock()
	ips, fresh := b.names.ips, time.Now().Before(b.names.until)
	b.names.mu.Unlock()
	if fresh {
		return ips, nil
	}
	ctx, cancel := context.WithTimeout(ctx, set.Connect.Std())
	defer cancel()
	found, err := b.tune.lookup(ctx, b.addr.Host)
	if err == nil && len(found) == 0 {
		err = errNoAddress
	}
	if err != nil {
		if len(ips) > 0 {
			return ips, nil
		}
		return nil, err
	}
	found = found[:min(len(found), addressesMax)]
	for i := range found {
		found[i] = found[i].Unmap()
	}
	b.names.mu.Lock()
	b.names.ips, b.names.until = found, time.Now().Add(namesFor)
	b.names.mu.Unlock()
	return found, nil
}
