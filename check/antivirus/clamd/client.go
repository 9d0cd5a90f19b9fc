// SPDX-License-Identifier: BSD-2-Clause

// Package clamd is a client of ClamAV's daemon (clamd(8), "COMMANDS"): it sends a message
// with INSTREAM and reads what was found.
//
// A command begins with "z" and ends with NUL, and so does its answer. INSTREAM is followed
// by chunks, each with its length in four octets, most significant first; a chunk of length
// 0 ends them, and only then does clamd scan. A message beyond its StreamMaxLength is
// answered at once, and the connection is closed while the rest is still being written: after
// a write has failed, the answer is still to be read. Each scan has a connection of its own:
// answers of a session (IDSESSION) come out of order, and a local connection costs nothing.
//
// Limits: answers are read up to 4 KB. Whatever is not exactly an answer of the protocol is an
// error, never "clean".
package clamd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"rcptgate/kit/neterr"
)

const (
	connectTime = 5 * time.Second
	chunkMax    = 64 << 10
	replyMax    = 4 << 10
)

// Client asks one clamd. It keeps no connection and is safe for concurrent use.
type Client struct {
	Network string // "unix" or "tcp"
	Address string
}

// buffers are for chunks: the command, a length and data, so that a small message is sent in
// one write.
var buffers = sync.Pool{New: func() any { return new([chunkMax + 64]byte) }}

// Scan sends a message of size octets, and gives what clamd found in it. The error is an
// *[Error]. It returns by ctx's deadline, or when ctx is cancelled.
func (c *Client) Scan(ctx context.Context, message io.Reader, size int64) (Finding, error) {
	conn, done, err := c.connect(ctx)
	if err != nil {
		return Finding{}, err
	}
	defer done()
	sendErr := send(conn, message, size)
	var unread *Error
	if errors.As(sendErr, &unread) {
		return Finding{}, sendErr
	}
	reply, err := readReply(conn)
	if err != nil && sendErr != nil {
		return Finding{}, lost("sending the message to clamd", sendErr)
	}
	if err != nil {
		return Finding{}, err
	}
	found, err := parseReply(reply)
	if err == nil && found.Name == "" && sendErr != nil {
		return Finding{}, failure(Malformed, "clamd answered %q before it had the whole message", reply)
	}
	return found, err
}

// Version asks clamd for its version and that of its signatures. The error is an *[Error].
func (c *Client) Version(ctx context.Context) (Version, error) {
	conn, done, err := c.connect(ctx)
	if err != nil {
		return Version{}, err
	}
	defer done()
	if _, err := io.WriteString(conn, "zVERSION\x00"); err != nil {
		return Version{}, lost("asking clamd for its version", err)
	}
	reply, err := readReply(conn)
	if err != nil {
		return Version{}, err
	}
	return parseVersion(reply), nil
}

// connect opens a connection that ends with ctx; done closes it.
func (c *Client) connect(ctx context.Context) (conn net.Conn, done func(), err error) {
	dialer := net.Dialer{Timeout: connectTime}
	conn, err = dialer.DialContext(ctx, c.Network, c.Address)
	if err != nil {
		return nil, nil, failure(Connect, "connecting: %w", neterr.Bare(err))
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return conn, func() { stop(); _ = conn.Close() }, nil
}

// send writes the command and the message. An error of kind Unread is the message's, any
// other the connection's.
func send(conn net.Conn, message io.Reader, size int64) error {
	buf := buffers.Get().(*[chunkMax + 64]byte)
	defer buffers.Put(buf)
	out := append(buf[:0], "zINSTREAM\x00"...)
	for left := size; left > 0; {
		n := min(left, chunkMax)
		out = binary.BigEndian.AppendUint32(out, uint32(n))
		at := len(out)
		out = out[:at+int(n)]
		if _, err := io.ReadFull(message, out[at:]); err != nil {
			return failure(Unread, "reading the message: %w", err)
		}
		if left -= n; left == 0 {
			break
		}
		if _, err := conn.Write(out); err != nil {
			return err
		}
		out = buf[:0]
	}
	_, err := conn.Write(append(out, 0, 0, 0, 0))
	return err
}

// readReply reads an answer up to its NUL.
func readReply(conn net.Conn) (string, error) {
	var buf [replyMax]byte
	n := 0
	for {
		if end := bytes.IndexByte(buf[:n], 0); end >= 0 {
			return string(buf[:end]), nil
		}
		if n == len(buf) {
			return "", failure(Malformed, "an answer of clamd of more than %d octets", replyMax)
		}
		got, err := conn.Read(buf[n:])
		if n += got; err != nil && got == 0 {
			if errors.Is(err, io.EOF) && n > 0 {
				return "", failure(Closed, "clamd closed the connection within its answer %q", buf[:min(n, nameMax)])
			}
			return "", lost("waiting for clamd's answer", err)
		}
	}
}

// lost is an error of the connection.
func lost(what string, err error) error {
	err = neterr.Bare(err)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return failure(TimeOut, "%s: %w", what, err)
	case errors.Is(err, io.EOF):
		return failure(Closed, "%s: %w", what, errClosed)
	}
	return failure(Closed, "%s: %w", what, err)
}

var errClosed = fmt.Errorf("clamd closed the connection: %w", io.ErrUnexpectedEOF)
