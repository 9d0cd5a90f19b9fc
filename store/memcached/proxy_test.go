// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"bytes"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"rcptgate/config/setting"
	"rcptgate/test/lab"
)

// proxy stands before a real server, or is none: it spoils replies.
type proxy struct {
	addr string
	to   *lab.Memcached // nil: reply makes everything up

	mu    sync.Mutex
	delay time.Duration
	drip  time.Duration // between octets of a reply
	cut   int           // octets of each reply that come through; < 0: all
	reply func(command []byte) []byte
}

func startProxy(t testing.TB, to *lab.Memcached) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), to: to, cut: -1}
	var all sync.WaitGroup
	conns := &connections{}
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.add(c)
			all.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		conns.close()
		all.Wait()
	})
	return p
}

type connections struct {
	mu  sync.Mutex
	all []net.Conn
}

func (c *connections) add(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, conn)
}

func (c *connections) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
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
	command, answer := make([]byte, 1<<16), make([]byte, 1<<20)
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
		time.Sleep(delay)
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
	cfg.Servers = []Server{{setting.Socket{Network: "tcp", Address: p.addr}}}
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
