// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"rcptgate"
	"rcptgate/front/milter/wire"
	"rcptgate/kit/direct"
)

// conn is one milter connection. Everything but mark, ended, counts and watched
// belongs to its own goroutine.
type conn struct {
	l       *listener
	nc      net.Conn
	direct  *direct.Conn // nc, as this goroutine reads and writes it
	reader  *wire.Reader
	session session
	out     []byte // the reply being formed; nil between refusals of unusual size
	ack     *quickAck

	negotiated bool
	wants      rcptgate.Wants // of the gate when that was agreed with the MTA
	takes      rcptgate.Wants // of it, header and body
	can        rcptgate.Wants // what a message brings and what may be done to it
	version    uint32         // of the protocol
	actions    uint32         // changes that were agreed on (wire.Act*)
	leadSpace  bool           // the space behind a field's colon is sent
	canSkip    bool
	letter     letter
	silent     silent
	inMail     bool // between MAIL and the end of the transaction
	lingering  bool // a drain waits for a MAIL that the MTA may hold back
	answered   bool // the last frame was answered, which acknowledges it
	frames     uint64

	counts counts
	// mark tells the listener's watch what the connection does and, by the number of
	// frames so far, whether it still does the same as last time.
	mark    atomic.Uint64
	ended   atomic.Uint32 // an ending: why somebody else ended it
	watched struct {      // the watch's own
		mark  uint64
		since time.Time
	}
}

// What a connection does, the lower bits of its mark.
const (
	phaseNew     = iota // before the option negotiation
	phaseIdle           // between frames
	phasePartial        // a frame has begun
	phaseBusy           // the gate is asked
	phaseWrite          // an answer is on its way
	phaseBits    = 3
)

// ending is why a connection was ended from outside.
type ending uint32

const (
	endNone ending = iota
	endIdle
	endSlow
	endUnread
	endDrained
)

func (e ending) String() string {
	switch e {
	case endIdle:
		return "idle for too long"
	case endSlow:
		return "a frame that had begun did not arrive in time"
	case endUnread:
		return "the peer does not read its answers"
	case endDrained:
		return "the transaction did not end before the daemon"
	}
	return ""
}

func newConn(l *listener, nc net.Conn) *conn {
	c := &conn{l: l, nc: nc, direct: direct.New(nc), reader: wire.NewReader(nc, &l.srv.limits), ack: newQuickAck(nc)}
	c.watched.since = time.Now()
	c.session.state.Listener, c.session.state.Local = l.name, l.local
	c.letter.body.all = &l.srv.spools
	return c
}

// serve answers the connection until it ends. It never panics.
func (c *conn) serve(ctx context.Context) {
	s := c.l.srv
	defer c.letter.reset() // after a panic too: what is spooled counts against all messages
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("milter connection ended by a panic", "peer", c.peer(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	err := c.run(ctx)
	why := ending(c.ended.Load())
	switch {
	case errors.Is(err, wire.ErrFrame):
		s.totals.malformed.Add(1)
		s.log.Warn("milter connection ended", "peer", c.peer(), "frame", c.frames, "error", err)
	case why != endNone:
		s.log.Warn("milter connection ended", "peer", c.peer(), "frame", c.frames, "error", why.String())
	case err != nil:
		s.log.Info("milter connection lost", "peer", c.peer(), "frame", c.frames, "error", err)
	}
}

// run handles frames until the connection ends; nil when the peer ended it where it
// may, or a drain did.
func (c *conn) run(ctx context.Context) error {
	next, end := c.arrived(ctx)
	took := func(n int) direct.Next {
		c.reader.Took(n)
		next, end = c.arrived(ctx)
		return next
	}
	for next != direct.Stop {
		if err := c.direct.Each(c.reader.Room, took); err != nil {
			if err = c.readError(err); err != nil || !c.inMail && !c.lingering {
				return err
			}
			next, end = c.arrived(ctx)
		}
	}
	return end
}

// arrived handles the frames that have arrived completely, and says what comes next.
func (c *conn) arrived(ctx context.Context) (direct.Next, error) {
	for {
		cmd, data, ok, err := c.reader.Next()
		if err != nil {
			return direct.Stop, err
		}
		if !ok {
			break
		}
		c.frames++
		c.answered = false
		if quit, err := c.handle(ctx, cmd, data); quit || err != nil {
			return direct.Stop, err
		}
	}
	if c.l.draining.Load() && !c.inMail && !c.lingering {
		return direct.Stop, nil
	}
	next := direct.Wait
	if !c.answered || c.reader.Partial() {
		// Sendmail sends macros and command apart, and Nagle's algorithm holds the
		// second back until the first is acknowledged.
		c.ack.now()
		next = direct.Look
	}
	c.setMark(c.waiting())
	return next, nil
}

func (c *conn) waiting() uint64 {
	switch {
	case c.reader.Partial():
		return phasePartial
	case !c.negotiated:
		return phaseNew
	}
	return phaseIdle
}

// heldBack is how long a drain waits for a MAIL. Postfix, which gets no answer to it,
// keeps it in its buffer until the first RCPT: a connection that seems to be between
// transactions may be in one.
const heldBack = 500 * time.Millisecond

// readError judges why a read failed. It gives nil for an end in good order; in a
// transaction that a drain has only interrupted, reading goes on.
func (c *conn) readError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) && c.l.draining.Load() {
		switch {
		case c.inMail:
			return c.nc.SetReadDeadline(time.Time{})
		case c.silent.has(wire.CmdMail) && !c.lingering:
			c.lingering = true
			return c.nc.SetReadDeadline(time.Now().Add(min(c.l.srv.config.Drain.Std()/20, heldBack)))
		}
		c.lingering = false
		return nil
	}
	c.inMail, c.lingering = false, false
	if c.reader.Partial() {
		return fmt.Errorf("read within a frame: %w", err)
	}
	if errors.Is(err, io.EOF) || c.ended.Load() != 0 {
		return nil
	}
	return fmt.Errorf("read: %w", err)
}

func (c *conn) setMark(phase uint64) { c.mark.Store(c.frames<<phaseBits | phase) }

// checkTime ends the connection when it has done the same for too long. It is
// called by the watch only.
func (c *conn) checkTime(now time.Time, limits *Config) {
	mark := c.mark.Load()
	if mark != c.watched.mark {
		c.watched.mark, c.watched.since = mark, now
		return
	}
	age := now.Sub(c.watched.since)
	switch mark & (1<<phaseBits - 1) {
	case phaseNew:
		if age > 6*limits.FrameTime.Std() { // an MTA speaks at once
			c.end(endIdle)
		}
	case phaseIdle:
		if age > limits.Idle.Std() {
			c.end(endIdle)
		}
	case phasePartial:
		if age > limits.FrameTime.Std() {
			c.end(endSlow)
		}
	case phaseWrite:
		if age > limits.FrameTime.Std() {
			c.end(endUnread)
		}
	}
}

// end closes the connection from outside its goroutine.
func (c *conn) end(why ending) {
	if !c.ended.CompareAndSwap(0, uint32(why)) {
		return
	}
	if why != endDrained {
		c.l.srv.totals.timeout.Add(1)
	}
	_ = c.direct.Shutdown() // Close would wait for a question
}

// write sends one reply in one system call.
func (c *conn) write(reply []byte) error {
	c.answered = true
	c.setMark(phaseWrite)
	if _, err := c.direct.Write(reply); err != nil {
		return fmt.Errorf("write reply: %w", err)
	}
	return nil
}

// peer names the other side for the log. Clients of unix sockets have no name.
func (c *conn) peer() string {
	if addr := c.nc.RemoteAddr(); addr != nil && addr.String() != "" && addr.String() != "@" {
		return addr.String()
	}
	if addr := c.nc.LocalAddr(); addr != nil {
		return addr.Network() + ":" + addr.String()
	}
	return "unknown"
}
