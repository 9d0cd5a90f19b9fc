// SPDX-License-Identifier: BSD-2-Clause

package source

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"rcptgate/check/quota/room"
	"rcptgate/check/quota/wire"
)

// agent asks a quota agent over UDP or TCP (package wire). With keys requests are signed,
// and only signed replies are believed; without, the agent says yes or no in plain words.
type agent struct {
	set              *Set
	network, address string
	odd              *atomic.Uint64 // replies to signed questions that were not believed
}

// Ask asks over a socket of its own: a new source port a question, connected, so that the
// kernel drops what others send.
func (a *agent) Ask(ctx context.Context, m Mailbox, size int64) (room.Answer, error) {
	settings := a.set.settings.Load()
	req := wire.Request{User: m.User, Size: size}
	var line []byte
	var err error
	if settings.Keys != nil {
		line, err = req.Sign(nil, settings.Keys, time.Now())
	} else {
		line, err = req.AppendPlain(nil)
	}
	if err != nil { // the name is too long when it is encoded, or cannot be put into plain words
		return room.Of(room.Unknown), nil //nolint:nilerr // the agent has not failed
	}
	conn, err := dial(ctx, a.network, a.address)
	if err != nil {
		return room.Answer{}, err
	}
	defer conn.Close()
	defer endWith(ctx, conn)()
	var reply *wire.Reply
	if a.network == "udp" {
		reply, err = a.datagrams(conn, line, &req, settings)
	} else {
		reply, err = a.line(conn, line, &req, settings)
	}
	switch {
	case err == nil:
		return fromWire(&reply.Answer)
	case settings.Keys != nil:
		err = wire.Silent(err)
	}
	return room.Answer{}, err
}

// datagrams sends the request, again after a quarter and after half of the time, and waits
// for the reply that fits it. Whatever else arrives is waited past.
func (a *agent) datagrams(conn net.Conn, line []byte, req *wire.Request, settings *Settings) (*wire.Reply, error) {
	if _, err := conn.Write(line); err != nil {
		return nil, err
	}
	for _, after := range []time.Duration{settings.Timeout / 4, settings.Timeout / 2} {
		defer time.AfterFunc(after, func() { _, _ = conn.Write(line) }).Stop()
	}
	buf := make([]byte, wire.MaxLine+1)
	var wrong error
	for range 100 {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, errors.Join(wrong, err)
		}
		reply, err := a.believe(buf[:n], req, settings)
		if err == nil {
			return reply, nil
		}
		wrong = err
	}
	return nil, wrong
}

func (a *agent) line(conn net.Conn, line []byte, req *wire.Request, settings *Settings) (*wire.Reply, error) {
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return nil, err
	}
	text, err := bufio.NewReaderSize(io.LimitReader(conn, wire.MaxLine+2), wire.MaxLine+2).ReadSlice('\n')
	if err != nil {
		return nil, fmt.Errorf("no complete reply: %w", err)
	}
	return a.believe(text, req, settings)
}

// believe reads a reply. To a signed question it must be signed, and fit it; others are counted.
func (a *agent) believe(text []byte, req *wire.Request, settings *Settings) (reply *wire.Reply, err error) {
	if len(text) > wire.MaxLine+2 {
		err = errors.New("the reply is too long")
	} else {
		reply, err = wire.ParseReply(text)
	}
	if settings.Keys == nil {
		return reply, err
	}
	if err == nil {
		err = settings.Keys.VerifyReply(reply, req)
	}
	if err != nil {
		a.odd.Add(1)
	}
	return reply, err
}

// fromWire makes an answer of what an agent said.
func fromWire(w *wire.Answer) (room.Answer, error) {
	a := room.Answer{TooLarge: w.TooLarge, Used: w.Used, Soft: w.Soft, Hard: w.Hard, Count: w.Messages, MaxCount: w.Max, Age: w.Age, Keep: w.Keep}
	switch w.State {
	case wire.Room:
		a.State = room.Room
	case wire.Full:
		a.State = room.Full
	case wire.Unknown:
		a.State = room.Unknown
	default:
		err := errAnswered
		if slices.Contains([]string{"busy", "timeout", "clock"}, w.Why) {
			err = errors.New("the agent could not find out")
		}
		return room.Answer{}, fmt.Errorf("%w: %s", err, w.Why)
	}
	return a, nil
}

// errAnswered is the failure of an agent that works, about one mailbox. It opens no breaker:
// whoever names such mailboxes would switch the check off for all.
var errAnswered = errors.New("the agent could not find out about this mailbox")

// dial connects within ctx.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

// endWith has reads and writes of conn end with ctx. The caller calls stop.
func endWith(ctx context.Context, conn net.Conn) (stop func()) {
	if at, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(at)
	}
	undo := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return func() { undo() }
}
