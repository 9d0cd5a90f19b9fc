// SPDX-License-Identifier: BSD-2-Clause

// Package listen opens the sockets of all fronts, keeps them, and bounds their connections
// (unix(7), http.Server).
//
//   - [Unix] makes a socket with its mode and group. The stale socket of a killed process is
//     replaced; a socket that answers, or another kind of file, is not.
//   - [Open] and [KeepUnix] make such a socket again when its name is removed, as happens when
//     /run or the state directory is cleared.
//   - [ServeHTTP] bounds the connections of an HTTP server: a new one takes the place of the
//     one that has been without a request for longest.
//   - [Exchange] serves protocols of questions and answers, with bounds of its own.
//
// The package knows no protocol but HTTP. Limit: a socket's path has at most 107 octets.
package listen

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
	"sync"
	"syscall"
	"time"
)

// ErrInUse says that another process answers on the socket.
var ErrInUse = errors.New("another process is listening there")

// Options say what a unix socket is to be like.
type Options struct {
	Mode  os.FileMode
	Group string // a name or a number; "": the process's own
	// MakeFolder makes the last folder of the path, with mode 0755, if only that is
	// missing: folders below /run are gone after a restart.
	MakeFolder bool
	// Made, if it is not nil, is called each time that a kept socket has been made.
	Made func()
}

// Socket is a unix socket that listens. Close removes its name, unless somebody else
// has it by now.
type Socket struct {
	*net.UnixListener
	path string
	mine fs.FileInfo
	once sync.Once
}

// Unix makes the socket at path. Until it has its mode and group nobody but ourselves
// can connect.
func Unix(ctx context.Context, path string, o Options) (*Socket, error) {
	gid, err := groupID(o.Group)
	if err != nil {
		return nil, err
	}
	if o.MakeFolder {
		if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make the socket's folder: %w; make it, and give it to the daemon's user", err)
		}
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
	s := &Socket{UnixListener: ln.(*net.UnixListener), path: path} //nolint:forcetypeassert // the network is "unix"
	s.SetUnlinkOnClose(false)
	if s.mine, err = os.Lstat(path); err == nil && gid >= 0 {
		err = os.Chown(path, -1, gid)
	}
	if err == nil {
		err = os.Chmod(path, o.Mode)
	}
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("give the socket mode %04o and group %q: %w", o.Mode, o.Group, err)
	}
	return s, nil
}

// Gone reports whether the name no longer leads here.
func (s *Socket) Gone() bool {
	now, err := os.Lstat(s.path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(now, s.mine)
}

// Close ends it. It may be called more than once.
func (s *Socket) Close() error {
	err := net.ErrClosed
	s.once.Do(func() {
		if now, statErr := os.Lstat(s.path); statErr == nil && s.mine != nil && os.SameFile(now, s.mine) {
			_ = os.Remove(s.path) // before its number can be another file's
		}
		err = s.UnixListener.Close()
	})
	return err
}

// groupID gives the number of a group, -1 when none is named.
func groupID(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		if n, numErr := strconv.Atoi(group); numErr == nil && n >= 0 {
			return n, nil
		}
		return -1, fmt.Errorf("socket group %q: %w", group, err)
	}
	return strconv.Atoi(g.Gid)
}

// removeStale makes room for a socket: a process that was killed leaves its own.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("a file of this name exists and is not a socket; it is left alone")
	}
	dialer := net.Dialer{Timeout: 2 * time.Second}
	nc, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = nc.Close()
		return ErrInUse
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("find out whether another process is listening there: %w", err)
	}
	return os.Remove(path)
}
