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

func (e *Echo) answer(nc net.Conn) error {
	var rw io.ReadWriter = nc
	if e.Direct {
		rw = direct.New(nc)
	}
	reader := wire.NewReader(rw, &e.limits)
	ack := newQuickAck(nc)
	var quiet silent
	for {
		answered := false
		for {
			cmd, data, ok, err := reader.Next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if answered, err = e.echo(rw, cmd, data, &quiet); err != nil {
				return err
			}
		}
		if !answered {
			ack.now()
		}
		if err := reader.Fill(); err != nil {
			return err
		}
	}
}

// echo answers one frame, if it has an answer.
func (e *Echo) echo(w io.Writer, cmd byte, data []byte, quiet *silent) (answered bool, err error) {
	switch cmd {
	case wire.CmdMacro, wire.CmdAbort, wire.CmdQuitNewConn:
		return false, nil
	case wire.CmdQuit:
		return false, errQuit
	case wire.CmdOptions:
		offer, err := wire.ParseOptions(data)
		if err != nil {
			return false, err
		}
		agreed, err := negotiate(offer, e.wants)
		if err != nil {
			return false, err
		}
		*quiet = silentUnder(agreed.Protocol)
		_, err = w.Write(wire.AppendOptions(nil, agreed))
		return true, err
	}
	if quiet.has(cmd) {
		return false, nil
	}
	_, err = w.Write(continueFrame)
	return true, err
}
