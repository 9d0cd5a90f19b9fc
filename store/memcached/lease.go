// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"rcptgate/store"
)

const (
	// renewals is how often a lease is renewed within its life. memcached counts in whole
	// seconds: one of two seconds ends one to two seconds after it was last renewed.
	renewals = 4
	// surelyOurs is how long after it was last seen to be ours a lease cannot have ended
	// and been taken by another gateway.
	surelyOurs = 800 * time.Millisecond
	// maxHeld bounds the leases held at once, maxHold the time of one: a probe takes
	// half a minute, so that a lease held for longer was never let go.
	maxHeld  = 4096
	maxHold  = 2 * time.Minute
	renewers = 8
)

var (
	errHeldTooMany = errors.New("too many leases are held")
	errLease       = errors.New("the lease belongs to another gateway")
)

// leases are the ones that this gateway holds.
type leases struct {
	mu   sync.Mutex
	held map[*lease]struct{}
	most int // held at once
}

// lease is the right to find something out.
type lease struct {
	answer string // the key it is about
	place  string // the memcached key of the answer: the lease lies on the same server
	key    string // its own memcached key
	token  string

	// turn is held by whoever changes the lease at the server. A renewal between the two steps of
	// letting go would look like another gateway's lease, and it would stay for all its life.
	turn sync.Mutex

	mu    sync.Mutex
	taken time.Time
	seen  time.Time // when it was last seen to be ours
}

// leaseKey derives the key of the lease on finding out key by route.
func (s *Store) leaseKey(key, route string) string {
	sum := sha256.Sum256([]byte(key + "\n" + route))
	return s.c.setup.Load().prefix + ":l:" + hex.EncodeToString(sum[:])
}

// Lease takes the lease on key, which is renewed until it is released.
func (s *Store) Lease(ctx context.Context, key, route string) (release func(), err error) {
	if s.closed.Load() {
		return nil, store.ErrClosed
	}
	s.leases.mu.Lock()
	n := len(s.leases.held)
	s.leases.mu.Unlock()
	if n >= s.leases.most {
		return nil, errHeldTooMany
	}
	now := time.Now()
	l := &lease{
		answer: strings.Clone(key), place: s.key(key), key: s.leaseKey(key, route), taken: now, seen: now,
		token: rand.Text(),
	}
	err = s.c.store(ctx, l.place, l.key, leaseValue(l.token, now.Add(s.lease)), now.Add(s.lease), true)
	if errors.Is(err, ErrExists) {
		err = s.holder(ctx, l)
	}
	if errors.Is(err, store.ErrLeased) {
		return nil, err
	}
	if err != nil {
		return nil, s.count(err)
	}
	s.leases.mu.Lock()
	s.leases.held[l] = struct{}{}
	s.leases.mu.Unlock()
	return sync.OnceFunc(func() { s.release(l) }), nil
}

// holder deals with a lease that is there already: store.ErrLeased while it is honoured.
// One that is not is taken over; nil: it is l now.
func (s *Store) holder(ctx context.Context, l *lease) error {
	values, _, err := s.c.getAt(ctx, l.place, l.key)
	if err != nil {
		return err
	}
	value, there := values[l.key]
	switch {
	case there && value == nil:
		return errMAC
	case !there || s.watch.honours(l.key, value, s.now()):
		return store.ErrLeased // or just let go: those that await it see
	}
	return s.c.exchange(ctx, l, s.lease, func([]byte) bool { return true })
}

// Await looks at the record and at the lease.
func (s *Store) Await(ctx context.Context, key, route string) (rec store.Record, leased bool, err error) {
	if rec, err, known := s.without(key); known {
		if errors.Is(err, store.ErrNotFound) {
			err = nil
		}
		return rec, false, err
	}
	place, leaseKey := s.key(key), s.leaseKey(key, route)
	values, from, err := s.c.getAt(ctx, place, place, leaseKey)
	if err != nil {
		return store.Record{}, false, s.count(err)
	}
	leased = s.watch.honours(leaseKey, values[leaseKey], s.now())
	if values[place] == nil {
		return store.Record{}, leased, nil
	}
	if rec, err = s.read(key, from, values[place]); err == nil {
		s.hits.Add(1)
	}
	return rec, leased, nil // what may not be believed is not there
}

// release stops renewing l and lets it go behind what was put before.
func (s *Store) release(l *lease) {
	s.leases.mu.Lock()
	_, held := s.leases.held[l]
	delete(s.leases.held, l)
	s.leases.mu.Unlock()
	if held {
		s.queue.add(&task{key: l.answer, lease: l})
	}
}

func (s *Store) releaseAll() {
	s.leases.mu.Lock()
	var all []*lease
	for l := range s.leases.held {
		all = append(all, l)
	}
	s.leases.mu.Unlock()
	for _, l := range all {
		s.release(l)
	}
}

// letGo deletes l if it is still ours. memcached cannot compare and delete: a lease that
// may have ended is exchanged for one that ends at once.
func (s *Store) letGo(ctx context.Context, l *lease) error {
	l.turn.Lock()
	defer l.turn.Unlock()
	l.mu.Lock()
	fresh := time.Since(l.seen) < surelyOurs
	l.mu.Unlock()
	if fresh {
		st := s.c.setup.Load()
		server := st.ring.pick(l.place)
		if server == nil {
			return store.ErrDown
		}
		return s.c.delete(ctx, server, l.key)
	}
	err := s.c.exchange(ctx, l, 0, l.ours)
	if errors.Is(err, errLease) {
		return nil
	}
	return err
}

// renewLeases renews the leases that are held.
func (s *Store) renewLeases() {
	every := s.lease / renewals
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-tick.C:
		}
		s.leases.mu.Lock()
		due := make(chan *lease, len(s.leases.held))
		for l := range s.leases.held {
			if time.Since(l.taken) < every/2 {
				continue // most probes end before they are worth a renewal
			}
			due <- l
		}
		s.leases.mu.Unlock()
		close(due)
		var all sync.WaitGroup
		for range min(renewers, len(due)) {
			all.Go(func() {
				for l := range due {
					s.renew(l)
				}
			})
		}
		all.Wait() // each is bounded by the time-out of a question
	}
}

// renew gives l the time of a new one. One that was lost, or held for too long, is given up.
func (s *Store) renew(l *lease) {
	l.turn.Lock()
	defer l.turn.Unlock()
	s.leases.mu.Lock()
	_, held := s.leases.held[l]
	s.leases.mu.Unlock()
	if !held {
		return // it has been let go
	}
	var err error
	if time.Since(l.taken) < maxHold {
		err = s.c.exchange(context.Background(), l, s.lease, l.ours)
	} else {
		err = errLease
	}
	switch {
	case err == nil:
		return
	case errors.Is(err, errLease):
		s.leases.mu.Lock()
		delete(s.leases.held, l)
		s.leases.mu.Unlock()
	}
}

// ours reports whether value, without its seal, is this lease.
func (l *lease) ours(value []byte) bool {
	token, _, ok := parseLease(value)
	return ok && token == l.token
}

// exchange writes l over what is there, if may allows that, to end after life; 0: at
// once. errLease: it was not allowed, nothing is there, or another gateway was faster.
func (c *Client) exchange(ctx context.Context, l *lease, life time.Duration, may func(value []byte) bool) error {
	st := c.setup.Load()
	s := st.ring.pick(l.place)
	if s == nil {
		return store.ErrDown
	}
	began := time.Now()
	seconds := int32(life / time.Second) // #nosec G115 -- a few
	if seconds == 0 {
		seconds = -1
	}
	_, err := do(ctx, c, s, once, func() (struct{}, error) {
		item, err := s.mc.Get(l.key)
		if err != nil {
			return struct{}{}, err
		}
		if value, err := st.seal.open(l.key, item.Value); err != nil || !may(value) {
			return struct{}{}, memcache.ErrCASConflict
		}
		return struct{}{}, s.mc.CompareAndSwap(&memcache.Item{
			Key: l.key, Value: st.seal.seal(l.key, leaseValue(l.token, began.Add(life))), Expiration: seconds, CasID: item.CasID,
		})
	})
	if err != nil {
		if answered(err) {
			return errLease
		}
		return err
	}
	l.mu.Lock()
	l.seen = began
	l.mu.Unlock()
	return nil
}
