// SPDX-License-Identifier: BSD-2-Clause

package listen

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// Accept gives the connections of a listener to take, one after the other, until the listener is
// closed or fails for good, and returns its error. A shortage of descriptors or memory
// (accept(2), "ERRORS") is waited out, for up to a second at a time, and reported to short, every
// ten seconds at most.
func Accept(ln net.Listener, take func(net.Conn), short func(error)) error {
	var pause time.Duration
	var reported time.Time
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			take(nc)
		case !isShortage(err):
			return err
		default:
			if now := time.Now(); now.Sub(reported) >= shortEvery {
				reported = now
				short(err)
			}
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			time.Sleep(pause)
		}
	}
}

// shortEvery is the least time between two reports of a shortage.
const shortEvery = 10 * time.Second

// isShortage reports whether an accept failed for want of something that may come back, or
// because the one connection was gone already.
func isShortage(err error) bool {
	for _, e := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EPROTO, syscall.EAGAIN, syscall.EINTR,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
