// SPDX-License-Identifier: BSD-2-Clause

package listen

import (
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rcptgate/config/setting"
	"rcptgate/kit/testkit"
)

// TestWhyASocketCannotBeOpened: the error says what to do, and names the address once.
func TestWhyASocketCannotBeOpened(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	missing := filepath.Join(testkit.Dir(t), "missing")
	for _, c := range []struct {
		network, address string
		is               error
		says             string
	}{
		{"tcp", taken.Addr().String(), syscall.EADDRINUSE, "another program listens there"},
		{"tcp", "192.0.2.1:8890", syscall.EADDRNOTAVAIL, "this machine does not have that address"},
		{"unix", filepath.Join(missing, "admin.sock"), syscall.ENOENT, missing + " must exist"},
	} {
		_, err := Open(t.Context(), "test", setting.Socket{Network: c.network, Address: c.address}, Options{Mode: 0o600}, time.Hour, slog.New(slog.DiscardHandler))
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || strings.Count(err.Error(), c.address) != 1 {
			t.Errorf("%s: %v", c.address, err)
		}
	}
	for network, says := range map[string]string{"tcp": "CAP_NET_BIND_SERVICE", "unix": "write to /run/gate"} {
		var at net.Addr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25}
		if network == "unix" {
			at = &net.UnixAddr{Net: "unix", Name: "/run/gate/admin.sock"}
		}
		err := Failed("here", &net.OpError{Op: "listen", Net: network, Addr: at, Err: syscall.EACCES})
		if !errors.Is(err, syscall.EACCES) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", network, err)
		}
	}
}
