// SPDX-License-Identifier: BSD-2-Clause

// Package direct reads and writes sockets without telling Go's scheduler of each system
// call.
//
// The sockets of package net are non-blocking, so that a read(2) or write(2) lasts a few
// microseconds. Package syscall prepares the scheduler for one that lasts longer, and its
// monitor then looks after it and may hand the processor to another thread. For short
// questions and answers that costs as much as the call itself. Waiting for a socket is left
// to the runtime's poller, so that deadlines and Close work as they do for a net.Conn.
package direct

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// Conn reads and writes a connection. One goroutine may read and another one write at a
// time; all else is done with the net.Conn. Errors are as those of a net.Conn: io.EOF, one
// that is os.ErrDeadlineExceeded or net.ErrClosed, an *os.SyscallError.
type Conn struct {
	nc  net.Conn
	raw syscall.RawConn // nil: nc is not a socket, and is read and written itself

	// What RawConn calls is made once: a closure for each call would be an allocation.
	reading, writing func(fd uintptr) (done bool)

	room    func() []byte // of Each
	took    func(n int) Next
	readErr error

	out      []byte // what is still to be written
	writeErr error
}

// Next is what a caller of Each wants after it has taken what arrived.
type Next uint8

const (
	// Stop ends Each.
	Stop Next = iota
	// Look reads again at once, to see whether there is more, or the end.
	Look
	// Wait waits first: the peer was answered, and sends nothing before it has read that. This
	// saves one system call in four.
	Wait
)

// New makes a Conn of a connection.
func New(nc net.Conn) *Conn {
	c := &Conn{nc: nc}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
		}
	}
	c.reading, c.writing = c.readOn, c.writeOn
	return c
}

// Each reads what arrives into the memory that room gives, which is not empty, and calls took
// with the number of octets, until that wants to stop: then it gives nil. Otherwise it gives
// the error of a read; after a deadline has passed it may be called again, and nothing is
// lost. Room is also called before a wait, so that memory can be given back. What took does
// may take long; Close, by another goroutine, waits for it, so that a connection is better
// ended by Shutdown.
func (c *Conn) Each(room func() []byte, took func(n int) Next) error {
	if c.raw == nil {
		return c.eachOf(room, took)
	}
	c.room, c.took, c.readErr = room, took, nil
	if err := c.raw.Read(c.reading); err != nil {
		return err
	}
	return c.readErr
}

// eachOf is Each of what is not a socket.
func (c *Conn) eachOf(room func() []byte, took func(n int) Next) error {
	for {
		n, err := c.nc.Read(room())
		switch {
		case n > 0: // an error with data comes again without
			if took(n) == Stop {
				return nil
			}
		case err != nil:
			return err
		default:
			return io.ErrNoProgress
		}
	}
}

// readOn is called once by RawConn, and again whenever something has arrived since it last
// read. Nothing is missed between two calls: RawConn forgets what came before only when
// itself is called.
func (c *Conn) readOn(fd uintptr) (done bool) {
	for p := c.room(); ; {
		n, err := ReadNow(fd, p)
		switch {
		case isAgain(err):
			return false
		case err != nil:
			c.readErr = os.NewSyscallError("read", err)
			return true
		case n == 0:
			c.readErr = io.EOF
			return true
		}
		next := c.took(n)
		if next == Stop {
			return true
		}
		full := n == len(p)
		if p = c.room(); next == Wait && !full {
			return false
		}
	}
}

// Write is as for a net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	if c.raw == nil || len(p) == 0 {
		return c.nc.Write(p)
	}
	c.out, c.writeErr = p, nil
	err := c.raw.Write(c.writing)
	if err == nil {
		err = c.writeErr
	}
	n := len(p) - len(c.out)
	c.out = nil
	return n, err
}

func (c *Conn) writeOn(fd uintptr) (done bool) {
	for len(c.out) > 0 {
		n, err := WriteNow(fd, c.out)
		switch {
		case isAgain(err):
			return false
		case err != nil:
			c.writeErr = os.NewSyscallError("write", err)
			return true
		}
		c.out = c.out[n:]
	}
	return true
}

// Shutdown ends the connection in both directions (shutdown(2)), without waiting for what
// Each is doing: a reader gets io.EOF, a writer an error. What is not a socket is closed.
func (c *Conn) Shutdown() error {
	if c.raw == nil {
		return c.nc.Close()
	}
	var failed error
	err := c.raw.Control(func(fd uintptr) { failed = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) })
	return errors.Join(err, failed)
}

// isAgain reports whether a system call found nothing to read or no room to write.
func isAgain(err error) bool {
	errno, ok := err.(syscall.Errno) //nolint:errorlint // ReadNow and WriteNow give nothing else, and this is on every answer's way
	return ok && errno == syscall.EAGAIN
}
