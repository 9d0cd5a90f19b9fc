// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"rcptgate/config/unit"
)

// Listen opens the socket. A unix socket gets mode and, unless empty, group (a name
// or a number); until it has them nobody but ourselves can connect. A socket file
// that nobody listens on any more is replaced, any other file is not. The last
// folder of the path is made, with mode 0755, if only that is missing: folders below
// /run are gone after a restart.
func Listen(ctx context.Context, socket unit.Socket, mode FileMode, group string) (net.Listener, error) {
	if socket.IsZero() {
		return nil, errors.New("listen: no socket given")
	}
	if socket.Network != "unix" {
		ln, err := new(net.ListenConfig).Listen(ctx, socket.Network, socket.Address)
		if err != nil {
			return nil, fmt.Errorf("listen on %v: %w", socket, err)
		}
		return ln, nil
	}
	ln, err := listenUnix(ctx, socket.Address, os.FileMode(or(mode, DefaultConfig().SocketMode)), group)
	if err != nil {
		return nil, fmt.Errorf("listen on %v: %w", socket, err)
	}
	return ln, nil
}

func listenUnix(ctx context.Context, path string, mode os.FileMode, group string) (net.Listener, error) {
	gid, err := lookUpGroup(group)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the socket's folder: %w", err)
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	// On Linux bind(2) makes the file with the socket's own mode, less the umask.
	private := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) })
	}}
	ln, err := private.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if gid >= 0 {
		err = os.Chown(path, -1, gid)
	}
	if err == nil {
		err = os.Chmod(path, mode)
	}
	if err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("give the socket mode %v and group %q: %w", FileMode(mode), group, err)
	}
	return ln, nil
}

func lookUpGroup(group string) (gid int, err error) {
	if group == "" {
		return -1, nil
	}
	if gid, err = strconv.Atoi(group); err == nil && gid >= 0 {
		return gid, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return -1, fmt.Errorf("socket group %q: %w", group, err)
	}
	return strconv.Atoi(g.Gid)
}

// removeStale makes room for a socket: a process that was killed leaves its own.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file of this name that is no socket")
	}
	dialer := net.Dialer{Timeout: 2 * time.Second}
	nc, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = nc.Close()
		return errors.New("another process is listening there")
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("find out whether another process is listening there: %w", err)
	}
	return os.Remove(path)
}
