// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"time"

	"rcptgate"
	"rcptgate/kit/recent"
	"rcptgate/store"
	"rcptgate/store/memcached"
)

// Times of the exchange with other gateways over memcached.
const (
	lookEvery    = 3 * time.Second // between two looks for one client
	lookTime     = 40 * time.Millisecond
	roundEvery   = 30 * time.Second // all that is listed here is compared with what is there
	roundTime    = 10 * time.Second
	lostEvery    = time.Second // between two looks whether a server of memcached has gone or is back
	roundBatch   = 100
	publishTime  = time.Second
	publishTries = 5
	publishPause = 200 * time.Millisecond
	publishMax   = 10_000 // entries that wait
	againMax     = 1_000  // clients about whom memcached has not answered in time
	askedShards  = 64
	askedMax     = 100_000 // clients that are remembered as asked about
)

// exchange shares lists with other gateways: a key for each network and list, written when it
// is listed or removed, read when the client is asked about. Nil shares nothing.
type exchange struct {
	client  *memcached.Client
	waiting chan published
	again   chan looked
	asked   [askedShards]*recent.Map[netip.Addr, time.Time]
}

// published is an entry on its way to the others.
type published struct {
	list *List
	*entry
}

// looked is a question that was not answered in time.
type looked struct {
	lists  []*List
	client netip.Addr
}

func newExchange(c *memcached.Client) *exchange {
	if c == nil {
		return nil
	}
	x := &exchange{client: c, waiting: make(chan published, publishMax), again: make(chan looked, againMax)}
	for i := range x.asked {
		x.asked[i] = recent.New[netip.Addr, time.Time](askedMax / askedShards)
	}
	return x
}

// key is where an entry lies. Its network stands in it, and the seal is made over it: what is
// put under another key is not believed.
func (x *exchange) key(l *List, network netip.Prefix) string {
	return x.client.Key("l", "lh", l.name+":"+network.String())
}

// publish has the others learn of an entry. It never waits.
func (x *exchange) publish(l *List, e *entry) {
	if x == nil || !l.cfg.Shared {
		return
	}
	select {
	case x.waiting <- published{l, e}:
	default: // the next round publishes it
	}
}

// run publishes, and asks again, until ctx ends.
func (x *exchange) run(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case p := <-x.waiting: // when the tries have failed, the next round does it
				try(ctx, func(ctx context.Context) error { return x.put(ctx, p.list, p.entry) })
			}
		}
	})
	all.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case q := <-x.again:
				try(ctx, func(ctx context.Context) error { return x.ask(ctx, q.lists, q.client, publishTime, q.lists[0].now()) })
			}
		}
	})
	all.Wait()
}

// try has f done, again if it fails.
func try(ctx context.Context, f func(context.Context) error) {
	for range publishTries {
		asking, cancel := context.WithTimeout(ctx, publishTime)
		err := f(asking)
		cancel()
		if err == nil || !sleep(ctx, publishPause) {
			return
		}
	}
}

// sleep waits; false: ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// tell is publish for a person who waits: an error means that the others may not know yet.
func (x *exchange) tell(ctx context.Context, l *List, e *entry) error {
	if x == nil || !l.cfg.Shared {
		return nil
	}
	if x.client.Down() {
		return errDown
	}
	ctx, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	return x.put(ctx, l, e)
}

var errDown = errors.New("no memcached server answers")

// put writes what is known here and there of a network.
func (x *exchange) put(ctx context.Context, l *List, e *entry) error {
	if x.client.Down() {
		return nil
	}
	key, now := x.key(l, e.Network), l.now()
	value, _, err := x.client.Get(ctx, key)
	var there *entry
	switch {
	case err == nil:
		there = x.read(l, e.Network, key, value, now)
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	if both := merge(e, there); there == nil || both != there {
		return x.client.Set(ctx, key, appendEntry(nil, both), l.forgotten(both))
	}
	return nil
}

// read gives the entry of a value, nil if it cannot be believed.
func (x *exchange) read(l *List, network netip.Prefix, key string, value []byte, now time.Time) *entry {
	line, _, _ := bytes.Cut(value, []byte("\n"))
	e, err := parseEntry(string(line), now, l.cfg.longest())
	if err == nil && e.Network != network {
		err = errEntry
	}
	if err != nil {
		x.client.Bad(x.client.Server(key), key, err)
		return nil
	}
	return e
}

// look asks what the others know of a client, at most every few seconds, within the budget
// of the answer. Where that is not enough it is asked again in the background, for the
// client's next question.
func (x *exchange) look(ctx context.Context, lists []*List, client netip.Addr, now time.Time) {
	if x == nil || x.client.Down() || !x.due(client, now) || x.ask(ctx, lists, client, lookTime, now) == nil {
		return
	}
	select {
	case x.again <- looked{lists, client}:
	default:
	}
}

// ask asks what the others know of a client, within a limit, and takes it over. An error
// means that not all of it was found.
func (x *exchange) ask(ctx context.Context, lists []*List, client netip.Addr, limit time.Duration, now time.Time) error {
	if x == nil {
		return nil
	}
	var keys []string
	of := map[string]published{}
	for _, l := range lists {
		network, ok := l.table.Load().network(client)
		if !ok || !l.cfg.Shared {
			continue
		}
		key := x.key(l, network)
		keys = append(keys, key)
		of[key] = published{l, &entry{Listing: rcptgate.Listing{Network: network}}}
	}
	if len(keys) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	values, err := x.client.GetMulti(ctx, keys) // with an error, what was found nevertheless
	for key, value := range values {
		p := of[key]
		if e := x.read(p.list, p.Network, key, value, now); e != nil {
			p.list.learn(e)
		}
	}
	return err
}

// servers says which servers there are, and since when each lives or is dead.
func (x *exchange) servers() string {
	var b strings.Builder
	for _, s := range x.client.Stats() {
		fmt.Fprintln(&b, s.Name, s.Since.UnixNano())
	}
	return b.String()
}

// due reports whether the others were not asked about a client lately, and notes that they are.
func (x *exchange) due(client netip.Addr, now time.Time) (due bool) {
	client = client.Unmap().WithZone("")
	octets := client.As16()
	shard := x.asked[(binary.BigEndian.Uint64(octets[:8])^binary.BigEndian.Uint64(octets[8:]))%askedShards]
	if since := now.Sub(shard.Get(client)); since >= 0 && since < lookEvery {
		return false
	}
	shard.Update(client, func(last time.Time) time.Time {
		since := now.Sub(last)
		if due = since < 0 || since >= lookEvery; due {
			return now
		}
		return last
	})
	return due
}

// round compares everything that is listed here with what is there: removals reach this
// gateway, and what memcached has lost is put there again.
func (x *exchange) round(ctx context.Context, l *List) {
	if x == nil || !l.cfg.Shared || x.client.Down() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, roundTime)
	defer cancel()
	now := l.now()
	var batch []*entry
	flush := func() bool {
		x.compare(ctx, l, batch, now)
		batch = batch[:0]
		return ctx.Err() == nil
	}
	// A round may take too long for all: each begins somewhere else.
	t := l.table.Load()
	t.eachFrom(rand.IntN(len(t.shards)), func(e *entry) bool {
		if !e.active(now) && e.removed.IsZero() {
			return true
		}
		batch = append(batch, e)
		return len(batch) < roundBatch || flush()
	})
	if len(batch) > 0 {
		flush()
	}
}

func (x *exchange) compare(ctx context.Context, l *List, batch []*entry, now time.Time) {
	keys := make([]string, len(batch))
	for i, e := range batch {
		keys[i] = x.key(l, e.Network)
	}
	values, err := x.client.GetMulti(ctx, keys)
	if err != nil {
		return
	}
	for i, e := range batch {
		var there *entry
		if value, ok := values[keys[i]]; ok {
			there = x.read(l, e.Network, keys[i], value, now)
		}
		if there != nil {
			l.learn(there)
		}
		both := merge(e, there)
		if text := appendEntry(nil, both); there == nil || !bytes.Equal(text, appendEntry(nil, there)) {
			_ = x.client.Set(ctx, keys[i], text, l.forgotten(both)) // the next round tries again
		}
	}
}

// learn takes over what another gateway knows.
func (l *List) learn(there *entry) {
	if there.removed.IsZero() {
		if _, err := l.mayList(there.Network.Addr()); err != nil {
			return
		}
	}
	now, begun, ended := l.now(), false, false
	l.update(there.Network.Addr(), func(network netip.Prefix, old *entry) *entry {
		if network != there.Network {
			return old // the others list networks of another size
		}
		both := merge(old, there)
		was := old != nil && old.active(now)
		begun, ended = both.active(now) && !was, was && !both.active(now)
		return both
	})
	switch {
	case begun:
		l.listed.Add(1)
		l.log.Info("blocklist="+l.name+" client="+plain(there.Network)+" listed", "evidence", there.Evidence, "queue_id", there.QueueID,
			"until", there.Until.UTC().Format(time.RFC3339), "rehearsed", !l.enforced, "by", "another gateway")
	case ended:
		l.log.Info("blocklist="+l.name+" client="+plain(there.Network)+" removed", "by", "another gateway")
	}
}
