// SPDX-License-Identifier: BSD-2-Clause

//go:build !linux

package load

import (
	"context"
	"errors"
	"net"
)

// Conn is a connection that is ready for its first question.
type Conn struct{ Dialogue }

// Close ends the connection.
func (c *Conn) Close() error { return nil }

var errSystem = errors.New("the load generator needs Linux (epoll)")

func newConn(c net.Conn, _ Dialogue) (*Conn, error) {
	_ = c.Close()
	return nil, errSystem
}

func run(context.Context, []*Conn, Plan) (*Result, error) {
	return nil, errSystem
}
