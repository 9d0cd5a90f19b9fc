// SPDX-License-Identifier: BSD-2-Clause

// Package regular reads whole files that other programs own, such as the MTA's configuration:
// bounded, and never waiting. A named pipe or a device of that name is an error (open(2),
// O_NONBLOCK), where os.ReadFile would wait for somebody to write, or for ever.
package regular

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// Read gives the content of a regular file of at most a number of octets. The error names the
// file.
func Read(name string, most int64) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // #nosec G304 -- the postmaster's own choice
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	switch info, err := f.Stat(); {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(text)) > most:
		return nil, fmt.Errorf("%s has more than %d octets", name, most)
	}
	return text, nil
}
