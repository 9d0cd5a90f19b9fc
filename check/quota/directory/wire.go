// SPDX-License-Identifier: BSD-2-Clause

package directory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// What a server may send, in octets: for one request, and for all requests in progress.
const (
	answerLimit = 16 << 10
	creditLimit = 512 << 10
)

var errTooMuch = errors.New("the server sends more than was asked for")

// bounded is a connection to a server that is not trusted with our memory or time. Each
// request allows the server a bounded number of octets, and each write has a deadline: the
// library has neither.
type bounded struct {
	net.Conn
	timeout time.Duration
	credit  atomic.Int64
}

func newBounded(c net.Conn, timeout time.Duration) *bounded {
	b := &bounded{Conn: c, timeout: timeout}
	b.credit.Store(answerLimit)
	return b
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.credit.Add(answerLimit) > creditLimit {
		b.credit.Store(creditLimit)
	}
	if err := b.SetWriteDeadline(time.Now().Add(b.timeout)); err != nil {
		return 0, err
	}
	return b.Conn.Write(p)
}

func (b *bounded) Read(p []byte) (int, error) {
	left := b.credit.Load()
	if left <= 0 {
		return 0, errTooMuch
	}
	n, err := b.Conn.Read(p[:min(len(p), int(left))])
	b.credit.Add(-int64(n))
	return n, err
}

// link is one connection, bound and ready. Many searches may use it at the same time.
type link struct {
	*ldap.Conn
	raw  net.Conn
	used atomic.Int64 // when last, nanoseconds
}

// drop closes the connection at once. Nothing that the library waits for is left: it closes
// in order only while the server takes part in it.
func (l *link) drop() {
	_ = l.raw.Close()
	_ = l.Close()
}

// dialer is net.Dialer's DialContext.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// access is how a server is connected to.
type access struct {
	target
	dial           dialer
	tls            *tls.Config
	starttls       bool
	bind, password string
	timeout        time.Duration
}

// connect makes a connection. ctx bounds it.
func (a *access) connect(ctx context.Context) (_ *link, err error) {
	raw, err := a.dial(ctx, a.network, a.address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() }) // the library's own calls know no context
	conn := raw
	if a.target.tls {
		secure := tls.Client(raw, a.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			stop()
			_ = raw.Close()
			return nil, fmt.Errorf("TLS: %w", err)
		}
		conn = secure
	}
	l := &link{Conn: ldap.NewConn(newBounded(conn, a.timeout), a.target.tls), raw: raw}
	l.SetTimeout(a.timeout)
	l.Start()
	err = a.open(l)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		l.drop()
		return nil, err
	}
	return l, nil
}

// open starts TLS and binds.
func (a *access) open(l *link) error {
	if a.starttls && !a.target.tls && !a.unix {
		if err := l.StartTLS(a.tls); err != nil {
			return fmt.Errorf("StartTLS: %w", err)
		}
	}
	if a.bind == "" {
		return nil
	}
	if _, err := l.SimpleBind(ldap.NewSimpleBindRequest(a.bind, a.password, nil)); err != nil {
		return fmt.Errorf("bind as %s: %w", a.bind, err)
	}
	return nil
}
