// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrLocked says that another daemon has the state directory.
var ErrLocked = errors.New("state directory is in use")

// lockName is the lock's name in the state directory.
const lockName = "lock"

// lockDir makes dir and takes the lock on it, which ends with the process however
// that ends.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, readOnly(dir, fmt.Errorf("making state directory: %w", err))
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("looking at state directory: %w", err)
	}
	if info.Mode().Perm()&0o002 != 0 {
		return nil, fmt.Errorf("state directory %s can be written by everybody (mode %04o): make it 0700",
			dir, info.Mode().Perm())
	}
	name := filepath.Join(dir, lockName)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, readOnly(dir, fmt.Errorf("locking state directory: %w", err))
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

// readOnly adds to an error of a read-only file system what to do about it: to a service, all that its unit does not
// name is read-only (ProtectSystem= in systemd.exec(5)).
func readOnly(dir string, err error) error {
	if !errors.Is(err, unix.EROFS) {
		return err
	}
	return fmt.Errorf("%w: under systemd, make it writable with \"systemctl edit rcptgate\" and the lines [Service] and ReadWritePaths=%s", err, dir)
}
