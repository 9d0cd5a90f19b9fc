// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"rcptgate/kit/notice"
	"rcptgate/store"
)

// ErrBusy says that as many questions as are allowed wait for servers already.
var ErrBusy = errors.New("too many questions wait for memcached")

// ErrSlow says that a server gave no answer in time.
var ErrSlow = errors.New("memcached gave no answer in time")

// ErrExists says that Add found something there.
var ErrExists = errors.New("something is there already")

const (
	maxOps     = 256 // questions at once
	maxPlain   = 200 // octets of a key that is written as it is
	maxBatch   = 100 // keys of one question
	thirtyDays = 30 * 24 * time.Hour
)

// Client speaks to the memcached servers that several gateways share. All methods may
// be called at the same time. Those that ask a server wait for at most 40 ms, and no
// longer than ctx and its rcptgate.Budget allow; with all servers dead they ask none.
type Client struct {
	notices *notice.Board
	timeout time.Duration
	setup   atomic.Pointer[setup]
	slots   chan struct{} // one for each question in progress
	mu      sync.Mutex    // one Configure at a time
	back    chan struct{} // a server is new or back: see signalBack

	quit   chan struct{}
	done   sync.WaitGroup
	closed atomic.Bool
}

// setup is what a reload exchanges.
type setup struct {
	ring   *ring
	seal   sealer
	prefix string
}

// ClientOptions say how a Client behaves; the zero ClientOptions are good for a daemon.
type ClientOptions struct {
	// Timeout bounds one question to a server; 0 is 40 ms.
	Timeout time.Duration
	// Notices is the board for servers that are dead; nil means a board that only logs.
	Notices *notice.Board
}

// NewClient makes a client for cfg, whose key file it reads. It asks no server yet: all
// are taken to live.
func NewClient(cfg Config, log *slog.Logger, o ClientOptions) (*Client, error) {
	if o.Notices == nil {
		o.Notices = notice.New(log)
	}
	c := &Client{
		notices: o.Notices, timeout: cmp.Or(o.Timeout, opTimeout),
		slots: make(chan struct{}, maxOps), quit: make(chan struct{}), back: make(chan struct{}, 1),
	}
	if err := c.Configure(cfg); err != nil {
		return nil, err
	}
	c.done.Go(c.tend)
	return c, nil
}

// Configure makes other servers and keys active; on an error nothing changes. Servers
// that are in both configurations keep their connections and counters.
func (c *Client) Configure(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	keys, err := ReadKeys(cfg.KeyFile)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known := map[string]*server{}
	if old := c.setup.Load(); old != nil {
		for _, s := range old.ring.servers {
			known[s.network+":"+s.name] = s
		}
	}
	var servers []*server
	for _, want := range cfg.Servers {
		id := want.Network + ":" + want.Address
		s := known[id]
		if s == nil {
			s = newServer(want, c.timeout)
		}
		delete(known, id)
		servers = append(servers, s)
	}
	next := &setup{ring: newRing(servers), seal: sealer{keys}, prefix: cfg.Prefix}
	if next.prefix == "" {
		next.prefix = DefaultPrefix
	}
	c.setup.Store(next)
	for _, gone := range known {
		gone.hangUp()
		c.notices.Clear(gone.notice(), "")
	}
	c.signalBack()
	return nil
}

// Close ends what runs in the background and closes the connections.
func (c *Client) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	close(c.quit)
	c.done.Wait()
	for _, s := range c.setup.Load().ring.servers {
		s.hangUp()
	}
	return nil
}

// Down reports that no server lives, without asking one.
func (c *Client) Down() bool {
	for _, s := range c.setup.Load().ring.servers {
		if s.alive.Load() {
			return false
		}
	}
	return true
}

// Server names the living server responsible for a memcached key, "" if there is none.
func (c *Client) Server(key string) string {
	if s := c.setup.Load().ring.pick(key); s != nil {
		return s.name
	}
	return ""
}

// Key derives the memcached key of a name: "PREFIX:plain:NAME" if every octet of NAME is
// a printable ASCII character other than a space and the whole has at most 200 octets,
// "PREFIX:hashed:" and the SHA-256 of NAME in hex otherwise. plain and hashed must
// differ, and from those of other uses.
func (c *Client) Key(plain, hashed, name string) string {
	prefix := c.setup.Load().prefix
	if n := len(prefix) + len(plain) + 2 + len(name); n <= maxPlain && printable(name) {
		return prefix + ":" + plain + ":" + name
	}
	sum := sha256.Sum256([]byte(name))
	return prefix + ":" + hashed + ":" + hex.EncodeToString(sum[:])
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// Get gives the value under a memcached key without its seal, and the name of the server
// that was asked. store.ErrNotFound: nothing is there, or nothing that may be believed.
// store.ErrDown: no server lives. Other errors: the server could not be asked.
func (c *Client) Get(ctx context.Context, key string) (value []byte, from string, err error) {
	st := c.setup.Load()
	s := st.ring.pick(key)
	if s == nil {
		return nil, "", store.ErrDown
	}
	found, err := c.fetch(ctx, st, s, []string{key})
	if err != nil {
		return nil, s.name, err
	}
	if found[key] == nil {
		return nil, s.name, store.ErrNotFound
	}
	return found[key], s.name, nil
}

// getAt asks the server responsible for place for keys. A value that may not be believed
// is there, and nil.
func (c *Client) getAt(ctx context.Context, place string, keys ...string) (values map[string][]byte, from string, err error) {
	st := c.setup.Load()
	s := st.ring.pick(place)
	if s == nil {
		return nil, "", store.ErrDown
	}
	values, err = c.fetch(ctx, st, s, keys)
	return values, s.name, err
}

// GetMulti is Get for several keys; those not found are absent. Each server is asked
// once for every 100 keys. With an error the map holds what was found nevertheless.
func (c *Client) GetMulti(ctx context.Context, keys []string) (map[string][]byte, error) {
	st := c.setup.Load()
	groups := map[*server][]string{}
	for _, key := range keys {
		s := st.ring.pick(key)
		if s == nil {
			return nil, store.ErrDown
		}
		groups[s] = append(groups[s], key)
	}
	if len(groups) == 1 {
		for s, keys := range groups {
			found, err := c.fetch(ctx, st, s, keys)
			maps.DeleteFunc(found, func(_ string, value []byte) bool { return value == nil })
			return found, err
		}
	}
	type result struct {
		found map[string][]byte
		err   error
	}
	results := make(chan result, len(groups))
	for s, keys := range groups {
		go func() { // ends by itself: fetch is bounded
			found, err := c.fetch(ctx, st, s, keys)
			results <- result{found, err}
		}()
	}
	all := make(map[string][]byte, len(keys))
	var failed []error
	for range groups {
		r := <-results
		for key, value := range r.found {
			if value != nil {
				all[key] = value
			}
		}
		failed = append(failed, r.err)
	}
	return all, errors.Join(failed...)
}

// fetch asks one server for keys and verifies what comes: a value that may not be
// believed is there, and nil.
func (c *Client) fetch(ctx context.Context, st *setup, s *server, keys []string) (map[string][]byte, error) {
	found := make(map[string][]byte, len(keys))
	for len(keys) > 0 {
		batch := keys[:min(len(keys), maxBatch)]
		keys = keys[len(batch):]
		items, err := do(ctx, c, s, again, func() (map[string]*memcache.Item, error) { return s.get(batch) })
		switch {
		case errors.Is(err, errTooLong) && len(batch) == 1:
			c.Bad(s.name, batch[0], err)
			found[batch[0]] = nil
			continue
		case errors.Is(err, errTooLong): // the others are good
			one, err := c.fetch(ctx, st, s, batch[:1])
			maps.Copy(found, one)
			if err != nil {
				return found, err
			}
			keys = append(batch[1:len(batch):len(batch)], keys...)
			continue
		case err != nil:
			return found, err
		}
		for _, key := range batch {
			item := items[key]
			if item == nil {
				s.misses.Add(1)
				continue
			}
			value, err := st.seal.open(key, item.Value)
			if err != nil {
				c.Bad(s.name, key, err)
				found[key] = nil
				continue
			}
			s.hits.Add(1)
			found[key] = value
		}
	}
	return found, nil
}

// Set keeps value under a memcached key until expire; the zero expire keeps it for ever.
// A value without LF at its end gets one. What has ended deletes.
func (c *Client) Set(ctx context.Context, key string, value []byte, expire time.Time) error {
	return c.store(ctx, key, key, value, expire, false)
}

// Add is Set unless something is there: ErrExists.
func (c *Client) Add(ctx context.Context, key string, value []byte, expire time.Time) error {
	return c.store(ctx, key, key, value, expire, true)
}

// store writes to the server responsible for place, which for leases is the key of the
// answer.
func (c *Client) store(ctx context.Context, place, key string, value []byte, expire time.Time, add bool) error {
	st := c.setup.Load()
	s := st.ring.pick(place)
	if s == nil {
		return store.ErrDown
	}
	seconds, ended := exptime(expire, time.Now())
	if ended {
		return c.delete(ctx, s, key)
	}
	item := &memcache.Item{Key: key, Value: st.seal.seal(key, value), Expiration: seconds}
	retry, write := again, s.mc.Set
	if add {
		retry, write = once, s.mc.Add
	}
	_, err := do(ctx, c, s, retry, func() (struct{}, error) { return struct{}{}, write(item) })
	if errors.Is(err, memcache.ErrNotStored) {
		return ErrExists
	}
	return err
}

// Delete removes what is under a memcached key; an absent one is not an error.
func (c *Client) Delete(ctx context.Context, key string) error {
	s := c.setup.Load().ring.pick(key)
	if s == nil {
		return store.ErrDown
	}
	return c.delete(ctx, s, key)
}

func (c *Client) delete(ctx context.Context, s *server, key string) error {
	_, err := do(ctx, c, s, again, func() (struct{}, error) { return struct{}{}, s.mc.Delete(key) })
	if errors.Is(err, memcache.ErrCacheMiss) {
		return nil
	}
	return err
}

// exptime gives expire as memcached wants it: seconds from now up to 30 days, UNIX time
// beyond, 0 for ever. UNIX time ends in 2038 there.
func exptime(expire, now time.Time) (seconds int32, ended bool) {
	if expire.IsZero() {
		return 0, false
	}
	left := expire.Sub(now)
	switch {
	case left <= 0:
		return 0, true
	case left <= thirtyDays:
		return int32((left + time.Second - 1) / time.Second), false //nolint:gosec // at most 30 days
	case expire.Unix() <= math.MaxInt32:
		return int32(expire.Unix()), false //nolint:gosec // held by the case
	}
	return int32(thirtyDays / time.Second), false
}

// Bad counts a value that may not be believed, and logs it at most once an hour.
func (c *Client) Bad(serverName, key string, why error) {
	for _, s := range c.setup.Load().ring.servers {
		if s.name != serverName {
			continue
		}
		if errors.Is(why, errMAC) {
			s.badMAC.Add(1)
		} else {
			s.badFormat.Add(1)
		}
	}
	c.notices.Warn("memcached bad value "+serverName, "a value in memcached is ignored; the metrics count more of them",
		"server", serverName, "key", key, "error", why)
}

// Stats describes the servers in the order of the configuration.
func (c *Client) Stats() []ServerStats {
	var list []ServerStats
	for _, s := range c.setup.Load().ring.servers {
		list = append(list, s.stats())
	}
	return list
}
