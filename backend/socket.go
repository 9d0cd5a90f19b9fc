// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// socket is a TCP or unix connection that can also be looked at without waiting:
// a kept connection on which something has arrived unasked (the backend's 421, its
// end, a late reply) must not be used, because every later reply would be taken for
// the answer to the question before it. It lies below TLS, so that the look goes
// through the record layer and session tickets are not mistaken for replies.
type socket struct {
	net.Conn
	raw  syscall.RawConn
	look func(fd uintptr) bool // made once: a closure for each look would cost an allocation
	now  bool                  // Read does not wait
	p    []byte                // arguments and results of look
	n    int
	err  error
}

func newSocket(nc net.Conn) (*socket, error) {
	s := &socket{Conn: nc}
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
		for {
			if s.n, s.err = syscall.Read(int(fd), s.p); !errors.Is(s.err, syscall.EINTR) {
				return true
			}
		}
	}
	return s, nil
}

// Read reads as net.Conn does, or, with now set, gives os.ErrDeadlineExceeded when
// nothing has arrived; TLS takes that for a time-out and stays usable.
func (s *socket) Read(p []byte) (int, error) {
	if !s.now {
		return s.Conn.Read(p)
	}
	s.p = p
	err := s.raw.Read(s.look)
	s.p = nil
	switch {
	case err != nil:
		return 0, err
	case errors.Is(s.err, syscall.EAGAIN):
		return 0, os.ErrDeadlineExceeded
	case s.err != nil:
		return 0, s.err
	case s.n == 0:
		return 0, io.EOF
	}
	return s.n, nil
}
