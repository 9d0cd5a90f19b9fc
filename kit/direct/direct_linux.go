// SPDX-License-Identifier: BSD-2-Clause

package direct

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket is what New gives. One goroutine may read and another one write at a time.
type socket struct {
	raw     syscall.RawConn
	in, out transfer
}

// transfer is one direction. Its function is what RawConn calls until it has happened; it is
// made once, since a closure for each call would be an allocation.
type transfer struct {
	p    []byte
	n    int
	err  error
	once func(fd uintptr) (done bool)
}

// New gives what reads and writes nc: nc itself if it is not a socket. One goroutine may
// read and another one write at a time; all else is done with nc. Errors are those of
// net.Conn: io.EOF, one that is os.ErrDeadlineExceeded or net.ErrClosed, an
// *os.SyscallError.
func New(nc net.Conn) io.ReadWriter {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nc
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nc
	}
	s := &socket{raw: raw}
	s.in.once = s.in.call(ReadNow, "read")
	s.out.once = s.out.call(WriteNow, "write")
	return s
}

// call makes the function that does it.
func (t *transfer) call(do func(fd uintptr, p []byte) (int, error), name string) func(fd uintptr) bool {
	return func(fd uintptr) bool {
		t.n, t.err = do(fd, t.p)
		switch errno, failed := t.err.(syscall.Errno); { //nolint:errorlint // do gives nothing else, and this is on every answer's way
		case failed && errno == unix.EAGAIN:
			return false
		case failed:
			t.err = os.NewSyscallError(name, errno)
		}
		return true
	}
}

// ReadNow is read(2) on a socket of package net, from within a function that RawConn calls.
// It does not wait: the error is a syscall.Errno, EAGAIN if there is nothing to read. At the
// end of the stream it gives 0 and no error. p is not empty.
func ReadNow(fd uintptr, p []byte) (int, error) { return call(unix.SYS_READ, fd, p) }

// WriteNow is write(2) in the same way. What it gives may be less than the length of p.
func WriteNow(fd uintptr, p []byte) (int, error) { return call(unix.SYS_WRITE, fd, p) }

func call(trap, fd uintptr, p []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(trap, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p))) // #nosec G103 -- p is not empty
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// Read is as for a net.Conn.
func (s *socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.in.p = p
	err := s.raw.Read(s.in.once)
	s.in.p = nil
	switch {
	case err != nil:
		return 0, err
	case s.in.err == nil && s.in.n == 0:
		return 0, io.EOF
	}
	return s.in.n, s.in.err
}

// Write is as for a net.Conn.
func (s *socket) Write(p []byte) (n int, err error) {
	for n < len(p) {
		s.out.p = p[n:]
		err = s.raw.Write(s.out.once)
		s.out.p = nil
		if err == nil {
			err = s.out.err
		}
		if err != nil {
			return n, err
		}
		n += s.out.n
	}
	return n, nil
}
