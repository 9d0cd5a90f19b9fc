// SPDX-License-Identifier: BSD-2-Clause

package antivirus

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"rcptgate/check/antivirus/clamd"
	"rcptgate/kit/notice"
	"rcptgate/kit/term"
)

// pool is the servers of one configuration. They take scans in turn, each a bounded number
// at one time. A server that fails rests, and is used again when a self-test has shown that
// it answers and finds what it should. It is safe for concurrent use.
type pool struct {
	cfg     *Config
	board   *notice.Board
	servers []*server

	life   context.Context //nolint:containedctx // of tests
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex // guards what follows, and the servers' state; never held for long
	next    int        // the server whose turn it is
	waiting []*waiter
}

// waiter is a message that waits for a server.
type waiter struct {
	size  int64
	not   *server
	ready chan *server // of capacity 1; nil: no server can be used
}

func newPool(cfg *Config, board *notice.Board, open func(Server) scanner) *pool {
	p := &pool{cfg: cfg, board: board}
	p.life, p.cancel = context.WithCancel(context.Background())
	for _, s := range cfg.Clamd {
		p.servers = append(p.servers, &server{name: s.String(), scanner: open(s)})
	}
	return p
}

func openClamd(s Server) scanner { return &clamd.Client{Network: s.Network, Address: s.Address} }

func (p *pool) close() {
	p.cancel()
	p.work.Wait()
	for _, s := range p.servers {
		forgetNotices(p.board, s.name)
	}
}

// Scan has a server look into a message of size octets, and another one if the first cannot
// say. open begins the message anew. An error means that nobody could say.
func (p *pool) Scan(ctx context.Context, open func() io.Reader, size int64) (found clamd.Finding, err error) {
	var tried *server
	for range 2 {
		s, none := p.acquire(ctx, size, tried)
		if none != nil {
			if err == nil {
				err = none
			}
			return found, err
		}
		found, err = p.once(ctx, s, open(), size, tried == nil)
		if err == nil || clamd.KindOf(err) == clamd.Unread || ctx.Err() != nil {
			return found, err
		}
		tried = s
	}
	return found, err
}

// once has one server look into a message. The first of several has half of the time.
func (p *pool) once(ctx context.Context, s *server, message io.Reader, size int64, first bool) (clamd.Finding, error) {
	limit := p.cfg.limit(size)
	if deadline, ok := ctx.Deadline(); ok && first && len(p.servers) > 1 {
		limit = min(limit, time.Until(deadline)/2)
	}
	scan, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s.scans.Add(1)
	found, err := s.Scan(scan, message, size)
	p.mu.Lock()
	defer p.mu.Unlock()
	s.busy--
	switch {
	case err != nil && ctx.Err() != nil: // it has had less time than it may take
		p.suspect(s)
	case err != nil:
		p.failed(s, size, err)
	case found.Name == "" && size > s.proven:
		err = &clamd.Error{Kind: clamd.TooLong, Err: fmt.Errorf("clamd was seen to look into messages of up to %s only", term.Count(s.proven, "octet"))}
	default:
		s.row = 0
		if found.Name != "" {
			s.found.Add(1)
		}
	}
	p.dispatch()
	if err != nil {
		err = fmt.Errorf("%s: %w", s.name, err)
	}
	return found, err
}

// acquire gives a server that may take a message of a size, but not the one given, and waits
// for one while all are busy.
func (p *pool) acquire(ctx context.Context, size int64, not *server) (*server, error) {
	w := &waiter{size: size, not: not, ready: make(chan *server, 1)}
	p.mu.Lock()
	p.waiting = append(p.waiting, w)
	p.dispatch()
	p.mu.Unlock()
	select {
	case s := <-w.ready:
		if s == nil {
			return nil, p.nobody()
		}
		return s, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := slices.Index(p.waiting, w); at >= 0 {
		p.waiting = slices.Delete(p.waiting, at, at+1)
	} else if s := <-w.ready; s != nil {
		s.busy--
		p.dispatch()
	}
	return nil, fmt.Errorf("waiting for a virus scanner: %w", ctx.Err())
}

// dispatch gives servers to those that wait, the longest first, and tells those for whom
// there is none. The pool is locked.
func (p *pool) dispatch() {
	kept := p.waiting[:0]
	for _, w := range p.waiting {
		s, wait := p.pick(w)
		if s == nil && wait {
			kept = append(kept, w)
			continue
		}
		if s != nil {
			s.busy++
		}
		w.ready <- s
	}
	clear(p.waiting[len(kept):])
	p.waiting = kept
}

// pick finds the server with the fewest scans that may take a message; nil and true if one
// will. Servers that were seen to look into messages of that size come first.
func (p *pool) pick(w *waiter) (best *server, wait bool) {
	able := func(s *server) bool { return s.proven >= w.size }
	for i := range p.servers {
		s := p.servers[(p.next+i)%len(p.servers)]
		switch {
		case s == w.not:
		case !s.known:
			p.startTest(s, false)
			wait = true
		case !s.usable():
		case s.busy >= p.cfg.Connections:
			wait = true
		case best == nil || able(s) && !able(best) || able(s) == able(best) && s.busy < best.busy:
			best = s
		}
	}
	if best != nil {
		p.next = (p.next + 1) % len(p.servers)
	}
	return best, wait
}

// nobody says why there is no server.
func (p *pool) nobody() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var why []string
	for _, s := range p.servers {
		if !s.usable() {
			why = append(why, s.name+": "+s.why)
		}
	}
	return fmt.Errorf("no virus scanner can be used: %s", strings.Join(why, "; "))
}
