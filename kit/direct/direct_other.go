// SPDX-License-Identifier: BSD-2-Clause

//go:build !linux || race

package direct

import (
	"errors"
	"syscall"
)

// ReadNow is read(2), see the version for Linux. The race detector knows package syscall's calls
// as what puts two ends of a connection in order.
func ReadNow(fd uintptr, p []byte) (int, error) { return again(syscall.Read, fd, p) }

// WriteNow is write(2).
func WriteNow(fd uintptr, p []byte) (int, error) { return again(syscall.Write, fd, p) }

func again(f func(int, []byte) (int, error), fd uintptr, p []byte) (int, error) {
	for {
		if n, err := f(int(fd), p); !errors.Is(err, syscall.EINTR) {
			return max(n, 0), err
		}
	}
}
