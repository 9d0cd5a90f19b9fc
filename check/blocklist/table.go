// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"encoding/binary"
	"maps"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"rcptgate"
)

// entry is what is known of one network. It does not change once it is in a table.
type entry struct {
	rcptgate.Listing
	life    time.Duration // of this listing, doubled with each repeat
	removed time.Time     // by a person; zero: it was not. Evidence before it does not count
}

// active reports whether the network is listed at now.
func (e *entry) active(now time.Time) bool { return now.Before(e.Until) }

// table is the entries of one list. Readers take no lock: a writer, of which there is one at
// a time, copies the shard that it changes. Listing is rare, and a shard holds some dozens of
// entries.
type table struct {
	shards []atomic.Pointer[map[netip.Addr]*entry]
	seed   [2]uint64
	bits   [2]int // of the networks' prefixes: IPv4, IPv6

	count   atomic.Int64
	evicted atomic.Uint64
}

// perShard is how many entries a full table has in each shard.
const perShard = 64

func newTable(limit, ipv6Bits int) *table {
	shards := 1 << bits.Len(uint(max(limit/perShard, 1)-1)) // #nosec G115 -- not negative
	return &table{
		shards: make([]atomic.Pointer[map[netip.Addr]*entry], shards), bits: [2]int{32, ipv6Bits},
		seed: [2]uint64{rand.Uint64(), rand.Uint64()}, // #nosec G404 -- who could guess it would see slower look-ups
	}
}

// network is what is listed for a client; ok is false for none.
func (t *table) network(client netip.Addr) (network netip.Prefix, ok bool) {
	client = client.Unmap()
	if !client.IsValid() {
		return netip.Prefix{}, false
	}
	n := t.bits[0]
	if client.Is6() {
		n = t.bits[1]
	}
	network, err := client.Prefix(n) // without a zone
	return network, err == nil
}

// at is the shard of an address.
func (t *table) at(a netip.Addr) int {
	octets := a.As16()
	hi, lo := bits.Mul64(binary.BigEndian.Uint64(octets[:8])^t.seed[0], binary.BigEndian.Uint64(octets[8:])^t.seed[1])
	return int((hi ^ lo) & uint64(len(t.shards)-1)) // #nosec G115 -- an index
}

// load gives the entries of a shard, not to be changed.
func (t *table) load(at int) map[netip.Addr]*entry {
	if p := t.shards[at].Load(); p != nil {
		return *p
	}
	return nil
}

func (t *table) store(at int, m map[netip.Addr]*entry) { t.shards[at].Store(&m) }

// get gives the entry of the network that a client is in; nil if there is none.
func (t *table) get(client netip.Addr) *entry {
	network, ok := t.network(client)
	if !ok {
		return nil
	}
	return t.load(t.at(network.Addr()))[network.Addr()]
}

// update gives change the entry of a network, nil if there is none, and puts what it gives
// back into its place; nil deletes. A new entry in a table that holds limit makes room first.
func (t *table) update(network netip.Prefix, limit int, change func(old *entry) *entry) (now *entry) {
	key := network.Addr()
	at := t.at(key)
	old := t.load(at)[key]
	now = change(old)
	if now == old {
		return now
	}
	if old == nil && t.count.Load() >= int64(limit) {
		t.evict(at)
	}
	shard := t.load(at)
	next := make(map[netip.Addr]*entry, len(shard)+1)
	maps.Copy(next, shard)
	if now == nil {
		delete(next, key)
	} else {
		next[key] = now
	}
	t.store(at, next)
	t.count.Add(int64(len(next) - len(shard)))
	return now
}

// move puts an entry of a table, or of a file, with perhaps another length of networks into this
// one. An entry of the same network is replaced, those of smaller networks are joined, and one
// of a larger network is left out: who of it has done harm is not known.
func (t *table) move(e *entry, limit int) {
	network, ok := t.network(e.Network.Addr())
	if !ok || e.Network.Bits() < network.Bits() {
		return
	}
	t.update(network, limit, func(old *entry) *entry {
		if e.Network == network {
			return e
		}
		moved := *e
		moved.Network = network
		return merge(old, &moved)
	})
}

// evict drops the entry that ends first of a shard, or of the next one that has any.
func (t *table) evict(from int) {
	for i := range t.shards {
		at := (from + i) % len(t.shards)
		var first *entry
		for _, e := range t.load(at) {
			if first == nil || e.Until.Before(first.Until) {
				first = e
			}
		}
		if first == nil {
			continue
		}
		next := maps.Clone(t.load(at))
		delete(next, first.Network.Addr())
		t.store(at, next)
		t.count.Add(-1)
		t.evicted.Add(1)
		return
	}
}

// each calls f for every entry until it returns false. What is written meanwhile may be
// seen or not.
func (t *table) each(f func(*entry) bool) { t.eachFrom(0, f) }

// eachFrom is each that begins elsewhere, for a caller that may not come to the end.
func (t *table) eachFrom(from int, f func(*entry) bool) {
	for i := range t.shards {
		for _, e := range t.load((from + i) % len(t.shards)) {
			if !f(e) {
				return
			}
		}
	}
}
