// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate"
	"rcptgate/kit/notice"
	"rcptgate/pattern"
)

// List is a blocklist under one configuration. It implements [rcptgate.Blocklist].
type List struct {
	*state
	cfg      Config
	enforced bool
	never    *never
	names    *pattern.Set // of hosts that are never listed
	evidence *pattern.Set // of signatures
	exempt   *pattern.Set
	dns      *dns
	exchange *exchange // nil: nothing is shared
	notices  *notice.Board
	verdict  rcptgate.Verdict
}

var _ rcptgate.Blocklist = (*List)(nil)

// state is what of a list outlives configurations.
type state struct {
	name    string
	log     *slog.Logger
	now     func() time.Time
	journal journal
	loaded  bool
	swept   time.Time

	writing sync.Mutex // of those who change the table, or replace it
	changed []*entry   // not yet in the journal
	all     bool       // so many have changed that all are to be written
	edition atomic.Uint64
	table   atomic.Pointer[table]
	refused atomic.Uint64
	listed  atomic.Uint64 // listings begun
	spared  atomic.Uint64 // clients with a virus, and much clean mail
	traffic atomic.Pointer[traffic]
}

func newState(name string, cfg *Config, log *slog.Logger, now func() time.Time) *state {
	s := &state{name: name, log: log, now: now}
	s.table.Store(newTable(cfg.Entries, cfg.IPv6Prefix))
	s.traffic.Store(newTraffic(cfg.For.Std(), cfg.Entries))
	return s
}

// Name is the list's name.
func (l *List) Name() string { return l.name }

// Enforced reports whether the list refuses anybody.
func (l *List) Enforced() bool { return l.enforced }

// Refusal is the reply to listed clients, for those that answer in the gate's place.
func (l *List) Refusal() (code int, text string) { return l.cfg.Code, l.cfg.Text }

// Listed finds the listing that covers a client.
func (l *List) Listed(client netip.Addr) (rcptgate.Listing, bool) {
	if e := l.find(client, l.now()); e != nil {
		return e.Listing, true
	}
	return rcptgate.Listing{}, false
}

// find gives the entry by which a client is listed; nil if it is not.
func (l *List) find(client netip.Addr, now time.Time) *entry {
	e := l.table.Load().get(client)
	if e == nil || !e.active(now) || l.never.has(client) != "" { // a network may have become trusted since
		return nil
	}
	return e
}

// Add lists a client for a while; life 0 is the list's own. Nobody is listed for longer than
// for_max. Where DNS is asked first who is never listed, that is done in the background.
func (l *List) Add(client netip.Addr, evidence, queueID string, life time.Duration) error {
	if _, err := l.mayList(client); err != nil {
		return err
	}
	l.accuse(accusation{list: l, client: client, evidence: evidence, queueID: queueID, life: life})
	return nil
}

// mayList gives what is listed for a client. The error says why the client is never listed.
func (l *List) mayList(client netip.Addr) (netip.Prefix, error) {
	network, ok := l.table.Load().network(client)
	if !ok {
		return network, fmt.Errorf("%s is not an address that can be listed", client)
	}
	if why := l.never.has(client); why != "" {
		return network, fmt.Errorf("%s is never listed: it is %s", client, why)
	}
	return network, nil
}

// list lists a client now. It gives the entry, for the other gateways.
func (l *List) list(client netip.Addr, evidence, queueID string, life time.Duration) (e *entry, err error) {
	network, err := l.mayList(client)
	if err != nil {
		return nil, err
	}
	now := l.now()
	begun := false
	e = l.update(client, func(network netip.Prefix, old *entry) *entry {
		begun = old == nil || !old.active(now)
		return l.next(old, network, now, life, word(evidence, evidenceMax), word(queueID, queueIDMax))
	})
	l.exchange.publish(l, e)
	if begun {
		l.listed.Add(1)
		l.log.Info("blocklist="+l.name+" client="+plain(network)+" listed",
			"evidence", e.Evidence, "queue_id", e.QueueID, "until", e.Until.UTC().Format(time.RFC3339), "rehearsed", !l.enforced)
	}
	return e, nil
}

// next is the entry after a piece of evidence. One that is active goes on for its life from
// now; one that has ended begins anew, for twice as long if that was not long ago. No listing
// is shorter than the list's own for one that a person has made shorter before.
func (l *List) next(old *entry, network netip.Prefix, now time.Time, life time.Duration, evidence, queueID string) *entry {
	e := &entry{Listing: rcptgate.Listing{Network: network, First: now, Count: 1}, life: l.cfg.For.Std()}
	switch {
	case old == nil || !old.removed.IsZero():
	case old.active(now):
		e.First, e.Count, e.life, e.Until = old.First, old.Count+1, max(old.life, e.life), old.Until
	case now.Before(old.Until.Add(l.cfg.ForMax.Std())):
		e.life = max(2*old.life, e.life)
	}
	if life > 0 {
		e.life = life
	}
	e.life = min(e.life, l.cfg.longest())
	e.Last, e.Evidence, e.QueueID = now, evidence, queueID
	if old != nil && !old.removed.Before(now) { // by a gateway whose clock is ahead of ours
		e.Last = old.removed.Add(time.Millisecond)
	}
	if until := now.Add(e.life); until.After(e.Until) {
		e.Until = until
	}
	return e
}

// Remove ends the listing that covers a client. That it was removed is remembered as long as
// another gateway may still hold it. It is later than the evidence even if that came from a
// gateway whose clock is ahead: its copy would undo the removal.
func (l *List) Remove(client netip.Addr) bool { return l.remove(client) != nil }

// remove gives what is left of the entry, for the other gateways; nil if there was none.
func (l *List) remove(client netip.Addr) *entry {
	now, was := l.now(), false
	e := l.update(client, func(network netip.Prefix, old *entry) *entry {
		if was = old != nil && old.active(now); !was {
			return old
		}
		gone := *old
		gone.Until, gone.removed = now, now
		if !old.Last.Before(now) {
			gone.removed = old.Last.Add(time.Millisecond) // the copy's times are in milliseconds
		}
		return &gone
	})
	if !was {
		return nil
	}
	l.exchange.publish(l, e)
	l.log.Info("blocklist="+l.name+" client="+plain(e.Network)+" removed", "by", "command")
	return e
}

// forgotten is when nothing of an entry matters any more.
func (l *List) forgotten(e *entry) time.Time {
	if !e.removed.IsZero() {
		return e.removed.Add(l.cfg.longest())
	}
	return e.Until.Add(l.cfg.ForMax.Std()) // until then it is a repeat
}

// Each calls f for what is listed, until f returns false.
func (l *List) Each(f func(rcptgate.Listing) bool) {
	now := l.now()
	l.table.Load().each(func(e *entry) bool {
		return !e.active(now) || l.never.has(e.Network.Addr()) != "" || f(e.Listing)
	})
}

// never is who is never listed.
type never struct {
	trusted func(netip.Addr) bool
	own     func(netip.Addr) bool
	backend func(netip.Addr) bool
	isMX    func(netip.Addr) bool
	extra   *pattern.Set
	known   func() []netip.Prefix // of them, as far as they can be counted
}

// within gives the networks of a length that have an address in them which is never listed.
func (n *never) within(bits int) map[netip.Prefix]bool {
	found := map[netip.Prefix]bool{}
	for _, p := range n.known() {
		if p.Addr().Is6() && p.Bits() >= bits {
			found[netip.PrefixFrom(p.Addr(), bits).Masked()] = true
		}
	}
	return found
}

// has says in words what a client is that is never listed; "" if it may be.
func (n *never) has(client netip.Addr) string {
	client = client.Unmap()
	switch {
	case client.IsLoopback() || n.own(client):
		return "this machine"
	case n.trusted(client):
		return "in a trusted network"
	case n.backend(client):
		return "a server behind"
	case n.isMX(client):
		return "an MX host of an own domain"
	}
	if n.extra.Empty() {
		return ""
	}
	if ok, err := n.extra.Client(context.Background(), client); ok || err != nil {
		return "one of never"
	}
	return ""
}

// update changes the entry of the network that a client is in.
func (l *List) update(client netip.Addr, change func(network netip.Prefix, old *entry) *entry) *entry {
	l.writing.Lock()
	defer l.writing.Unlock()
	t := l.table.Load()
	network, ok := t.network(client)
	if !ok {
		return nil
	}
	return t.update(network, l.cfg.Entries, func(old *entry) *entry {
		now := change(network, old)
		if now != nil && now != old {
			l.note(now)
		}
		return now
	})
}

// note has an entry written to the journal.
func (s *state) note(e *entry) {
	s.edition.Add(1)
	if len(s.changed) >= changedMax {
		s.changed, s.all = nil, true
	}
	if !s.all {
		s.changed = append(s.changed, e)
	}
}

// changedMax bounds the changes that wait for the journal.
const changedMax = 10_000

// save writes to the journal what has changed.
func (l *List) save() {
	l.writing.Lock()
	changed := l.changed
	l.journal.fresh = l.journal.fresh || l.all
	l.changed, l.all = nil, false
	l.writing.Unlock()
	t := l.table.Load()
	l.journal.save(changed, l.now(), t.each, int(t.count.Load()))
}

// load reads the journal, once.
func (l *List) load() {
	if l.loaded {
		return
	}
	l.loaded = true
	l.journal.load(l.now(), l.cfg.longest(), func(e *entry) {
		l.writing.Lock()
		defer l.writing.Unlock()
		t := l.table.Load()
		if !l.now().Before(l.forgotten(e)) { // neither does an earlier line about it count any more
			t.update(e.Network, l.cfg.Entries, func(old *entry) *entry {
				if old != nil && old.Network != e.Network {
					return old
				}
				return nil
			})
			return
		}
		t.move(e, l.cfg.Entries)
	})
	l.writing.Lock()
	l.changed, l.all = nil, false // it is in the file
	l.writing.Unlock()
}

// shorten ends listings that were made under a configuration with a longer time.
func (l *List) shorten() {
	most := func(e *entry) time.Time { return e.Last.Add(l.cfg.longest()) }
	l.table.Load().each(func(e *entry) bool {
		if e.Until.After(most(e)) {
			l.update(e.Network.Addr(), func(_ netip.Prefix, old *entry) *entry {
				if old == nil || !old.Until.After(most(old)) {
					return old
				}
				less := *old
				less.Until, less.life = most(old), min(old.life, l.cfg.longest())
				return &less
			})
		}
		return true
	})
}

// sweep drops what does not matter any more, and notes that listings have ended.
func (l *List) sweep() {
	now, before := l.now(), l.swept
	l.swept = now
	l.table.Load().each(func(e *entry) bool {
		if !e.active(now) && e.active(before) {
			l.edition.Add(1)
		}
		if !now.Before(l.forgotten(e)) {
			l.update(e.Network.Addr(), func(_ netip.Prefix, old *entry) *entry {
				if old == nil || now.Before(l.forgotten(old)) {
					return old
				}
				return nil
			})
		}
		return true
	})
}

// resize gives the state a table for other bounds, with what the old one has, and begins to
// count messages anew in another window.
func (s *state) resize(entries, ipv6Bits int, window time.Duration) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if next := newTraffic(window, entries); next.half != s.traffic.Load().half {
		s.traffic.Store(next)
	}
	old := s.table.Load()
	next := newTable(entries, ipv6Bits)
	if len(next.shards) == len(old.shards) && next.bits == old.bits {
		return
	}
	next.evicted.Store(old.evicted.Load())
	old.each(func(e *entry) bool {
		next.move(e, entries)
		return true
	})
	s.table.Store(next)
}
