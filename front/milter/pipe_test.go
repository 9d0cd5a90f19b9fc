// SPDX-License-Identifier: BSD-2-Clause

package milter_test

import (
	"bytes"
	"log/slog"
	"net"
	"sync"

	"rcptgate/front/milter/wire"
)

func discardLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// pipeListener is a listener in memory, for tests in a bubble.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial() net.Conn {
	here, there := net.Pipe()
	l.conns <- there
	return here
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

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
