// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"rcptgate/kit/notice"
)

// Set is every backend there is. It is safe for concurrent use and outlives reloads.
type Set struct {
	notices *notice.Board
	tune    tuning

	mu       sync.RWMutex // guards what follows
	settings *settings
	backends map[Address]*Backend
	closed   bool
}

// tuning is what tests have to change.
type tuning struct {
	trialEvery, trialSlow time.Duration
	most                  int           // backends
	grace                 time.Duration // see graceMin
	stall                 time.Duration // see pipelineStall
	tlsWait               time.Duration
	// mayLoop reports that a server at ip may bear our name.
	mayLoop func(ip net.IP) bool
	lookup  func(ctx context.Context, host string) ([]netip.Addr, error)
	// dial connects, instead of a net.Dialer; nil: that does.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	// onBreaker is called when a breaker opens or closes; it may be nil.
	onBreaker func(a Address, open bool)
}

// Option changes how a Set works.
type Option func(*Set)

// WithLookup makes the set ask lookup for the addresses of a backend's name instead
// of the system's resolver.
func WithLookup(lookup func(ctx context.Context, host string) ([]netip.Addr, error)) Option {
	return func(s *Set) { s.tune.lookup = lookup }
}

// WithNotices has the set report servers that are down, adaptations and limits to a board
// shared with others. Without it the set has a board of its own, and only logs.
func WithNotices(b *notice.Board) Option { return func(s *Set) { s.notices = b } }

// WithTrials sets the time between two trials of a backend that does not answer,
// while it is asked about (5 s) and later (1 min).
func WithTrials(every, slow time.Duration) Option {
	return func(s *Set) { s.tune.trialEvery, s.tune.trialSlow = every, slow }
}

// NewSet makes an empty set. A nil log means silence. If CAFile cannot be read, every
// backend that needs it fails; Config.Validate finds that out beforehand.
func NewSet(cfg Config, hostname string, log *slog.Logger, options ...Option) *Set {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Set{notices: notice.New(log), settings: newSettings(cfg, hostname), backends: make(map[Address]*Backend)}
	s.tune = tuning{
		trialEvery: 5 * time.Second,
		trialSlow:  time.Minute,
		most:       10_000,
		grace:      graceMin,
		stall:      pipelineStall,
		tlsWait:    tlsWait,
		mayLoop:    net.IP.IsLoopback,
		lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
	}
	for _, o := range options {
		o(s)
	}
	return s
}

// Configure makes cfg the active configuration of all backends. What is known of them
// stays, and so do their connections, up to the new limits.
func (s *Set) Configure(cfg Config, hostname string) {
	set := newSettings(cfg, hostname)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settings = set
	for _, b := range s.backends {
		b.configure(set)
	}
}

// Get gives the backend at a, the same one each time while it is in use. It does no
// I/O.
func (s *Set) Get(a Address) *Backend {
	s.mu.RLock()
	b := s.backends[a]
	s.mu.RUnlock()
	if b != nil {
		b.lastUse.Store(time.Now().UnixNano())
		return b
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.backends[a]; b != nil {
		return b
	}
	b = newBackend(s, a, s.settings)
	if s.closed {
		b.shut(true)
		return b
	}
	if len(s.backends) >= s.tune.most {
		s.makeRoom()
	}
	s.backends[a] = b
	return b
}

// makeRoom lets a hundredth of the backends go, the least recently used ones that
// have nothing to do. A holder of one may go on using it: Ask finds its successor.
func (s *Set) makeRoom() {
	all := make([]*Backend, 0, len(s.backends))
	for _, b := range s.backends {
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b *Backend) int { return cmp.Compare(a.lastUse.Load(), b.lastUse.Load()) })
	want := max(1, s.tune.most/100)
	for _, b := range all {
		if want > 0 && b.shut(false) {
			delete(s.backends, b.addr)
			want--
		}
	}
}

// Health says how every backend is, in the order of their names.
func (s *Set) Health() []Health {
	s.mu.RLock()
	all := make([]*Backend, 0, len(s.backends))
	for _, b := range s.backends {
		all = append(all, b)
	}
	s.mu.RUnlock()
	health := make([]Health, len(all))
	for i, b := range all {
		health[i] = b.Health()
	}
	slices.SortFunc(health, func(a, b Health) int { return cmp.Compare(a.Backend, b.Backend) })
	return health
}

// Close ends every connection and waits for every goroutine of the set. Questions
// under way fail, later ones too.
func (s *Set) Close() {
	s.mu.Lock()
	s.closed = true
	all := s.backends
	s.backends = make(map[Address]*Backend)
	s.mu.Unlock()
	for _, b := range all {
		b.shut(true)
	}
	for _, b := range all {
		b.wg.Wait()
	}
}

// shut ends the backend's connections and goroutines without waiting for the latter.
// Unless forced it does so only when nothing is under way, and reports whether.
func (b *Backend) shut(force bool) bool {
	if !b.pool.close(force) {
		return false
	}
	b.breaker.close()
	b.cancel()
	b.set.notices.Clear(b.downKey(), "")
	b.set.notices.ClearAll("backend-habit " + b.name + " ")
	b.set.notices.Clear("backend-limit "+b.name, "")
	return true
}
