// SPDX-License-Identifier: BSD-2-Clause

package listen

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"syscall"
)

// Failed explains why a socket could not be opened, and what to do about it. socket is how
// the configuration names it; err is wrapped. A nil err gives nil.
func Failed(socket any, err error) error {
	if err == nil {
		return nil
	}
	var op *net.OpError
	if !errors.As(err, &op) {
		return fmt.Errorf("listen on %v: %w", socket, err)
	}
	if to := remedy(op); to != "" {
		return fmt.Errorf("listen on %v: %w; %s", socket, op.Err, to)
	}
	return fmt.Errorf("listen on %v: %w", socket, op.Err)
}

// remedy is what to do about a bind(2) that failed; "" where the error says it.
func remedy(op *net.OpError) string {
	file, isUnix := op.Addr.(*net.UnixAddr)
	switch {
	case isUnix && errors.Is(op, syscall.EACCES):
		return "the daemon's user must be able to write to " + filepath.Dir(file.Name)
	case isUnix && errors.Is(op, syscall.ENOENT):
		return filepath.Dir(file.Name) + " must exist"
	case errors.Is(op, syscall.EADDRINUSE):
		return `another program listens there, and "ss -lntup" run by root shows which one`
	case errors.Is(op, syscall.EACCES):
		return "ports below 1024 need root or the capability CAP_NET_BIND_SERVICE"
	case errors.Is(op, syscall.EADDRNOTAVAIL):
		return "this machine does not have that address"
	}
	return ""
}
