// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"rcptgate/kit/neterr"
)

const (
	// opTimeout bounds one question to a server.
	opTimeout = 40 * time.Millisecond
	// bulkTimeout bounds one in the background.
	bulkTimeout = 500 * time.Millisecond
	// maxValue is the longest value read of an answer; maxBulk of the list of what was
	// forgotten.
	maxValue = 16 << 10
	maxBulk  = 1 << 20
	// idleConns is how many connections are kept to a server.
	idleConns = 32
	// A server that failed failuresToDie times in a row, one question after the other,
	// is dead, and is tried again after reviveAfter; one whose answers are not answers has dissentToDie tries.
	failuresToDie = 2
	dissentToDie  = 10
	reviveAfter   = time.Second
)

// server is one memcached server and how it has been doing.
type server struct {
	name    string // as the ring and people have it: host:port or a path
	network string
	timeout time.Duration
	mc      *memcache.Client // for answers
	bulk    *memcache.Client // in the background: longer values, more time

	alive    atomic.Bool
	failures atomic.Int32 // in a row
	failedAt atomic.Int64 // when the last of them was counted, UNIX nanoseconds
	dissent  atomic.Int32 // in a row
	since    atomic.Int64 // when alive last changed, UNIX nanoseconds
	mu       sync.Mutex   // one change of alive at a time
	why      error        // of the last death; guarded by mu

	hits, misses, failed, badMAC, badFormat atomic.Uint64
	latency                                 latency
}

// address is a server as the client library takes it.
type address struct{ network, name string }

func (a address) Network() string { return a.network }
func (a address) String() string  { return a.name }

// one is the library's selector with nothing to select.
type one struct{ address }

func (o one) PickServer(string) (net.Addr, error)  { return o.address, nil }
func (o one) Each(each func(net.Addr) error) error { return each(o.address) }

func newServer(s Server, timeout time.Duration) *server {
	n := &server{name: s.Address, network: s.Network, timeout: timeout}
	n.mc = n.client(timeout, maxValue, idleConns)
	n.bulk = n.client(max(timeout, bulkTimeout), maxBulk, 1)
	n.alive.Store(true)
	n.since.Store(time.Now().UnixNano())
	return n
}

// bare is an error of the client without the server's address, which is reported with it.
func bare(err error) error {
	var late *memcache.ConnectTimeoutError
	if errors.As(err, &late) {
		return neterr.Say("no connection in time", err)
	}
	return neterr.Bare(err)
}

// notice names the server's trouble on the board of notices.
func (s *server) notice() string { return Matter(s.name) }

// Matter is the key of the notice that a server does not answer.
func Matter(server string) string { return "memcached server " + server }

func (s *server) client(timeout time.Duration, value, idle int) *memcache.Client {
	mc := memcache.NewFromSelector(one{address{s.network, s.name}})
	mc.Timeout, mc.MaxIdleConns = timeout, idle
	mc.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &guard{Conn: conn, timeout: timeout, value: value}, nil
	}
	return mc
}

// get asks for keys in one question. What the server gives under other keys is not there.
func (s *server) get(keys []string) (map[string]*memcache.Item, error) {
	if len(keys) > 1 {
		return s.mc.GetMulti(keys)
	}
	item, err := s.mc.Get(keys[0])
	switch {
	case errors.Is(err, memcache.ErrCacheMiss) || (err == nil && item.Key != keys[0]):
		return nil, nil //nolint:nilnil // nothing was found, which is not an error
	case err != nil:
		return nil, err
	}
	return map[string]*memcache.Item{keys[0]: item}, nil
}

// note judges the server by what came of a question that began at began. It reports
// whether the server has just died.
func (s *server) note(err error, began time.Time) (died bool) {
	switch {
	case err == nil || answered(err):
		s.failures.Store(0)
		s.dissent.Store(0)
		return false
	case began.UnixNano() < s.since.Load():
		return false // asked before it died or came back
	}
	s.failed.Add(1)
	switch {
	case errors.Is(err, errRefused): // it is full, and lives
		return false
	case errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT):
	case broken(err):
		if began.UnixNano() < s.failedAt.Load() {
			return false // asked at the same time as the one before: a pause of our own fails them all
		}
		s.failedAt.Store(time.Now().UnixNano())
		if s.failures.Add(1) < failuresToDie {
			return false
		}
	default: // it lives, and says what is not an answer
		if s.dissent.Add(1) < dissentToDie {
			return false
		}
	}
	return s.die(err)
}

func (s *server) die(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.alive.Load() {
		return false
	}
	s.why = err
	s.since.Store(time.Now().UnixNano())
	s.alive.Store(false)
	s.hangUp()
	return true
}

// revive tries a dead server; it reports whether it lives again, and how long it was dead.
func (s *server) revive() (deadFor time.Duration, ok bool) {
	if err := bare(s.mc.Ping()); err != nil {
		s.mu.Lock()
		s.why = err
		s.mu.Unlock()
		return 0, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures.Store(0)
	s.dissent.Store(0)
	now := time.Now().UnixNano()
	deadFor = time.Duration(now - s.since.Swap(now))
	s.alive.Store(true)
	return deadFor, true
}

// hangUp closes idle connections: those to a server that has gone would each fail once.
func (s *server) hangUp() {
	_ = s.mc.Close()
	_ = s.bulk.Close()
}

// answered reports whether err is an answer of a server that is well.
func answered(err error) bool {
	return errors.Is(err, memcache.ErrCacheMiss) || errors.Is(err, memcache.ErrNotStored) ||
		errors.Is(err, memcache.ErrCASConflict) || errors.Is(err, memcache.ErrMalformedKey) ||
		errors.Is(err, errTooLong) // a value of another kind of client
}

// broken reports whether err means that no reply came.
func broken(err error) bool {
	var timeout *memcache.ConnectTimeoutError
	var network net.Error
	return gone(err) || errors.As(err, &timeout) || errors.As(err, &network)
}

// gone reports whether err is what the end of a connection gives, which may have come
// while it lay idle.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed)
}
