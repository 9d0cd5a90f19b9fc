// SPDX-License-Identifier: BSD-2-Clause

// Package sim is a mail server that exists only to be asked: for the demo, the
// benchmark and the tests of faults. It speaks SMTP or LMTP (RFC 5321, RFC 2033) as
// far as probes go (EHLO, HELO, LHLO, STARTTLS, MAIL, RCPT, RSET, NOOP, QUIT; DATA is
// refused), does what its [Behaviour] says, wrong things included, and counts.
//
// Limits: a command line has at most 4,096 octets, one address per recipient is
// counted up to 100,000 different ones.
package sim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
)

// Config says where a server listens and what it does at first.
type Config struct {
	Network string // "tcp" (default) or "unix"
	Address string // host:port or path; default 127.0.0.1:0, any free port
	LMTP    bool
	Name    string      // in the banner; default "sim.example"
	TLS     *tls.Config // for STARTTLS; default a self-signed certificate for Name and 127.0.0.1
	// Listen, unless nil, is used instead of [net.Listen].
	Listen func(network, address string) (net.Listener, error)
	Behaviour
}

// Server is a simulated mail server. It is safe for concurrent use.
type Server struct {
	cfg       Config
	behaviour atomic.Pointer[Behaviour]
	passed    atomic.Bool // Behaviour.Postscreen lets clients through
	counters

	mu       sync.Mutex // guards what follows
	listener net.Listener
	addr     string // where it listened first, for Restart
	conns    map[net.Conn]struct{}
	freed    chan struct{} // closed and made anew whenever a connection ends
	done     chan struct{} // closed by Stop
	wg       sync.WaitGroup
}

// New makes a server that does not listen yet.
func New(cfg Config) *Server {
	if cfg.Network == "" {
		cfg.Network = "tcp"
	}
	if cfg.Address == "" && cfg.Network == "tcp" {
		cfg.Address = "127.0.0.1:0"
	}
	if cfg.Name == "" {
		cfg.Name = "sim.example"
	}
	s := &Server{cfg: cfg, addr: cfg.Address, conns: make(map[net.Conn]struct{}), freed: make(chan struct{})}
	s.perRecipient = make(map[string]int)
	s.behaviour.Store(&cfg.Behaviour)
	return s
}

// Start listens and serves in the background until Stop.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return errors.New("simulated server: already started")
	}
	if s.cfg.TLS == nil {
		cfg, err := selfSigned(s.cfg.Name)
		if err != nil {
			return fmt.Errorf("simulated server: %w", err)
		}
		s.cfg.TLS = cfg
	}
	if s.cfg.Network == "unix" {
		_ = os.Remove(s.addr) // left over by an earlier run; Listen says if it is still there
	}
	listen := s.cfg.Listen
	if listen == nil {
		listen = func(network, address string) (net.Listener, error) {
			return new(net.ListenConfig).Listen(context.Background(), network, address)
		}
	}
	l, err := listen(s.cfg.Network, s.addr)
	if err != nil {
		return fmt.Errorf("simulated server: %w", err)
	}
	s.listener, s.addr, s.done = l, l.Addr().String(), make(chan struct{})
	done := s.done
	s.wg.Go(func() { s.accept(l, done) })
	return nil
}

// Restart listens again where the server listened before Stop.
func (s *Server) Restart() error { return s.Start() }

// Stop ends every connection and stops listening: connections are refused from then
// on. It waits for the server's goroutines.
func (s *Server) Stop() {
	s.mu.Lock()
	if s.listener == nil {
		s.mu.Unlock()
		return
	}
	_ = s.listener.Close()
	s.listener = nil
	close(s.done)
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// DropConnections ends every connection and goes on listening.
func (s *Server) DropConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

// Addr is where the server listens: host:port, or the socket's path.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Backend is the server's address as a transport table writes it:
// "smtp:[127.0.0.1]:2525", "lmtp:unix:/path".
func (s *Server) Backend() string {
	protocol := "smtp:"
	if s.cfg.LMTP {
		protocol = "lmtp:"
	}
	addr := s.Addr()
	if s.cfg.Network == "unix" {
		return protocol + "unix:" + addr
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	return protocol + "[" + host + "]:" + port
}

// SetBehaviour changes what the server does, from the next command on.
func (s *Server) SetBehaviour(b Behaviour) { s.behaviour.Store(&b) }

func (s *Server) accept(l net.Listener, done chan struct{}) {
	for {
		nc, err := l.Accept()
		if err != nil {
			select {
			case <-done:
				return
			default:
				continue // one connection's trouble
			}
		}
		s.mu.Lock()
		select {
		case <-done:
			s.mu.Unlock()
			_ = nc.Close()
			return
		default:
		}
		s.conns[nc] = struct{}{}
		number := s.opened(len(s.conns))
		s.wg.Go(func() { s.serve(nc, done, number) })
		s.mu.Unlock()
	}
}

func (s *Server) serve(nc net.Conn, done chan struct{}, number int) {
	c := newSession(s, nc, done)
	c.number = number
	c.run()
	if c.screened && c.probes > 0 {
		s.passed.Store(true)
	}
	s.mu.Lock()
	delete(s.conns, nc) // before the client sees the end, and perhaps connects anew
	close(s.freed)
	s.freed = make(chan struct{})
	s.mu.Unlock()
	_ = nc.Close()
}

// place is how many connections there are, and what is closed when one ends.
func (s *Server) place() (open int, freed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), s.freed
}
