// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"rcptgate/store"
)

// ErrLocked says that another daemon has the state directory.
var ErrLocked = errors.New("state directory is in use")

// lockName is the lock's name in the state directory.
const lockName = "lock"

// lockDir makes dir and takes the lock on it, which ends with the process however
// that ends.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, unwritable(dir, fmt.Errorf("making state directory: %w", err))
	}
	info, err := os.Stat(dir) // a symbolic link is what DynamicUser= of systemd makes
	if err != nil {
		return nil, fmt.Errorf("looking at state directory: %w", err)
	}
	if info.Mode().Perm()&0o002 != 0 {
		return nil, fmt.Errorf("state directory %s can be written by everybody (mode %04o): make it 0700",
			dir, info.Mode().Perm())
	}
	if err := ours(dir, info); err != nil {
		return nil, err
	}
	name := filepath.Join(dir, lockName)
	f, err := openOurs(name)
	if err != nil {
		return nil, unwritable(dir, fmt.Errorf("locking state directory: %w", err))
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder, _ := io.ReadAll(io.LimitReader(f, 32))
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s is locked by process %s", ErrLocked, name, strings.TrimSpace(string(holder)))
		}
		return nil, fmt.Errorf("locking %s: %w", name, err)
	}
	// Whom to name to the next one; the lock itself does not depend on it.
	_ = f.Truncate(0)
	_, _ = fmt.Fprintf(f, "%d\n", os.Getpid())
	return f, nil
}

// openOurs opens or makes a file in the state directory: a regular file of this process's
// user, and not what a symbolic link leads to.
func openOurs(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600) //nolint:gosec // in the state directory
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link: remove it", name)
	}
	if err != nil {
		if info, look := os.Lstat(name); look == nil {
			err = cmp.Or(ours(name, info), err)
		}
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s is not a regular file (mode %v): remove it", name, info.Mode())
	default:
		err = ours(name, info)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// ours reports as an error with store.ErrOwner that a file belongs to another user.
func ours(name string, info os.FileInfo) error {
	owner, known := ownerOf(info)
	me := os.Geteuid()
	if !known || owner == me {
		return nil
	}
	if me == 0 {
		return fmt.Errorf("%w: %s belongs to %s, and this process runs as root, whose files that user could not read: "+
			"run it as that user, for example with \"systemctl start rcptgate\", or name another directory as state",
			store.ErrOwner, name, userName(owner))
	}
	return fmt.Errorf("%w: %s", store.ErrOwner, giveTo(name, info.IsDir(), userName(owner), userName(me)))
}

// giveTo says whose a file of the state directory is, and how to give the whole directory to
// its user: a daemon that was once started by another user leaves several files.
func giveTo(name string, isDir bool, owner, me string) string {
	dir := name
	if !isDir {
		dir = filepath.Dir(name)
	}
	return fmt.Sprintf("%s belongs to %s, and this process runs as %s: give the directory to that user with \"chown -R %s %s\"", name, owner, me, me, dir)
}

// ownerOf gives the user that a file belongs to.
func ownerOf(info os.FileInfo) (uid int, known bool) {
	st, known := info.Sys().(*syscall.Stat_t)
	if !known {
		return 0, false
	}
	return int(st.Uid), true
}

// userName is how people know a user.
func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

// unwritable says that the directory is not writable, and what to do about it: to a
// service, everything that its unit does not name is read-only (ProtectSystem= in
// systemd.exec(5)).
func unwritable(dir string, err error) error {
	switch {
	case errors.Is(err, store.ErrOwner):
		return err
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w: %w: under systemd, make it writable with \"systemctl edit rcptgate\" and the lines [Service] and ReadWritePaths=%s", store.ErrReadOnly, err, dir)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: %w: give the directory to the user that the daemon runs as", store.ErrReadOnly, err)
	}
	return err
}
