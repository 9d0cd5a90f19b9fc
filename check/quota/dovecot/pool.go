// SPDX-License-Identifier: BSD-2-Clause

package dovecot

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"rcptgate/check/quota/wire"
)

// maxReply bounds a reply, in octets.
const maxReply = 64 << 10

// readLine reads a line without its end; left is how much of the reply may still come.
func readLine(r *bufio.Reader, left *int) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if *left -= len(part); *left < 0 {
			return "", fmt.Errorf("the reply has more than %d octets", maxReply)
		}
		line = append(line, part...)
		if err == nil {
			return string(line[:len(line)-1]), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return "", err
		}
	}
}

// Pool asks one service, and keeps connections to it. Make one with [Policy] or [Doveadm].
// It is safe for concurrent use; how many questions are in progress is for the caller to
// bound.
type Pool struct {
	network, address string
	greet            func(*conn) error
	ask              func(c *conn, user string, size int64) (wire.Answer, error)

	mu   sync.Mutex
	idle []*conn
}

type conn struct {
	net.Conn
	r    *bufio.Reader
	used bool // it has answered before
	end  *time.Timer
}

const (
	maxIdle = 2
	idleFor = 30 * time.Second // a kept connection is closed after
)

// Policy makes a Pool for quota-status.
func Policy(network, address string) *Pool {
	p := &Pool{network: network, address: address}
	p.ask = func(c *conn, user string, size int64) (wire.Answer, error) {
		text, err := AppendPolicy(nil, user, size)
		if err != nil {
			return wire.Answer{}, err
		}
		if _, err = c.Write(text); err != nil {
			return wire.Answer{}, err
		}
		return ReadPolicy(c.r)
	}
	return p
}

// Doveadm makes a Pool for the doveadm protocol. root names the quota root that counts, the
// first if it is empty.
func Doveadm(network, address, root string) *Pool {
	p := &Pool{network: network, address: address}
	p.greet = func(c *conn) error {
		if _, err := c.Write([]byte(hello)); err != nil {
			return err
		}
		return readHello(c.r)
	}
	p.ask = func(c *conn, user string, _ int64) (wire.Answer, error) {
		text, err := AppendQuotaGet(nil, user)
		if err != nil {
			return wire.Answer{}, err
		}
		if _, err = c.Write(text); err != nil {
			return wire.Answer{}, err
		}
		return ReadQuota(c.r, root)
	}
	return p
}

// Ask asks about a message of size octets for user. It returns by ctx's deadline. An error
// means "could not find out". A kept connection that turns out to be closed is replaced.
func (p *Pool) Ask(ctx context.Context, user string, size int64) (wire.Answer, error) {
	for {
		c, err := p.take(ctx)
		if err != nil {
			return wire.Answer{}, err
		}
		a, err := p.exchange(ctx, c, user, size)
		if err == nil {
			return a, nil
		}
		if !c.used || ctx.Err() != nil {
			return wire.Answer{}, err
		}
	}
}

func (p *Pool) exchange(ctx context.Context, c *conn, user string, size int64) (wire.Answer, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	a, err := p.ask(c, user, size)
	if !stop() && err == nil {
		err = ctx.Err() // the deadline is set by now, or will be
	}
	if err != nil || c.r.Buffered() > 0 { // what nobody asked for must not answer the next question
		_ = c.Close()
		return a, err
	}
	c.used = true
	p.keep(c)
	return a, nil
}

func (p *Pool) take(ctx context.Context) (*conn, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		_ = c.SetDeadline(time.Time{})
		return c, nil
	}
	p.mu.Unlock()
	raw, err := new(net.Dialer).DialContext(ctx, p.network, p.address)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, r: bufio.NewReader(raw)}
	if p.greet == nil {
		return c, nil
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err = p.greet(c); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// keep puts a connection back, or closes it. Idle ones end after a while: each holds a
// process of Dovecot's.
func (p *Pool) keep(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) >= maxIdle {
		_ = c.Close()
		return
	}
	p.idle = append(p.idle, c)
	if c.end == nil {
		c.end = time.AfterFunc(idleFor, func() { p.drop(c) })
	}
	c.end.Reset(idleFor)
}

// drop closes a connection if it is idle.
func (p *Pool) drop(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.idle {
		if other == c {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			_ = c.Close()
			return
		}
	}
}

// Close closes idle connections.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		_ = c.Close()
	}
	p.idle = nil
}
