// SPDX-License-Identifier: BSD-2-Clause

package harvest

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"time"

	"rcptgate/kit/recent"
)

// window counts in two halves of a time: what is counted is what came within its last half
// at least, the whole of it at most.
type window struct {
	half     int64 // number of the half that now is about
	now, old uint32
}

// at is the count at a time.
func (w *window) at(t time.Time, length time.Duration) int {
	switch half := number(t, length); {
	case half < w.half-1: // the clock was set back far: what was counted would never end
		return 0
	case half <= w.half: // a clock that was set back a little counts on
		return int(w.now + w.old)
	case half == w.half+1:
		return int(w.now)
	}
	return 0
}

func (w *window) add(t time.Time, length time.Duration) {
	switch half := number(t, length); {
	case half == w.half+1:
		*w = window{half: half, old: w.now}
	case half > w.half, half < w.half-1:
		*w = window{half: half}
	}
	w.now++
}

func number(t time.Time, length time.Duration) int64 { return t.UnixNano() / int64(length/2) }

// history is what a client, or a network, has heard.
type history struct{ quick, slow window }

// keys of one table are addresses of clients, of the other of networks.
const (
	shards  = 64
	entries = 100_000
)

// table keeps histories. Its shards have a lock each: clients wait for each other only by
// chance.
type table struct {
	seed   uint64
	shards [shards]*recent.Map[netip.Addr, history]
}

func newTable() *table {
	t := &table{seed: rand.Uint64()} // #nosec G404 -- it only spreads clients
	for i := range t.shards {
		t.shards[i] = recent.New[netip.Addr, history](entries / shards)
	}
	return t
}

func (t *table) of(a netip.Addr) *recent.Map[netip.Addr, history] {
	octets := a.As16()
	hi, lo := bits.Mul64(binary.BigEndian.Uint64(octets[:8])^t.seed, binary.BigEndian.Uint64(octets[8:])^bits.Reverse64(t.seed))
	return t.shards[(hi^lo)%shards]
}

// keysOf gives what is counted for a client: itself or its IPv6 /64, and the network around.
func keysOf(client netip.Addr) (one, network netip.Addr) {
	client = client.Unmap().WithZone("")
	if client.Is4() {
		p, _ := client.Prefix(24)
		return client, p.Addr()
	}
	p, _ := client.Prefix(64)
	q, _ := client.Prefix(48)
	return p.Addr(), q.Addr()
}
