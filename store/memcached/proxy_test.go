// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"bytes"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"rcptgate/config/setting"
	"rcptgate/kit/testkit"
	"rcptgate/test/lab"
)

// proxy stands before a real server, or is none: it spoils replies. It listens on a unix
// socket, which nobody else takes while it is down.
type proxy struct {
	addr   string
	to     *lab.Memcached // nil: reply makes everything up
	all    sync.WaitGroup
	closed chan struct{} // at the end of the test

	mu    sync.Mutex
	l     net.Listener // nil while it is down
	conns *connections
	delay time.Duration
	drip  time.Duration // between octets of a reply
	cut   int           // octets of each reply that come through; < 0: all
	reply func(command []byte) []byte
}

func startProxy(t testing.TB, to *lab.Memcached) *proxy {
	t.Helper()
	p := &proxy{addr: filepath.Join(testkit.Dir(t), "proxy"), to: to, closed: make(chan struct{}), cut: -1}
	if err := p.up(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(p.closed)
		p.down()
		p.all.Wait()
	})
	return p
}

// up has the proxy take connections.
func (p *proxy) up() error {
	l, err := net.Listen("unix", p.addr)
	if err != nil {
		return err
	}
	conns := &connections{}
	p.mu.Lock()
	p.l, p.conns = l, conns
	p.mu.Unlock()
	p.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.add(c)
			p.all.Go(func() { p.serve(c) })
		}
	})
	return nil
}

// down ends all connections and refuses new ones.
func (p *proxy) down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.l != nil {
		_ = p.l.Close()
		p.conns.close()
		p.l = nil
	}
}

type connections struct {
	mu     sync.Mutex
	all    []net.Conn
	closed bool
}

func (c *connections) add(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all = append(c.all, conn); c.closed {
		_ = conn.Close()
	}
}

func (c *connections) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, conn := range c.all {
		_ = conn.Close()
	}
}

// spoil says what happens from here on.
func (p *proxy) spoil(delay time.Duration, cut int, reply func([]byte) []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay, p.cut, p.reply = delay, cut, reply
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close() //nolint:errcheck // a test's
	var server net.Conn
	if p.to != nil {
		var err error
		if server, err = net.Dial(p.to.Network, p.to.Addr); err != nil {
			return
		}
		defer server.Close() //nolint:errcheck // a test's
	}
	command, answer := make([]byte, 1<<16), make([]byte, 1<<16)
	for {
		n, err := client.Read(command)
		if err != nil {
			return
		}
		p.mu.Lock()
		delay, cut, reply, drip := p.delay, p.cut, p.reply, p.drip
		p.mu.Unlock()
		var out []byte
		if reply != nil {
			out = reply(command[:n])
		} else {
			if _, err := server.Write(command[:n]); err != nil {
				return
			}
			m, err := server.Read(answer)
			if err != nil {
				return
			}
			out = answer[:m]
		}
		select {
		case <-time.After(delay):
		case <-p.closed:
			return
		}
		if cut >= 0 && cut < len(out) {
			_, _ = client.Write(out[:cut])
			return
		}
		for ; drip > 0 && len(out) > 1; out = out[1:] {
			if _, err := client.Write(out[:1]); err != nil {
				return
			}
			time.Sleep(drip)
		}
		if _, err := client.Write(out); err != nil {
			return
		}
	}
}

func (p *proxy) config() testConfig {
	cfg := testConfig{Config: DefaultConfig()}
	cfg.Servers = []Server{{setting.Socket{Network: "unix", Address: p.addr}}}
	return cfg
}

// lines counts the log lines with a text.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.text.Bytes(), []byte(text))
}

// logging makes a gateway whose log is kept.
func logging(t testing.TB, cfg testConfig, opt Options) (*Store, *lines) {
	t.Helper()
	log := &lines{}
	c, err := NewClient(cfg.Config, slog.New(slog.NewTextHandler(log, nil)), ClientOptions{Timeout: cfg.Timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	s := New(c, opt)
	t.Cleanup(func() { _ = s.Close() })
	return s, log
}

// prompt ends each answer's patience as a daemon does.
func prompt(cfg testConfig) testConfig {
	cfg.Timeout = 0
	return cfg
}
