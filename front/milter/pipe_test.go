// SPDX-License-Identifier: BSD-2-Clause

package milter_test

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"

	"rcptgate"
	"rcptgate/front/milter"
	"rcptgate/front/milter/mta"
	"rcptgate/front/milter/wire"
	"rcptgate/kit/testkit"
)

// inMemory starts a server on a network in memory, for tests in a bubble.
func inMemory(t testing.TB, gate rcptgate.Asker, config milter.Config) (srv *running, dial func() net.Conn) {
	t.Helper()
	var network testkit.Network
	ln, err := network.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	srv = serveOn(t, gate, config, (*milter.Server).Serve, ctx, ln)
	srv.stop = cancel
	return srv, func() net.Conn {
		t.Helper()
		nc, err := network.DialContext(t.Context(), "tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		return nc
	}
}

// speak begins a milter session on a connection.
func speak(t testing.TB, nc net.Conn) *mta.Client {
	t.Helper()
	c, err := mta.New(nc, mta.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// counting keeps what was read.
type counting struct {
	net.Conn
	mu   sync.Mutex
	read bytes.Buffer
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read.Write(p[:n])
	return n, err
}

func (c *counting) frames() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read.Len()
}

// progress counts the words of progress read after the first octets.
func (c *counting) progress(from int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Count(c.read.Bytes()[from:], []byte{0, 0, 0, 1, wire.ReplyProgress})
}
