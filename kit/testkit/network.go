// SPDX-License-Identifier: BSD-2-Clause

package testkit

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Bubbled reports whether the caller runs in a bubble of testing/synctest, whose clock begins
// at the year 2000.
func Bubbled() bool { return time.Now().Year() < 2020 }

// Network connects a test's clients and servers in memory, for tests in a synctest bubble:
// there a goroutine that waits for the kernel would stop the clock. Its connections keep order
// and deadlines as TCP's do, and up to 256 KiB that are on their way in each direction. The
// zero value is ready; a listener belongs to the bubble that made it.
type Network struct {
	mu        sync.Mutex
	listeners map[string]*listener
	last      int
}

// Listen listens on 127.0.0.1, on the port of address, or any free one if that is 0.
func (n *Network) Listen(_, address string) (net.Listener, error) {
	at, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if at.Port == 0 {
		n.last++
		at.Port = n.last
	}
	if n.listeners[at.String()] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: at, Err: syscall.EADDRINUSE}
	}
	if n.listeners == nil {
		n.listeners = make(map[string]*listener)
	}
	l := &listener{network: n, addr: at, calls: make(chan net.Conn), closed: make(chan struct{})}
	n.listeners[at.String()] = l
	return l, nil
}

// DialContext connects to a listener; where nothing listens it is refused.
func (n *Network) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[address]
	n.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	if l == nil {
		return nil, refused
	}
	there, back := newStream(), newStream()
	near := &wire{in: back, out: there, local: &net.TCPAddr{IP: l.addr.IP, Port: 1}, remote: l.addr}
	far := &wire{in: there, out: back, local: l.addr, remote: near.local}
	select {
	case l.calls <- far:
		return near, nil
	case <-l.closed:
		return nil, refused
	case <-ctx.Done():
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
	}
}

type listener struct {
	network *Network
	addr    *net.TCPAddr
	calls   chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.calls:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Addr() net.Addr { return l.addr }

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.network.mu.Lock()
		defer l.network.mu.Unlock()
		delete(l.network.listeners, l.addr.String())
	})
	return nil
}

// wire is one end of a connection.
type wire struct {
	in, out       *stream
	local, remote net.Addr
}

func (w *wire) Read(p []byte) (int, error)         { return w.in.read(p, true) }
func (w *wire) Write(p []byte) (int, error)        { return w.out.write(p) }
func (w *wire) LocalAddr() net.Addr                { return w.local }
func (w *wire) RemoteAddr() net.Addr               { return w.remote }
func (w *wire) SetReadDeadline(t time.Time) error  { w.in.setDeadline(&w.in.reader, t); return nil }
func (w *wire) SetWriteDeadline(t time.Time) error { w.out.setDeadline(&w.out.writer, t); return nil }

// ReadNow reads without waiting: os.ErrDeadlineExceeded if nothing has arrived.
func (w *wire) ReadNow(p []byte) (int, error) { return w.in.read(p, false) }

func (w *wire) SetDeadline(t time.Time) error {
	_ = w.SetReadDeadline(t)
	return w.SetWriteDeadline(t)
}

func (w *wire) Close() error {
	w.in.end(&w.in.left, &w.in.reader)
	w.out.end(&w.out.ended, &w.out.writer)
	return nil
}

const streamMax = 256 << 10

// stream is what goes one way.
type stream struct {
	mu             sync.Mutex
	data           []byte
	ended, left    bool // the writer, the reader has closed
	reader, writer deadline
	changed        chan struct{} // closed when anything of it has changed
}

type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func newStream() *stream { return &stream{changed: make(chan struct{})} }

// wakeLocked has all who wait look again.
func (s *stream) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *stream) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wakeLocked()
}

func (s *stream) end(closed *bool, d *deadline) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*closed = true
	if d.timer != nil {
		d.timer.Stop()
	}
	s.wakeLocked()
}

func (s *stream) setDeadline(d *deadline, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	d.at, d.timer = t, nil
	if !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), s.wake)
	}
	s.wakeLocked()
}

// read reads. Past the deadline it fails whatever has arrived, as package net does, unless it
// is not to wait.
func (s *stream) read(p []byte, wait bool) (int, error) {
	for {
		s.mu.Lock()
		changed := s.changed
		switch {
		case s.left:
			s.mu.Unlock()
			return 0, net.ErrClosed
		case wait && s.reader.passed():
			s.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case len(s.data) > 0:
			n := copy(p, s.data)
			if s.data = s.data[n:]; len(s.data) == 0 {
				s.data = nil
			}
			s.wakeLocked()
			s.mu.Unlock()
			return n, nil
		case s.ended:
			s.mu.Unlock()
			return 0, io.EOF
		}
		s.mu.Unlock()
		if !wait {
			return 0, os.ErrDeadlineExceeded
		}
		<-changed
	}
}

func (s *stream) write(p []byte) (written int, err error) {
	for {
		s.mu.Lock()
		changed := s.changed
		switch {
		case s.ended:
			err = net.ErrClosed
		case s.left:
			err = &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
		case s.writer.passed():
			err = os.ErrDeadlineExceeded
		default:
			n := min(len(p)-written, streamMax-len(s.data))
			if n > 0 {
				s.data = append(s.data, p[written:written+n]...)
				written += n
				s.wakeLocked()
			}
		}
		s.mu.Unlock()
		if err != nil || written == len(p) {
			return written, err
		}
		<-changed
	}
}
