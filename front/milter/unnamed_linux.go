// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// openUnnamed opens a file that never has a name (O_TMPFILE, open(2)). The error is
// errors.ErrUnsupported where the file system or the kernel does not know that.
func openUnnamed(dir string) (*os.File, error) {
	file, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.EINVAL) {
		return nil, errors.ErrUnsupported
	}
	return file, err
}
