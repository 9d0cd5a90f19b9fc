// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"rcptgate"
	"rcptgate/front/milter/wire"
	"rcptgate/kit/direct"
)

// Echo answers "continue" to everything: the least that a milter with these events and
// macros can do, and thereby the measure for one that does something. It reads the same
// frames as a Server and looks into none of them.
type Echo struct {
	// Direct has it read and write sockets as a Server does (package direct) instead of as
	// package net does. It is set before Serve.
	Direct bool

	limits wire.Limits
	wants  rcptgate.Wants
}

// NewEcho makes an Echo for which an MTA sends what is wanted: 0 is recipients alone.
func NewEcho(wants rcptgate.Wants) *Echo {
	return &Echo{limits: limitsFor(wire.FrameMax), wants: wants}
}

// Serve answers the connections of ln until ctx ends, which is no error, then closes
// them and waits for them.
func (e *Echo) Serve(ctx context.Context, ln net.Listener) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })()
	defer func() { _ = ln.Close() }()
	for {
		nc, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		running.Go(func() {
			stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
			defer stop()
			defer func() { _ = nc.Close() }()
			_ = e.answer(nc) // whoever measures sees it at the other end
		})
	}
}

// errQuit ends a connection in good order.
var errQuit = errors.New("quit")

// echoing is one connection of an Echo.
type echoing struct {
	*Echo
	w        io.Writer
	reader   *wire.Reader
	ack      *quickAck
	quiet    silent
	answered bool // the last frame was
}

func (e *Echo) answer(nc net.Conn) error {
	c := echoing{Echo: e, w: nc, reader: wire.NewReader(nc, &e.limits), ack: newQuickAck(nc)}
	if e.Direct {
		return c.direct(direct.New(nc))
	}
	for {
		if err := c.reader.Fill(); err != nil {
			return err
		}
		if err := c.arrived(); err != nil {
			return err
		}
	}
}

// direct is answer for Echo.Direct.
func (c *echoing) direct(d *direct.Conn) (end error) {
	c.w = d
	err := d.Each(c.reader.Room, func(n int) direct.Next {
		c.reader.Took(n)
		switch end = c.arrived(); {
		case end != nil:
			return direct.Stop
		case !c.answered || c.reader.Partial():
			return direct.Look
		}
		return direct.Wait
	})
	return errors.Join(err, end)
}

// arrived answers the frames that have arrived completely.
func (c *echoing) arrived() error {
	for c.answered = false; ; {
		cmd, data, ok, err := c.reader.Next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if err := c.echo(cmd, data); err != nil {
			return err
		}
	}
	if !c.answered {
		c.ack.now()
	}
	return nil
}

// echo answers one frame, if it has an answer.
func (c *echoing) echo(cmd byte, data []byte) error {
	answer := continueFrame
	c.answered = false
	switch cmd {
	case wire.CmdMacro, wire.CmdAbort, wire.CmdQuitNewConn:
		return nil
	case wire.CmdQuit:
		return errQuit
	case wire.CmdOptions:
		offer, err := wire.ParseOptions(data)
		if err != nil {
			return err
		}
		agreed, err := negotiate(offer, c.wants)
		if err != nil {
			return err
		}
		c.quiet = silentUnder(agreed.Protocol)
		answer = wire.AppendOptions(nil, agreed)
	default:
		if c.quiet.has(cmd) {
			return nil
		}
	}
	c.answered = true
	_, err := c.w.Write(answer)
	return err
}
