// SPDX-License-Identifier: BSD-2-Clause

package live

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// lockShared takes flock(2), and an open-file-description lock, which conflicts with
// the record locks of fcntl(2) but belongs to this file and not to the process.
func lockShared(f *os.File) error {
	if err := flockShared(f); err != nil {
		return err
	}
	for {
		lock := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart}
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil && busy(err):
			_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
			return ErrBusy
		}
		return nil
	}
}
