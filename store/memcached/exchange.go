// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"rcptgate/kit/term"
	"rcptgate/store"
)

const (
	forgetFor = 5 * time.Second // Forget waits for a round
	maxAsks   = 64              // forgets that one round carries
	casTries  = 4               // others write at the same time
	lapse     = time.Hour       // tombstones are kept beyond the longest life
)

// ask is a forget that waits for a round.
type ask struct {
	match  store.Pattern
	when   int64
	answer chan error
}

// starting is what Start was given.
type starting struct {
	forgotten func(store.Tombstone)
	lost      func()
	done      chan struct{} // closed after the first round
}

// Start begins the exchange of tombstones.
func (s *Store) Start(known []store.Tombstone, forgotten func(store.Tombstone), lost func()) {
	mine, latest := store.Tombstones{}, s.latest()
	for _, t := range known {
		if when := t.When.UnixNano(); when <= latest { // else this gateway's clock was wrong
			mine.Add(t.Pattern, when)
		}
	}
	s.tombstones.merge(mine, nil, s.oldest())
	st := starting{forgotten, lost, make(chan struct{})}
	s.starts <- st
	select {
	case <-st.done:
	case <-time.After(s.start):
	case <-s.quit:
	}
}

// After gives a time for a new tombstone.
func (s *Store) After(now time.Time) time.Time { return s.tombstones.after(now) }

// Knows reports whether t has taken effect, or is too old to matter.
func (s *Store) Knows(t store.Tombstone) bool {
	s.tombstones.mu.RLock()
	defer s.tombstones.mu.RUnlock()
	when := t.When.UnixNano()
	return when < s.oldest() || s.tombstones.set.Covers(t.Pattern, when)
}

// oldest is the time of the oldest tombstones that matter. While the clock has just jumped
// it does not move: it would void too much, or too little.
func (s *Store) oldest() int64 {
	if s.settled() {
		s.limit.Store(s.now().Add(-s.life - lapse).UnixNano())
	}
	return s.limit.Load()
}

// latest is the time of the latest ones that are believed.
func (s *Store) latest() int64 { return s.now().Add(future).UnixNano() }

// Forget voids what matches, here at once, elsewhere as soon as the others read it. It
// fails with store.ErrUnpublished when no server could be reached; it is repeated later.
func (s *Store) Forget(ctx context.Context, t store.Tombstone) (int, error) {
	if s.closed.Load() {
		return 0, store.ErrClosed
	}
	s.tombstones.redate(s.latest(), s.now().UnixNano())
	when := max(min(t.When.UnixNano(), s.latest()), s.tombstones.newest.Load()+1) // older than what is stamped it would void nothing
	s.tombstones.add(t.Pattern, when, s.gateway)
	if t.Pattern.Address != "" && !s.Down() {
		s.queue.add(&task{key: t.Pattern.Address}) // for readers that know of no tombstones
	}
	a := &ask{t.Pattern, when, make(chan error, 1)}
	patience := time.NewTimer(forgetFor)
	defer patience.Stop()
	select {
	case s.asks <- a:
		select {
		case err := <-a.answer:
			return 0, err
		case <-ctx.Done():
		case <-patience.C:
		case <-s.quit:
		}
	case <-ctx.Done():
	case <-patience.C:
	case <-s.quit:
	}
	return 0, fmt.Errorf("%w (no answer in time)", store.ErrUnpublished)
}

// exchange is the goroutine that reads and writes the lists.
func (s *Store) exchange() {
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	var st starting
	for {
		var asked []*ask
		var began chan struct{}
		select {
		case <-s.quit:
			return
		case <-tick.C:
		case <-s.c.back:
		case a := <-s.asks:
			asked = append(asked, a)
		case st = <-s.starts:
			began = st.done
		}
		for len(s.asks) > 0 {
			asked = append(asked, <-s.asks)
		}
		if began == nil && len(asked) == 0 && st.done == nil {
			continue // not started yet: what is found could not be carried out
		}
		s.round(st, asked)
		if began != nil {
			close(began)
		}
	}
}

// list is what one server has.
type list struct {
	server *server
	set    store.Tombstones
	by     map[int64]string // which gateway gave the tombstone of that time
	epoch  int64
	cas    uint64
	found  bool // there is something, cas is its
	good   bool // it can be believed
	err    error
}

// round reads the lists of all living servers, passes on what others have forgotten,
// writes what each lacks and answers the forgets that wait.
func (s *Store) round(st starting, asked []*ask) {
	var servers []*server
	for _, server := range s.c.setup.Load().ring.servers {
		if server.alive.Load() {
			servers = append(servers, server)
		}
	}
	lists := make([]list, len(servers))
	each(servers, func(i int) { lists[i] = s.readList(servers[i]) })
	oldest := s.oldest()
	s.tombstones.redate(s.latest(), s.now().UnixNano())
	others, by, reached := store.Tombstones{}, map[int64]string{}, 0
	for i := range lists {
		if lists[i].err == nil {
			reached++
		}
		others.Merge(lists[i].set, oldest)
		maps.Copy(by, lists[i].by)
	}
	s.order(st, others, by, oldest)
	s.raise(asked, others)
	union, known := s.tombstones.copy()
	union.Merge(others, oldest)
	maps.Copy(known, by)
	began := s.epoch != 0 // else this gateway has just started, and knows no list yet
	lost := reached > 0 && s.nextEpoch(lists)
	if lost && began {
		s.c.reportLost(lists)
	}
	each(servers, func(i int) { s.writeList(&lists[i], union, known) })
	err := published(lists)
	for _, a := range asked {
		a.answer <- err
	}
	if lost && st.lost != nil {
		st.lost()
	}
}

// nextEpoch finds the epoch that all lists shall have. It reports whether what others
// have forgotten may have been lost: no list is the one that was known here.
func (s *Store) nextEpoch(lists []list) (lost bool) {
	known, newest := false, int64(0)
	for i := range lists {
		if lists[i].good {
			known = known || lists[i].epoch == s.epoch
			newest = max(newest, lists[i].epoch)
		}
	}
	lost = !known && (s.epoch != 0 || newest == 0) // one that has just started takes any
	if newest == 0 {
		newest = s.now().UnixNano()
	}
	s.epoch = newest
	return lost
}

// reportLost logs that no list is the known one, and what is there instead: a gateway with
// another key file, or a stranger that writes there, costs all of them their refusals in each
// round.
func (c *Client) reportLost(lists []list) {
	why := "no server has it any more: they were restarted, emptied or are full"
	for i := range lists {
		switch {
		case lists[i].good:
			why = "another gateway has begun a new one"
		case lists[i].found:
			why = "it was overwritten with one that cannot be believed: do all gateways have the same key file?"
		}
		if lists[i].found {
			break
		}
	}
	c.notices.Warn("memcached lost list", "memcached has lost the list of forgotten recipients; refusals are asked for again", "why", why)
}

// order passes on what others have forgotten, and only then has what is written here
// stamped with it.
func (s *Store) order(st starting, others store.Tombstones, by map[int64]string, oldest int64) {
	if st.forgotten == nil {
		return // not started: what is stamped stays older
	}
	mine, _ := s.tombstones.copy()
	for p, when := range others {
		if !mine.Covers(p, when) {
			st.forgotten(store.Tombstone{Pattern: p, When: time.Unix(0, when), By: by[when]})
		}
	}
	s.tombstones.merge(others, by, oldest)
}

// published gives nil when at least one server has the whole list now.
func published(lists []list) error {
	err := store.ErrUnpublished
	for i := range lists {
		if lists[i].err == nil {
			return nil
		}
		err = fmt.Errorf("%w; %w", err, lists[i].err)
	}
	return err
}

// raise makes what was just forgotten here newer than everything on the lists: another
// gateway's clock may be ahead, and what it has stamped since with an order of its own
// must be void nevertheless.
func (s *Store) raise(asked []*ask, others store.Tombstones) {
	newest := int64(0)
	for _, when := range others {
		newest = max(newest, when)
	}
	for _, a := range asked {
		if newest > a.when {
			newest++
			s.tombstones.add(a.match, newest, s.gateway)
		}
	}
}

// each calls f for every server, at the same time.
func each(servers []*server, f func(i int)) {
	var all sync.WaitGroup
	for i := range servers {
		all.Go(func() { f(i) })
	}
	all.Wait() // bounded by the time-outs
}

func (s *Store) listKey() string { return s.c.setup.Load().prefix + ":forgotten" }

// readList reads one server's list. What cannot be believed is as good as absent.
func (s *Store) readList(server *server) list {
	key := s.listKey()
	l := list{server: server}
	item, err := bulk(s.c, server, func(mc *memcache.Client) (*memcache.Item, error) { return mc.Get(key) })
	switch {
	case errors.Is(err, memcache.ErrCacheMiss):
		return l
	case errors.Is(err, errTooLong):
		_, l.err = bulk(s.c, server, func(mc *memcache.Client) (struct{}, error) { return struct{}{}, mc.Delete(key) })
		if errors.Is(l.err, memcache.ErrCacheMiss) {
			l.err = nil
		}
		return l
	case err != nil:
		l.err = err
		return l
	}
	l.found, l.cas = true, item.CasID
	value, err := s.c.setup.Load().seal.open(key, item.Value)
	var late int
	if err == nil {
		l.set, l.by, l.epoch, late, err = decodeList(value, s.latest())
	}
	if err != nil {
		s.c.Bad(server.name, key, err)
		return l
	}
	if late > 0 {
		s.c.Bad(server.name, key, formf("%s dated in the future: a gateway's clock is wrong", term.Count(late, "tombstone")))
	}
	l.good = true
	return l
}

// writeList gives the server what it lacks of union.
func (s *Store) writeList(l *list, union store.Tombstones, by map[int64]string) {
	key := s.listKey()
	for range casTries {
		if l.err != nil || (l.good && l.epoch >= s.epoch && !l.set.Lacks(union)) {
			return
		}
		all, names := store.Tombstones{}, maps.Clone(by)
		all.Merge(union, s.oldest())
		all.Merge(l.set, s.oldest())
		maps.Copy(names, l.by)
		item := &memcache.Item{Key: key, Value: s.c.setup.Load().seal.seal(key, encodeList(all, names, max(l.epoch, s.epoch))), CasID: l.cas}
		_, err := bulk(s.c, l.server, func(mc *memcache.Client) (struct{}, error) {
			if l.found {
				return struct{}{}, mc.CompareAndSwap(item)
			}
			return struct{}{}, mc.Add(item)
		})
		if err == nil {
			return
		}
		if !answered(err) {
			l.err = err
			return
		}
		*l = s.readList(l.server) // another gateway has written
	}
	if l.err == nil {
		l.err = fmt.Errorf("writing the list of what was forgotten to memcached %s: others write all the time", l.server.name)
	}
}

// bulk asks a server outside of any answer: more time, longer values.
func bulk[T any](c *Client, s *server, op func(*memcache.Client) (T, error)) (T, error) {
	began := time.Now()
	value, err := op(s.bulk)
	if err != nil && gone(err) {
		s.hangUp()
		value, err = op(s.bulk)
	}
	err = bare(err)
	if s.note(err, began) {
		c.died(s, err)
	}
	if err != nil && !answered(err) {
		err = fmt.Errorf("asking memcached %s: %w", s.name, err)
	}
	return value, err
}
