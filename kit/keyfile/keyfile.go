// SPDX-License-Identifier: BSD-2-Clause

// Package keyfile reads files of secrets, as they lie on disk: a file that other users could
// read or change is refused, as is one of another user. What the lines mean is the caller's
// business. Limit: a file has at most [MaxSize] octets.
package keyfile

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// MaxSize bounds a key file, in octets.
const MaxSize = 64 << 10

// Read gives the text of the key file.
func Read(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // #nosec G304 -- from the configuration; a pipe must not hold up the start
	if err != nil {
		return nil, fmt.Errorf("reading the key file: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the key file: %w", err)
	}
	if mode := info.Mode(); !mode.IsRegular() || mode.Perm()&0o027 != 0 {
		return nil, fmt.Errorf("the key file %s has mode %v: it must be a regular file that only its owner can write and only its group can read, as after chmod 640", name, mode)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("the key file %s belongs to user %d: it must belong to root or to the user that the daemon runs as", name, st.Uid)
	}
	text, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading the key file: %w", err)
	}
	if len(text) > MaxSize {
		return nil, fmt.Errorf("the key file %s is longer than %d octets", name, MaxSize)
	}
	return text, nil
}
