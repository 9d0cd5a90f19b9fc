// SPDX-License-Identifier: BSD-2-Clause

package listen

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate/kit/testkit"
)

// lines is an Exchange of lines, which are answered with themselves. "wait" waits for release,
// "bad" is malformed, "panic" panics.
type lines struct {
	Exchange
	path    string
	memory  testkit.Network // in a bubble, instead of path
	inside  atomic.Int32
	release chan struct{}
	broken  atomic.Int32
	stop    context.CancelFunc
	ended   chan error
}

func startLines(t *testing.T, change func(*Exchange)) *lines {
	t.Helper()
	l := &lines{path: filepath.Join(testkit.Dir(t), "s"), release: make(chan struct{}), ended: make(chan error, 1)}
	l.Exchange = Exchange{
		Name: "lines", Most: 4, Idle: time.Minute, Frame: time.Minute, Drain: time.Minute, Size: 1000, Log: slog.New(slog.DiscardHandler),
		Split: func(arrived []byte) ([]byte, int, error) {
			at := bytes.IndexByte(arrived, '\n') + 1
			if at > 0 && string(arrived[:at-1]) == "bad" {
				return nil, 0, errors.New("bad")
			}
			return arrived[:max(at-1, 0)], at, nil
		},
		Answer: func(ctx context.Context, _ net.Addr, out, question []byte) ([]byte, error) {
			switch string(question) {
			case "wait":
				l.inside.Add(1)
				select {
				case <-l.release:
				case <-ctx.Done():
				}
			case "panic":
				panic("on purpose")
			}
			return append(append(out, question...), '\n'), nil
		},
		Broken: func(net.Addr, error) { l.broken.Add(1) },
	}
	if change != nil {
		change(&l.Exchange)
	}
	ln, err := l.listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	go func() { l.ended <- l.Serve(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-l.ended; err != nil {
			t.Error(err)
		}
		l.ended <- nil
	})
	return l
}

// inMemory is the address in a bubble.
const inMemory = "127.0.0.1:1"

func (l *lines) listen() (net.Listener, error) {
	if testkit.Bubbled() {
		return l.memory.Listen("tcp", inMemory)
	}
	return net.Listen("unix", l.path)
}

func (l *lines) dial(t *testing.T) net.Conn {
	t.Helper()
	connect := func() (net.Conn, error) { return net.Dial("unix", l.path) }
	if testkit.Bubbled() {
		connect = func() (net.Conn, error) { return l.memory.DialContext(t.Context(), "tcp", inMemory) }
	}
	conn, err := connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn
}

// hears reads what a connection is answered until it is closed, or as much as wanted.
func hears(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("heard %q, %v; want %q", got, err, want)
	}
}

func closed(t *testing.T, conn net.Conn) {
	t.Helper()
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) && !strings.Contains(fmt.Sprint(err), "reset") {
		t.Errorf("the connection is not closed: %d octets, %v", n, err)
	}
}

func TestExchangePieces(t *testing.T) {
	l := startLines(t, nil)
	conn := l.dial(t)
	long := strings.Repeat("x", 990) + "\n"
	for _, text := range []string{"a\n", "\n", "a\nb\nc\n", long, strings.Repeat("many\n", 5000), long + long, "a\n"} {
		go func() { _, _ = io.WriteString(conn, text) }()
		hears(t, conn, text)
	}
	for _, octet := range "octet by octet\n" {
		if _, err := io.WriteString(conn, string(octet)); err != nil {
			t.Fatal(err)
		}
	}
	hears(t, conn, "octet by octet\n")
	_, _ = io.WriteString(conn, "last\nhalf")
	_ = conn.(*net.UnixConn).CloseWrite() // a client that has asked all its questions
	hears(t, conn, "last\n")
	closed(t, conn)
}

func TestExchangeEndsTheMalformed(t *testing.T) {
	l := startLines(t, nil)
	for _, text := range []string{"good\nbad\nnever\n", "good\n" + strings.Repeat("x", 1001)} {
		conn := l.dial(t)
		_, _ = io.WriteString(conn, text)
		hears(t, conn, "good\n")
		closed(t, conn)
	}
	conn := l.dial(t)
	_, _ = io.WriteString(conn, "panic\n")
	closed(t, conn)
	conn = l.dial(t)
	_, _ = io.WriteString(conn, "alive\n")
	hears(t, conn, "alive\n")
	if n := l.broken.Load(); n != 2 || l.Stats().Malformed != 2 {
		t.Errorf("%d connections were reported as malformed, %d counted; want 2", n, l.Stats().Malformed)
	}
}

func TestExchangeBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := startLines(t, func(e *Exchange) { e.Idle, e.Frame = 300*time.Millisecond, 200*time.Millisecond })
		trickle := l.dial(t)
		go func() {
			for range 100 { // each octet by itself is in time
				if _, err := io.WriteString(trickle, "x"); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
		closed(t, trickle)
		idle := l.dial(t)
		closed(t, idle)
		deaf := l.dial(t) // asks and does not read
		go func() {
			text := strings.Repeat("deaf\n", 1000)
			for {
				if _, err := io.WriteString(deaf, text); err != nil {
					return
				}
			}
		}()
		testkit.Eventually(t, "the deaf client is left", func() bool { return l.Stats().Open == 0 && l.Stats().TimedOut == 2 })
		busy := l.dial(t) // is never idle
		for range 30 {
			_, _ = io.WriteString(busy, "x\n")
			hears(t, busy, "x\n")
			time.Sleep(20 * time.Millisecond)
		}
	})
}

func TestExchangeHasRoom(t *testing.T) {
	l := startLines(t, nil)
	var conns []net.Conn
	for range 4 {
		conns = append(conns, l.dial(t))
		_, _ = io.WriteString(conns[len(conns)-1], "x\n")
		hears(t, conns[len(conns)-1], "x\n")
	}
	closed(t, l.dial(t))
	_ = conns[0].Close()
	testkit.Eventually(t, "room again", func() bool {
		conn := l.dial(t)
		_, _ = io.WriteString(conn, "y\n")
		line, _ := bufio.NewReader(conn).ReadString('\n')
		return line == "y\n"
	})
}

// Questions in work are answered when the daemon ends; idle connections do not hold it up.
func TestExchangeDrains(t *testing.T) {
	l := startLines(t, nil)
	idle, asking := l.dial(t), l.dial(t)
	_, _ = io.WriteString(idle, "x\n")
	hears(t, idle, "x\n")
	_, _ = io.WriteString(asking, "wait\n")
	testkit.Eventually(t, "the question is in work", func() bool { return l.inside.Load() == 1 })
	l.stop()
	closed(t, idle)
	if conn, err := net.Dial("unix", l.path); err == nil {
		_ = conn.Close()
		t.Error("new connections are still taken")
	}
	close(l.release)
	hears(t, asking, "wait\n")
	closed(t, asking)
}

func TestExchangeHurries(t *testing.T) {
	l := startLines(t, nil)
	conn := l.dial(t)
	_, _ = io.WriteString(conn, "wait\n")
	testkit.Eventually(t, "the question is in work", func() bool { return l.inside.Load() == 1 })
	l.stop()
	l.Hurry()
	l.Hurry()
	// The question's context has ended; its answer may be quicker than the end of the connection.
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is not closed")
	}
}

// TestExchangeLeavesBehind has an answer that does not heed the end of its context.
func TestExchangeLeavesBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release, inside := make(chan struct{}), make(chan struct{})
		e := Exchange{
			Name: "lines", Most: 4, Idle: time.Minute, Frame: time.Minute, Drain: time.Second, Size: 100, Log: slog.New(slog.DiscardHandler),
			Split: func(arrived []byte) ([]byte, int, error) { return arrived, len(arrived), nil },
			Answer: func(context.Context, net.Addr, []byte, []byte) ([]byte, error) {
				close(inside)
				<-release
				return nil, nil
			},
		}
		client, server := net.Pipe()
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- e.Serve(ctx, &oneConn{conn: server, closed: make(chan struct{})}) }()
		_, _ = io.WriteString(client, "x")
		<-inside
		stop()
		began := time.Now()
		select {
		case err := <-ended:
			if took := time.Since(began); err != nil || took < time.Second || took > time.Minute {
				t.Errorf("%v after %v", err, took)
			}
		case <-time.After(time.Hour):
			t.Error("it never ends")
			close(release)
			<-ended
			return
		}
		close(release)
		_ = client.Close()
	})
}

// oneConn is a listener with one connection.
type oneConn struct {
	conn   net.Conn
	once   atomic.Bool
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if !l.once.Swap(true) {
		return l.conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error   { close(l.closed); return nil }
func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{} }
