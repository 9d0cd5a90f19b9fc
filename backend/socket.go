// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"rcptgate/kit/direct"
)

// socket is a TCP or unix connection with two abilities that package net's lack.
//
// It can be looked at without waiting: a kept connection on which something has arrived
// unasked (the backend's 421, its end, a late reply) must not be used, because every
// later reply would be taken for the answer to the question before it. It lies below
// TLS, so that the look goes through the record layer and session tickets are not
// mistaken for replies.
//
// And it can look, write and wait in one go: see exchange.
type socket struct {
	net.Conn
	raw  syscall.RawConn       // nil: nc is not a descriptor
	look func(fd uintptr) bool // these are made once: a closure for each call would cost an allocation
	swap func(fd uintptr) bool

	now     bool   // Read does not wait
	out     []byte // what Read writes first, provided that nothing has arrived
	unquiet bool   // something had: the last Read gave that, or the end, instead
	wrote   bool   // swap is past its first call
	p       []byte // arguments and results of look and swap
	n       int
	err     error
}

// looker is a connection in memory, as tests have it. ReadNow reads without waiting.
type looker interface {
	ReadNow(p []byte) (int, error)
}

func newSocket(nc net.Conn) (*socket, error) {
	s := &socket{Conn: nc}
	if _, ok := nc.(looker); ok {
		return s, nil
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil, errors.New("connection has no file descriptor")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	s.raw = raw
	s.look = func(fd uintptr) bool {
		s.n, s.err = direct.ReadNow(fd, s.p)
		return true
	}
	s.swap = s.exchange
	return s, nil
}

// Read reads as net.Conn does, once it has written out. With now set it gives
// os.ErrDeadlineExceeded when nothing has arrived; TLS takes that for a time-out and
// stays usable.
func (s *socket) Read(p []byte) (int, error) {
	if s.raw == nil {
		return s.readOther(p)
	}
	switch {
	case s.now:
		return s.with(s.look, p)
	case s.out == nil:
		return s.Conn.Read(p)
	}
	n, err := s.with(s.swap, p)
	if s.out == nil || err != nil || n > 0 {
		return n, err
	}
	for len(s.out) > 0 { // the kernel had no room for it: rare, since commands are short
		n, err := s.Conn.Write(s.out)
		s.out = s.out[n:]
		if err != nil {
			return 0, err
		}
	}
	s.out = nil
	return s.Conn.Read(p)
}

// readOther is Read of what is not a descriptor.
func (s *socket) readOther(p []byte) (int, error) {
	s.unquiet = false
	if s.now || s.out != nil {
		n, err := s.Conn.(looker).ReadNow(p)
		if s.now {
			return n, err
		}
		if s.unquiet = !errors.Is(err, os.ErrDeadlineExceeded); s.unquiet {
			return n, err
		}
		n, err = s.Conn.Write(s.out)
		if s.out = s.out[n:]; err != nil {
			return 0, err
		}
		s.out = nil
	}
	return s.Conn.Read(p)
}

// with calls f as syscall.RawConn does.
func (s *socket) with(f func(fd uintptr) bool, p []byte) (int, error) {
	s.p, s.n, s.err, s.wrote, s.unquiet = p, 0, nil, false, false
	err := s.raw.Read(f)
	s.p = nil
	switch {
	case err != nil:
		return 0, err
	case s.out != nil && !s.unquiet && s.err == nil && !s.now:
		return 0, nil // not everything was written
	case errors.Is(s.err, syscall.EAGAIN):
		return 0, os.ErrDeadlineExceeded
	case s.err != nil:
		return 0, s.err
	case s.n == 0:
		return 0, io.EOF
	}
	return s.n, nil
}

// exchange looks whether something has arrived, writes, and has the caller wait for the
// reply. It runs between the moment at which package net begins to watch the descriptor
// and the wait, so that no reply is missed; a Read after a Write would first ask for a
// reply that cannot be there yet. That saves one system call in four.
func (s *socket) exchange(fd uintptr) (done bool) {
	if !s.wrote {
		if s.n, s.err = direct.ReadNow(fd, s.p); !errors.Is(s.err, syscall.EAGAIN) {
			s.unquiet = true
			return true
		}
		n, err := direct.WriteNow(fd, s.out)
		if s.err = err; err != nil && !errors.Is(err, syscall.EAGAIN) {
			return true
		}
		s.err = nil
		if s.out = s.out[max(n, 0):]; len(s.out) > 0 {
			return true
		}
		s.out, s.wrote = nil, true
		return false
	}
	s.n, s.err = direct.ReadNow(fd, s.p)
	return !errors.Is(s.err, syscall.EAGAIN)
}
