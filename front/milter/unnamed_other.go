// SPDX-License-Identifier: BSD-2-Clause

//go:build !linux

package milter

import (
	"errors"
	"os"
)

// openUnnamed is Linux's.
func openUnnamed(string) (*os.File, error) { return nil, errors.ErrUnsupported }
