// SPDX-License-Identifier: BSD-2-Clause

package fronttest

import (
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/kit/testkit"
	"rcptgate/unit"
)

// List is a blocklist for tests of fronts: a plain map. Code and Words are its reply.
type List struct {
	Code     int
	Words    string
	Rehearse bool // it refuses nobody
	name     string

	mu       sync.Mutex
	listings map[netip.Addr]rcptgate.Listing
}

// NewList makes an empty list.
func NewList(name string) *List {
	return &List{name: name, listings: map[netip.Addr]rcptgate.Listing{}}
}

// Lists is a unit that has the lists in each configuration.
func Lists(lists ...*List) unit.Unit {
	return unit.Unit{Name: "testlists", Open: unit.Steps(func(s *unit.Setup) error {
		s.Blocklists = map[string]rcptgate.Blocklist{}
		for _, l := range lists {
			s.Blocklists[l.name] = l
		}
		return nil
	})}
}

// Name and Enforced are what the list was made with.
func (l *List) Name() string   { return l.name }
func (l *List) Enforced() bool { return !l.Rehearse }

// Refusal is its reply.
func (l *List) Refusal() (code int, text string) { return l.Code, l.Words }

// Listed finds a listing that has not ended.
func (l *List) Listed(client netip.Addr) (rcptgate.Listing, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	one, ok := l.listings[client]
	return one, ok && time.Now().Before(one.Until)
}

// Add lists a client; a life of 0 is an hour.
func (l *List) Add(client netip.Addr, evidence, queueID string, life time.Duration) error {
	if client.IsUnspecified() {
		return errors.New("never listed")
	}
	if life == 0 {
		life = time.Hour
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listings[client] = rcptgate.Listing{
		Network: netip.PrefixFrom(client, client.BitLen()), First: now, Last: now, Until: now.Add(life), Count: 1, Evidence: evidence, QueueID: queueID,
	}
	return nil
}

// Remove ends a listing.
func (l *List) Remove(client netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.listings[client]
	delete(l.listings, client)
	return ok
}

// Each calls f for each listing.
func (l *List) Each(f func(rcptgate.Listing) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, one := range l.listings {
		if !f(one) {
			return
		}
	}
}

// Start runs a host of units with a configuration, which says where things are with "DIR" for
// a directory of the test's. It gives that directory.
func Start(t testing.TB, text string, units ...unit.Unit) (*unit.Host, string) {
	t.Helper()
	return start(t, testkit.Dir(t), text, units...)
}
