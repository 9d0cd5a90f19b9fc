// SPDX-License-Identifier: BSD-2-Clause

package listen

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// limited is a listener for an HTTP server with a bound on its connections. When one
// more comes, the one is closed that has been without a request in work for the
// longest time: nobody who is slow to ask keeps others waiting. Make it with Limit.
type limited struct {
	net.Listener
	most int
	// hurry: when all are at work the one that has been for the longest time goes. Else
	// the new one waits until another has finished.
	hurry bool

	mu     sync.Mutex
	conns  map[*limitedConn]struct{}
	room   *sync.Cond
	closed bool
}

// limit bounds the connections taken from l at the same time. hurry is for servers
// whose answers take no time, so that who is long at work does not read them.
func limit(l net.Listener, most int, hurry bool) *limited {
	lim := &limited{Listener: l, most: most, hurry: hurry, conns: make(map[*limitedConn]struct{})}
	lim.room = sync.NewCond(&lim.mu)
	return lim
}

type limitedConn struct {
	net.Conn
	limit *limited
	once  sync.Once

	// The limit's mutex guards what follows.
	busy  bool
	since time.Time // when it was taken, began or finished its work
}

// Accept waits for a connection and makes room for it.
func (l *limited) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &limitedConn{Conn: conn, limit: l, since: time.Now()}
	l.mu.Lock()
	for len(l.conns) >= l.most && !l.closed {
		victim := l.oldest()
		if victim == nil {
			l.room.Wait()
			continue
		}
		delete(l.conns, victim)
		_ = victim.Conn.Close() // of a socket: it does not wait
	}
	l.conns[c] = struct{}{}
	l.mu.Unlock()
	return c, nil
}

// oldest gives who has to go, nil when nobody has. The mutex is held.
func (l *limited) oldest() *limitedConn {
	var idle, working *limitedConn
	for c := range l.conns {
		slot := &idle
		if c.busy {
			slot = &working
		}
		if *slot == nil || c.since.Before((*slot).since) {
			*slot = c
		}
	}
	if idle == nil && l.hurry {
		return working
	}
	return idle
}

// Close ends the listener; the connections are the server's.
func (l *limited) Close() error {
	l.mu.Lock()
	l.closed = true
	l.room.Broadcast()
	l.mu.Unlock()
	return l.Listener.Close()
}

func (c *limitedConn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		c.limit.mu.Lock()
		delete(c.limit.conns, c)
		c.limit.room.Broadcast()
		c.limit.mu.Unlock()
		err = c.Conn.Close()
	})
	return err
}

func (c *limitedConn) work(busy bool) {
	l := c.limit
	l.mu.Lock()
	defer l.mu.Unlock()
	c.busy, c.since = busy, time.Now()
	if !busy {
		l.room.Broadcast()
	}
}

type connKey struct{}

// Serve has h serve the connections of l. A connection is at work from the moment that
// its request's handler calls [Working] until the answer has been written, which is after
// the handler has returned. It uses h's ConnContext and ConnState.
func (l *limited) Serve(h *http.Server) error {
	h.ConnState = func(conn net.Conn, state http.ConnState) {
		if c, ok := conn.(*limitedConn); ok && state == http.StateIdle {
			c.work(false)
		}
	}
	h.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) }
	return h.Serve(l)
}

// Working is called by the handler of a request, with its context, when all of the
// request has been read.
func Working(ctx context.Context) {
	if c, ok := ctx.Value(connKey{}).(*limitedConn); ok {
		c.work(true)
	}
}
