// SPDX-License-Identifier: BSD-2-Clause

//go:build !race

package direct

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

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
