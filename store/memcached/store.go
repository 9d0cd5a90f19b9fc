// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate"
	"rcptgate/kit/steady"
	"rcptgate/store"
)

// Options say how a Store behaves; the zero Options are good for a daemon.
type Options struct {
	// Life is the longest life of an answer on any gateway; default 31 days. Nothing is
	// believed for longer, and a tombstone is kept as long.
	Life time.Duration
	// Every is how often tombstones are exchanged; default 15 s.
	Every time.Duration
	// Lease is how long a lease outlives its holder, in whole seconds; default 2 s. It
	// is renewed four times as often.
	Lease time.Duration
	// Honour is for how long the leases on one key are honoured in a row; default 5 s.
	Honour time.Duration
	// StartFor is how long Start waits for the first exchange; default 500 ms.
	StartFor time.Duration
	// Gateway names this gateway in the log lines of others about what it has forgotten;
	// default the host's name.
	Gateway string
	// Clock is for tests; default the machine's, without its jumps.
	Clock func() time.Time
}

const (
	defaultLife  = 31 * 24 * time.Hour
	defaultEvery = 15 * time.Second
	defaultLease = 2 * time.Second
	defaultStart = 500 * time.Millisecond
	// future is how far ahead of ours another gateway's clock may be before its
	// tombstones and generations are taken for nonsense.
	future = 24 * time.Hour
)

// Store keeps records in memcached. It implements store.Shared; make it with New.
type Store struct {
	c     *Client
	life  time.Duration
	every time.Duration
	lease time.Duration
	start time.Duration
	now   func() time.Time

	queue      *queue
	tombstones *tombstones
	leases     leases
	watch      leaseWatch
	gateway    string       // our name, for people on other gateways
	settled    func() bool  // now has not jumped lately
	limit      atomic.Int64 // see oldest

	epoch    int64     // of the lists, as the goroutine of the exchange knows it
	asks     chan *ask // forgets that wait for a round of the exchange
	starts   chan starting
	quit     chan struct{}
	done     sync.WaitGroup
	closed   atomic.Bool
	hits     atomic.Uint64
	misses   atomic.Uint64
	failures atomic.Uint64
}

var _ store.Shared = (*Store)(nil)

// New makes a store on top of c, which it does not own: close c after it.
func New(c *Client, opt Options) *Store {
	s := &Store{
		c: c, life: opt.Life, every: opt.Every, now: opt.Clock, tombstones: newTombstones(), gateway: opt.Gateway,
		lease: cmp.Or(opt.Lease, defaultLease), start: cmp.Or(opt.StartFor, defaultStart),
		asks: make(chan *ask, maxAsks), starts: make(chan starting, 1), quit: make(chan struct{}),
	}
	if s.life <= 0 {
		s.life = defaultLife
	}
	if s.every <= 0 {
		s.every = defaultEvery
	}
	s.settled = func() bool { return true }
	if s.now == nil {
		clock := steady.New()
		s.now, s.settled = clock.Now, clock.Settled
	}
	s.limit.Store(s.now().Add(-s.life - lapse).UnixNano())
	if s.gateway == "" {
		s.gateway, _ = os.Hostname()
	}
	s.watch = newLeaseWatch(s.lease)
	s.watch.longest = cmp.Or(opt.Honour, longestWait)
	s.leases.held, s.leases.most = map[*lease]struct{}{}, maxHeld
	s.queue = newQueue(s)
	s.done.Go(s.renewLeases)
	s.done.Go(s.exchange)
	return s
}

func (s *Store) key(key string) string { return s.c.Key("a", "h", key) }

// Get gives the record under key: what is queued for writing, else what the server says.
func (s *Store) Get(ctx context.Context, key string) (store.Record, error) {
	if rec, err, known := s.without(key); known {
		return rec, err
	}
	value, from, err := s.c.Get(ctx, s.key(key))
	if err != nil {
		return store.Record{}, s.count(err)
	}
	rec, err := s.read(key, from, value)
	return rec, s.count(err)
}

// without answers what needs no server.
func (s *Store) without(key string) (rec store.Record, err error, known bool) { //nolint:revive // the error comes with the record
	if s.closed.Load() {
		return store.Record{}, store.ErrClosed, true
	}
	if len(key) > store.MaxKey {
		return store.Record{}, s.count(store.ErrNotFound), true
	}
	if e, queued := s.queue.pending(key); queued {
		if e == nil || s.tombstones.void(key, e.generation) {
			return store.Record{}, s.count(store.ErrNotFound), true
		}
		return e.rec, s.count(nil), true
	}
	return store.Record{}, nil, false
}

// read makes a record of a value, if it may be believed.
func (s *Store) read(key, from string, value []byte) (store.Record, error) {
	e, err := decode(value)
	now := s.now()
	if err == nil && e.generation > now.Add(future).UnixNano() {
		err = formf("its generation lies in the future")
	}
	if err != nil {
		s.c.Bad(from, s.key(key), err)
		return store.Record{}, store.ErrNotFound
	}
	if s.tombstones.void(key, e.generation) {
		return store.Record{}, store.ErrNotFound
	}
	latest := now
	if e.written.Before(now) {
		latest = e.written
	}
	latest = latest.Add(s.life)
	for _, a := range []*store.Answer{&e.rec.Standing, &e.rec.Transient} {
		if a.Expire.After(latest) {
			a.Expire = store.FromSeconds(store.Seconds(latest))
		}
	}
	if e.rec.IsZero() || !e.rec.Expire().After(now) {
		return store.Record{}, store.ErrNotFound
	}
	return e.rec, nil
}

func (s *Store) count(err error) error {
	switch {
	case err == nil:
		s.hits.Add(1)
	case errors.Is(err, store.ErrNotFound):
		s.misses.Add(1)
	default:
		s.failures.Add(1)
	}
	return err
}

// GetMany gives the records under several keys.
func (s *Store) GetMany(ctx context.Context, keys []string) (map[string]store.Record, error) {
	found := make(map[string]store.Record, len(keys))
	asked := make(map[string]string, len(keys)) // by memcached key
	list := make([]string, 0, len(keys))
	for _, key := range keys {
		rec, err, known := s.without(key)
		switch {
		case errors.Is(err, store.ErrClosed):
			return nil, err
		case known && err == nil:
			found[key] = rec
		case !known:
			derived := s.key(key)
			asked[derived] = key
			list = append(list, derived)
		}
	}
	if len(list) == 0 {
		return found, nil
	}
	values, err := s.c.GetMulti(ctx, list)
	for derived, key := range asked {
		value, ok := values[derived]
		if !ok {
			if err == nil {
				s.misses.Add(1)
			}
			continue
		}
		if rec, bad := s.read(key, s.c.Server(derived), value); s.count(bad) == nil {
			found[key] = rec
		}
	}
	if err != nil {
		s.failures.Add(1)
	}
	return found, err
}

// Put queues rec for writing, stamped with what is known to be forgotten. A full queue
// drops it, and counts that.
func (s *Store) Put(_ context.Context, key string, rec store.Record) error {
	return s.put(key, rec, false)
}

// Add is Put unless something is there.
func (s *Store) Add(_ context.Context, key string, rec store.Record) error {
	return s.put(key, rec, true)
}

func (s *Store) put(key string, rec store.Record, add bool) error {
	key = strings.Clone(key) // it may lie in a caller's buffer
	switch now := s.now(); {
	case s.closed.Load():
		return store.ErrClosed
	case len(key) > store.MaxKey:
		return nil
	case s.Down():
		return store.ErrDown
	case !rec.IsZero() && rec.Expire().After(now):
		e := &entry{rec: store.Bound(rec), written: now, generation: s.tombstones.generation(key, s.oldest())}
		s.queue.add(&task{key: key, entry: e, onlyNew: add})
	case !add:
		s.queue.add(&task{key: key})
	}
	return nil
}

// Delete queues the deletion of the keys. Copies on servers that are dead just now may
// come back with them until they end: to be rid of an answer for good, Forget it.
func (s *Store) Delete(_ context.Context, keys ...string) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	if s.Down() {
		return store.ErrDown
	}
	for _, key := range keys {
		if len(key) <= store.MaxKey {
			s.queue.add(&task{key: key})
		}
	}
	return nil
}

// Range gives nothing: memcached cannot list.
func (s *Store) Range(ctx context.Context, _ store.Pattern, _ func(string, store.Record) bool) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	return ctx.Err()
}

// Down reports that no server is alive.
func (s *Store) Down() bool { return s.c.Down() }

// Server names the server responsible for key.
func (s *Store) Server(key string) string { return s.c.Server(s.key(key)) }

// Stats describes the place. How much the servers hold is not known.
func (s *Store) Stats() store.Stats {
	st := store.Stats{
		Name: rcptgate.SourceMemcached, Hits: s.hits.Load(), Misses: s.misses.Load(),
		Errors: s.failures.Load() + s.queue.failed.Load(), Evicted: s.queue.dropped.Load(),
	}
	dead := 0
	for _, server := range s.c.Stats() {
		if !server.Alive {
			dead++
		}
		one := store.ServerStats{
			Name: server.Name, Alive: server.Alive, Since: server.Since, Error: server.Error,
			Hits: server.Hits, Misses: server.Misses, Errors: server.Errors, Bad: server.BadMAC + server.BadForm,
		}
		if n := server.Latency.Count(); n > 0 {
			one.Latency = (server.Latency.Sum / time.Duration(n)).Round(time.Microsecond) //nolint:gosec // a count
		}
		st.Servers = append(st.Servers, one)
	}
	if dead > 0 {
		st.Detail = fmt.Sprintf("%d of %d servers dead", dead, len(st.Servers))
	}
	return st
}

// QueueStats describes the queue of what is still to be written.
type QueueStats struct {
	Waiting int
	Dropped uint64 // for which there was no room
	Failed  uint64 // which no server took
}

// Queue describes the queue of what is still to be written.
func (s *Store) Queue() QueueStats {
	return QueueStats{Waiting: s.queue.depth(), Dropped: s.queue.dropped.Load(), Failed: s.queue.failed.Load()}
}

// Tombstones is how many forgets are still remembered.
func (s *Store) Tombstones() int { return s.tombstones.len() }

// Close writes what is queued, for 2 s at most, lets go of the leases and ends what runs
// in the background. It does not close the client.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.releaseAll()
	s.queue.close()
	close(s.quit)
	s.done.Wait()
	return nil
}
