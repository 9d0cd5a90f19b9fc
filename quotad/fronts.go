// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"rcptgate/check/quota/wire"
	"rcptgate/front/listen"
	"rcptgate/kit/guard"
)

const (
	maxConns = 256             // of all TCP listeners
	lineTime = 5 * time.Second // for a line to come, and for an answer to go
)

// serveUDP answers datagrams until conn is closed.
func (a *Agent) serveUDP(conn *net.UDPConn) {
	var readers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), 4) {
		readers.Go(func() {
			in, out := make([]byte, 2*wire.MaxLine), make([]byte, 0, wire.MaxLine)
			for {
				n, from, err := conn.ReadFromUDPAddrPort(in)
				if err != nil {
					if errors.Is(err, net.ErrClosed) {
						return
					}
					time.Sleep(time.Millisecond) // an ICMP error about an answer; should it be another one, it may last
					continue
				}
				a.datagram(conn, in[:n], out, from)
			}
		})
	}
	readers.Wait()
}

// datagram answers one datagram: at once if the answer is kept or needs no store, else on a
// goroutine of its own. out is space for an answer.
func (a *Agent) datagram(conn *net.UDPConn, text, out []byte, from netip.AddrPort) {
	defer guard.Log(a.log, "a question was dropped after a panic", "client", from)
	s := a.active.Load()
	r, refusal := a.admit(s, text, from.Addr().Unmap())
	if r == nil {
		if len(refusal) > 0 {
			_, _ = conn.WriteToUDPAddrPort(refusal, from)
		}
		return
	}
	send := func(out []byte, answer wire.Answer) {
		a.counts.question(frontUDP, answer.State)
		if reply := s.reply(out, r, answer); len(reply) > 0 {
			_, _ = conn.WriteToUDPAddrPort(reply, from)
		}
	}
	if answer, ok := a.quick(s, r.User, r.Size); ok {
		send(out, answer)
		return
	}
	select {
	case a.flying <- struct{}{}:
	default:
		a.drop(from.Addr(), dropBusy)
		return
	}
	go func() {
		defer func() { <-a.flying }()
		defer guard.Log(a.log, "a question was dropped after a panic", "client", from)
		send(nil, a.Ask(context.Background(), r.User, r.Size))
	}()
}

// serveTCP answers one line a connection until l is closed.
func (a *Agent) serveTCP(l net.Listener) error {
	places := make(chan struct{}, maxConns)
	return listen.Accept(l, func(conn net.Conn) {
		select {
		case places <- struct{}{}:
			go func() {
				defer func() { <-places }()
				a.line(conn)
			}()
		default:
			a.drop(addressOf(conn.RemoteAddr()), dropBusy)
			_ = conn.Close()
		}
	}, func(err error) {
		a.log.Warn("TCP connection not accepted, retrying", "listener", l.Addr().String(), "error", err)
	})
}

// line answers the line of a connection and closes it. The line ends with LF, or with the
// client's end of sending.
func (a *Agent) line(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	defer guard.Log(a.log, "a question was dropped after a panic", "client", conn.RemoteAddr())
	_ = conn.SetDeadline(time.Now().Add(lineTime))
	s, client := a.active.Load(), addressOf(conn.RemoteAddr())
	text, err := bufio.NewReader(io.LimitReader(conn, 2*wire.MaxLine)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return // a check of whether somebody listens
	}
	r, reply := a.admit(s, text, client)
	if r != nil {
		answer := a.Ask(context.Background(), r.User, r.Size)
		a.counts.question(frontTCP, answer.State)
		reply = s.reply(nil, r, answer)
	}
	if len(reply) > 0 {
		_ = conn.SetDeadline(time.Now().Add(lineTime))
		_, _ = conn.Write(append(reply, '\n'))
	}
}

func addressOf(addr net.Addr) netip.Addr {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// friends is a listener that closes the connections of strangers at once.
type friends struct {
	net.Listener
	agent *Agent
}

// Accept waits for a connection of a client that may ask.
func (f friends) Accept() (net.Conn, error) {
	for {
		conn, err := f.Listener.Accept()
		if err != nil {
			return nil, err
		}
		client := addressOf(conn.RemoteAddr())
		if f.agent.active.Load().mayAsk(client) {
			return conn, nil
		}
		f.agent.drop(client, dropStranger)
		_ = conn.Close()
	}
}
