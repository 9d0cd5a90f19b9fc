// SPDX-License-Identifier: BSD-2-Clause

package admin

import (
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

// socketMode lets owner and group in, nobody else.
const socketMode = 0o660

// ErrInUse says that another daemon answers on the socket.
var ErrInUse = errors.New("another daemon is listening there")

// Listen makes the admin socket at path with mode 0660 and, unless it is empty, the
// group. A socket that a dead daemon left is replaced; one that answers, or a file
// that is no socket, is not. The socket gets its name only when mode and group are
// set. Closing the listener removes it.
func Listen(path, group string) (net.Listener, error) {
	l, err := listen(path, group)
	if err != nil {
		return nil, fmt.Errorf("listen on admin socket %s: %w", path, err)
	}
	return l, nil
}

func listen(path, group string) (net.Listener, error) {
	if err := checkStale(path); err != nil {
		return nil, err
	}
	temporary := filepath.Join(filepath.Dir(path), ".a"+strconv.Itoa(os.Getpid()))
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := publish(temporary, path, group); err != nil {
		_ = l.Close()
		_ = os.Remove(temporary)
		return nil, err
	}
	mine, err := os.Lstat(path)
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return &socket{UnixListener: l, path: path, mine: mine}, nil
}

func publish(temporary, path, group string) error {
	if group != "" {
		gid, err := groupID(group)
		if err != nil {
			return err
		}
		if err := os.Chown(temporary, -1, gid); err != nil {
			return err
		}
	}
	if err := os.Chmod(temporary, socketMode); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

func groupID(group string) (int, error) {
	g, err := user.LookupGroup(group)
	if err != nil {
		if n, numErr := strconv.Atoi(group); numErr == nil && n >= 0 {
			return n, nil
		}
		return 0, fmt.Errorf("group %q: %w", group, err)
	}
	return strconv.Atoi(g.Gid)
}

// checkStale allows path when nothing is there or a socket that nobody serves.
func checkStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("there is a file that is no socket; it is left alone")
	}
	conn, err := net.DialTimeout("unix", path, 2*time.Second)
	switch {
	case err == nil:
		_ = conn.Close()
		return ErrInUse
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil
	}
	return err
}

// socket removes its name when it is closed, unless somebody else has it by now.
type socket struct {
	*net.UnixListener
	path string
	mine fs.FileInfo
	once sync.Once
}

func (s *socket) Close() error {
	err := s.UnixListener.Close()
	s.once.Do(func() {
		if now, statErr := os.Lstat(s.path); statErr == nil && os.SameFile(now, s.mine) {
			_ = os.Remove(s.path)
		}
	})
	return err
}
