// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"bytes"
	"errors"
	"net"
	"strconv"
	"time"
)

// guard stands between a server and the client library, which believes every length it
// is told, and gives a server that drips as much time again for every value: it holds
// the time for one command and its whole reply, the longest value, the longest line and
// the longest reply.
//
// A guard is used by one goroutine at a time, like the connection it holds.
type guard struct {
	net.Conn
	timeout time.Duration // for a command and its reply
	value   int           // most octets of one value

	replying bool   // the last thing done was to read
	line     []byte // what has come of the current line
	skip     int    // octets of a value still to come
	total    int    // octets of this reply
}

const (
	maxLine  = 512 // "VALUE ", a key of 250 octets, three numbers
	maxReply = 4 << 20
)

var (
	errReply   = errors.New("the server's reply is longer than any of ours")
	errTooLong = errors.New("the value is longer than any of ours")
	errRefused = errors.New("the server could not do it (SERVER_ERROR): is it out of memory?")
)

// SetDeadline does nothing: the first octet of a command sets it.
func (*guard) SetDeadline(time.Time) error { return nil }

// Write sends a command, or more of it.
func (g *guard) Write(p []byte) (int, error) {
	if g.replying || g.total == 0 {
		g.replying, g.total, g.skip, g.line = false, 0, 0, g.line[:0]
		if err := g.Conn.SetDeadline(time.Now().Add(g.timeout)); err != nil {
			return 0, err
		}
	}
	return g.Conn.Write(p)
}

// Read reads some of a reply and looks at it.
func (g *guard) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if !g.replying {
		g.replying = true
	}
	if bad := g.look(p[:n]); bad != nil {
		return 0, bad
	}
	return n, err
}

func (g *guard) look(p []byte) error {
	if g.total += len(p); g.total > maxReply {
		return errReply
	}
	for len(p) > 0 {
		if g.skip > 0 {
			n := min(g.skip, len(p))
			g.skip -= n
			p = p[n:]
			continue
		}
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			end = len(p) - 1
		}
		if len(g.line)+end+1 > maxLine {
			return errReply
		}
		g.line = append(g.line, p[:end+1]...)
		p = p[end+1:]
		if g.line[len(g.line)-1] != '\n' {
			return nil
		}
		if err := g.lookLine(); err != nil {
			return err
		}
		g.line = g.line[:0]
	}
	return nil
}

// lookLine finds the length in "VALUE key flags length [cas]", and what the library gives
// no error of its own.
func (g *guard) lookLine() error {
	if bytes.HasPrefix(g.line, []byte("SERVER_ERROR ")) {
		return errRefused
	}
	if !bytes.HasPrefix(g.line, []byte("VALUE ")) {
		return nil
	}
	fields := bytes.Fields(g.line)
	if len(fields) < 4 {
		return nil // the library refuses it
	}
	size, err := strconv.Atoi(string(fields[3]))
	if err != nil || size < 0 || size > g.value {
		return errTooLong
	}
	g.skip = size + len("\r\n")
	return nil
}
