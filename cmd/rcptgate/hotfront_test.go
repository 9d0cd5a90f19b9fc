// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/front/milter"
	"rcptgate/front/milter/wire"
)

// tape is a milter connection without a socket: an MTA that has everything it will say on tape, one recipient with its
// macros a read, and throws away the answers.
type tape struct {
	net.Conn // nil: what is not below is not called
	frames   [][]byte
	next     int
	left     int
	closed   chan struct{}
	close    sync.Once
}

func (t *tape) Read(b []byte) (int, error) {
	if t.left == 0 {
		return 0, io.EOF
	}
	t.left--
	n := copy(b, t.frames[t.next])
	if t.next++; t.next == len(t.frames) {
		t.next = 1 // the negotiation comes once
	}
	return n, nil
}

func (t *tape) Write(b []byte) (int, error)     { return len(b), nil }
func (t *tape) SetReadDeadline(time.Time) error { return nil }
func (t *tape) RemoteAddr() net.Addr            { return new(net.UnixAddr) }
func (t *tape) LocalAddr() net.Addr             { return new(net.UnixAddr) }
func (t *tape) Close() error {
	t.close.Do(func() { close(t.closed) })
	return nil
}

// oneConn is a listener with one connection.
type oneConn struct {
	conn   chan net.Conn
	closed chan struct{}
	close  sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error {
	l.close.Do(func() { close(l.closed) })
	return nil
}

func (l *oneConn) Addr() net.Addr { return new(net.UnixAddr) }

// newTape says what the load generator of package bench says: ten recipients a transaction.
func newTape(people []rcptgate.Mailbox, recipients int) *tape {
	t := &tape{closed: make(chan struct{})}
	t.frames = append(t.frames, wire.AppendOptions(nil, wire.Options{Version: 6, Actions: wire.ActionsAll, Protocol: wire.ProtocolAll}))
	for i, m := range people {
		var b []byte
		if i%10 == 0 {
			if i > 0 {
				b = wire.AppendFrame(b, wire.CmdAbort)
			}
			b = wire.AppendMacros(b, wire.CmdMail, []wire.Macro{{Name: "i", Value: "4F1aBcDeF"}})
			b = wire.AppendStrings(b, wire.CmdMail, "<sender@example.net>")
		}
		b = wire.AppendMacros(b, wire.CmdRcpt, []wire.Macro{
			{Name: "i", Value: "4F1aBcDeF"}, {Name: "{rcpt_mailer}", Value: "smtp"}, {Name: "{rcpt_host}", Value: "[127.0.0.1]"}, {Name: "{rcpt_addr}", Value: m.Path},
		})
		t.frames = append(t.frames, wire.AppendStrings(b, wire.CmdRcpt, "<"+m.Path+">"))
	}
	t.left = recipients + 1
	return t
}

// throughFront asks a gate about recipients, as many as there are on a tape, and gives how many were.
func throughFront(tb testing.TB, gate *rcptgate.Gate, t *tape) uint64 {
	tb.Helper()
	srv := milter.New(gate, milter.Config{}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(tb.Context())
	ln := &oneConn{conn: make(chan net.Conn), closed: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, ln) }()
	ln.conn <- t
	<-t.closed
	cancel()
	<-served
	return srv.Stats().Recipients
}

// BenchmarkRememberedThroughFront is all that a remembered answer costs the process except for the system calls of its
// connection: frames, question, memory, log line, metrics, reply.
func BenchmarkRememberedThroughFront(b *testing.B) {
	gate, people := hotGate(b, 10_000)
	t := newTape(people, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	if n := throughFront(b, gate, t); n != uint64(b.N) {
		b.Errorf("%d recipients of %d were asked about", n, b.N)
	}
}

// A script that a rule calls for few recipients has the front keep the others too, in case the script discards one. That
// takes no memory of its own for each.
func TestAScriptCostsOtherRecipientsNoMemory(t *testing.T) {
	script := filepath.Join(t.TempDir(), "filter.star")
	if err := os.WriteFile(script, []byte("def seldom(r): return discard()\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const recipients = 20_000
	allocations := func(more string) float64 {
		gate, people := hotGate(t, 100, more)
		var before, after runtime.MemStats
		on := newTape(people, recipients)
		runtime.ReadMemStats(&before)
		if n := throughFront(t, gate, on); n != recipients {
			t.Fatalf("%d recipients of %d were asked about", n, recipients)
		}
		runtime.ReadMemStats(&after)
		return float64(after.Mallocs-before.Mallocs) / recipients
	}
	without := allocations("")
	with := allocations(fmt.Sprintf("[script]\nfile = %q\n[[rule]]\nrecipient = [\"*x@example.com\"]\naction = \"call\"\ncall = \"seldom\"\n", script))
	if with > without+0.5 {
		t.Errorf("%.2f allocations for each recipient, without the script %.2f", with, without)
	}
}
