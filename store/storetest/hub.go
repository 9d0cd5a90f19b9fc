// SPDX-License-Identifier: BSD-2-Clause

package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"rcptgate/store"
)

// Hub is what several gateways have in common, as store/memcached does it, but in
// memory and without anything that happens by itself: tombstones are exchanged when a
// test says so. It can be down, and lose everything.
type Hub struct {
	now func() time.Time

	mu         sync.Mutex
	records    map[string]hubRecord
	tombstones map[store.Pattern]time.Time
	by         map[store.Pattern]string
	listed     bool // the list of tombstones is there
	leases     map[string]*int
	down       bool
	gets       int
	puts       int
}

type hubRecord struct {
	rec        store.Record
	generation time.Time
}

// NewHub makes an empty hub; now is its clock.
func NewHub(now func() time.Time) *Hub {
	h := &Hub{now: now}
	h.Lose()
	return h
}

// Lose makes the hub empty, as a restart does.
func (h *Hub) Lose() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.records, h.leases, h.listed = map[string]hubRecord{}, map[string]*int{}, false
	h.tombstones, h.by = map[store.Pattern]time.Time{}, map[store.Pattern]string{}
}

// Drop evicts one key.
func (h *Hub) Drop(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.records, key)
}

// SetDown kills the hub, or brings it back with what it had.
func (h *Hub) SetDown(down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
}

// Counts are the records read and written so far.
func (h *Hub) Counts() (gets, puts int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.gets, h.puts
}

// Gateway gives one gateway's way to the hub.
func (h *Hub) Gateway() *Gateway { return &Gateway{hub: h, tombstones: map[store.Pattern]time.Time{}} }

// Gateway is a store.Shared. What it knows of tombstones is its own.
type Gateway struct {
	hub        *Hub
	tombstones map[store.Pattern]time.Time // guarded by hub.mu
	newest     time.Time
	forgotten  func(store.Tombstone)
	lost       func()
	closed     bool

	// Name is what the others get as the name of the gateway that forgot.
	Name string
	// BeforeKnown, if set, is called in an exchange when forgotten has been called for
	// everything, and before that takes effect.
	BeforeKnown func()
}

var _ store.Shared = (*Gateway)(nil)

// Start exchanges once.
func (g *Gateway) Start(known []store.Tombstone, forgotten func(store.Tombstone), lost func()) {
	g.hub.mu.Lock()
	for _, t := range known {
		g.know(t.Pattern, t.When)
	}
	g.forgotten, g.lost = forgotten, lost
	g.hub.mu.Unlock()
	_ = g.Exchange() // one that is down gets it later
}

func (g *Gateway) know(p store.Pattern, when time.Time) {
	if when.After(g.tombstones[p]) {
		g.tombstones[p] = when
	}
	if when.After(g.newest) {
		g.newest = when
	}
}

// Exchange reads and writes the hub's list, as a gateway does every now and then. It
// fails with store.ErrUnpublished when the hub is down.
func (g *Gateway) Exchange() error {
	g.hub.mu.Lock()
	if g.hub.down {
		g.hub.mu.Unlock()
		return store.ErrUnpublished
	}
	listed, theirs, by := g.hub.listed, maps.Clone(g.hub.tombstones), maps.Clone(g.hub.by)
	for p, when := range g.tombstones {
		if when.After(g.hub.tombstones[p]) {
			g.hub.tombstones[p], g.hub.by[p] = when, g.Name
		}
	}
	g.hub.listed = true
	g.hub.mu.Unlock()
	for p, when := range theirs {
		g.hub.mu.Lock()
		known := !when.After(g.tombstones[p])
		g.hub.mu.Unlock()
		if !known && g.forgotten != nil {
			g.forgotten(store.Tombstone{Pattern: p, When: when, By: by[p]})
		}
	}
	if g.BeforeKnown != nil {
		g.BeforeKnown()
	}
	g.hub.mu.Lock()
	for p, when := range theirs {
		g.know(p, when)
	}
	g.hub.mu.Unlock()
	if !listed && g.lost != nil {
		g.lost()
	}
	return nil
}

// After gives a time for a new tombstone.
func (g *Gateway) After(now time.Time) time.Time {
	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()
	if now.After(g.newest) {
		return now
	}
	return g.newest.Add(1)
}

// Knows reports whether t has taken effect.
func (g *Gateway) Knows(t store.Tombstone) bool {
	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()
	return !t.When.After(g.tombstones[t.Pattern])
}

// Forget publishes t.
func (g *Gateway) Forget(_ context.Context, t store.Tombstone) (int, error) {
	g.hub.mu.Lock()
	if g.closed {
		g.hub.mu.Unlock()
		return 0, store.ErrClosed
	}
	g.know(t.Pattern, t.When)
	g.hub.mu.Unlock()
	return 0, g.Exchange()
}

// Down reports whether the hub is.
func (g *Gateway) Down() bool {
	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()
	return g.hub.down
}

// Server names the hub.
func (g *Gateway) Server(string) string { return "hub" }

// usable is called with the lock held.
func (g *Gateway) usable() error {
	switch {
	case g.closed:
		return store.ErrClosed
	case g.hub.down:
		return store.ErrDown
	}
	return nil
}

// Get gives the record under key, unless it has been forgotten as far as this gateway
// knows.
func (g *Gateway) Get(_ context.Context, key string) (store.Record, error) {
	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()
	if err := g.usable(); err != nil {
		return store.Record{}, err
	}
	g.hub.gets++
	return g.get(key)
}

func (g *Gateway) get(key string) (store.Record, error) {
	r, ok := g.hub.records[key]
	if !ok || !r.rec.Expire().After(g.hub.now()) {
		return store.Record{}, store.ErrNotFound
	}
	if g.generation(key).After(r.generation) {
		return store.Record{}, store.ErrNotFound
	}
	return r.rec, nil
}

// generation is the newest tombstone known that matches key.
func (g *Gateway) generation(key string) (newest time.Time) {
	for _, p := range []store.Pattern{{}, {Domain: store.Domain(key)}, {Address: key}} {
		if g.tombstones[p].After(newest) {
			newest = g.tombstones[p]
		}
	}
	return newest
}

// GetMany is Get for several keys.
func (g *Gateway) GetMany(ctx context.Context, keys []string) (map[string]store.Record, error) {
	found := map[string]store.Record{}
	for _, key := range keys {
		rec, err := g.Get(ctx, key)
		switch {
		case err == nil:
			found[key] = rec
		case !errors.Is(err, store.ErrNotFound):
			return found, err
		}
	}
	return found, nil
}

// Put keeps rec at once.
func (g *Gateway) Put(_ context.Context, key string, rec store.Record) error {
	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()
	if err := g.usable(); err != nil {
		return err
	}
	if len(key) > store.MaxKey {
		return nil
	}
	g.hub.puts++
	if rec.IsZero() || !rec.Expire().After(g.hub.now()) {
		delete(g.hub.records, key)
		return nil
	}
	g.hub.records[key] = hubRecord{store.Bound(rec), g.generation(key)}
	return nil
}

// Add is Put unless something is there, forgotten or not.
func (g *Gateway) Add(ctx context.Context, key string, rec store.Record) error {
	g.hub.mu.Lock()
	old, there := g.hub.records[key]
	there = there && old.rec.Expire().After(g.hub.now())
	g.hub.mu.Unlock()
	if there {
		return nil
	}
	return g.Put(ctx, key, rec)
}

// Delete takes keys out.
func (g *Gateway) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := g.Put(ctx, key, store.Record{}); err != nil {
			return err
		}
	}
	return nil
}

// Range gives nothing.
func (g *Gateway) Range(ctx context.Context, _ store.Pattern, _ func(string, store.Record) bool) error {
	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()
	if g.closed {
		return store.ErrClosed
	}
	return ctx.Err()
}

// Lease takes the lease; it does not end by itself.
func (g *Gateway) Lease(_ context.Context, key, route string) (release func(), err error) {
	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()
	if err := g.usable(); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%q %q", key, route)
	if g.hub.leases[name] != nil {
		return nil, store.ErrLeased
	}
	mine := new(int)
	g.hub.leases[name] = mine
	return func() {
		g.hub.mu.Lock()
		defer g.hub.mu.Unlock()
		if g.hub.leases[name] == mine {
			delete(g.hub.leases, name)
		}
	}, nil
}

// Await looks at a record and a lease.
func (g *Gateway) Await(_ context.Context, key, route string) (rec store.Record, leased bool, err error) {
	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()
	if err := g.usable(); err != nil {
		return store.Record{}, false, err
	}
	rec, _ = g.get(key)
	return rec, g.hub.leases[fmt.Sprintf("%q %q", key, route)] != nil, nil
}

// Stats counts what the hub holds.
func (g *Gateway) Stats() store.Stats {
	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()
	return store.Stats{Name: "memcached", Entries: int64(len(g.hub.records)), Capacity: 1 << 40, Hits: 1 << 40, Misses: 1 << 40}
}

// Close ends this gateway's way.
func (g *Gateway) Close() error {
	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()
	g.closed = true
	return nil
}
