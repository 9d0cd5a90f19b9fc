// SPDX-License-Identifier: BSD-2-Clause

package neterr

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"syscall"
	"testing"
)

func TestBare(t *testing.T) {
	peer, ours := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 5), Port: 25}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40112}
	refused := &net.OpError{Op: "dial", Net: "tcp", Addr: peer, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	reset := &net.OpError{Op: "read", Net: "tcp", Source: ours, Addr: peer, Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	late := &net.OpError{Op: "read", Net: "tcp", Source: ours, Addr: peer, Err: os.ErrDeadlineExceeded}
	name := &net.DNSError{Err: "no such host", Name: "mail.example", Server: "127.0.0.53:53", IsNotFound: true}
	plain := errors.New("not an SMTP reply")
	for _, tt := range []struct {
		err  error
		want string
		is   error
	}{
		{refused, "connection refused", syscall.ECONNREFUSED},
		{reset, "connection reset by peer", syscall.ECONNRESET},
		{late, "i/o timeout", os.ErrDeadlineExceeded},
		{fmt.Errorf("waiting for an answer: %w", late), "waiting for an answer: i/o timeout", late},
		{&net.OpError{Op: "dial", Net: "unix", Addr: &net.UnixAddr{Name: "/run/x", Net: "unix"}, Err: os.NewSyscallError("connect", syscall.ENOENT)}, "no such file or directory", syscall.ENOENT},
		{&net.OpError{Op: "dial", Net: "tcp", Err: name}, "no such host (asked 127.0.0.53:53)", name},
		{&net.DNSError{Err: "server misbehaving", Name: "x"}, "server misbehaving", nil},
		{&url.Error{Op: "Get", URL: "http://10.0.0.5/ann", Err: refused}, "connection refused", refused},
		{errors.Join(plain, late), "not an SMTP reply\ni/o timeout", plain},
		{fmt.Errorf("%w and %w", refused, reset), "connection refused and connection reset by peer", reset},
		{plain, "not an SMTP reply", plain},
	} {
		got := Bare(tt.err)
		if got.Error() != tt.want {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
		if tt.is != nil && !errors.Is(got, tt.is) {
			t.Errorf("%v: is no longer %v", got, tt.is)
		}
		if got.Error() == tt.err.Error() && got != tt.err { //nolint:errorlint // the same one
			t.Errorf("%v: wrapped without need", tt.err)
		}
	}
	if Bare(nil) != nil {
		t.Error("nil is an error")
	}
}
