// SPDX-License-Identifier: BSD-2-Clause

//go:build unix && !linux

package live

import "os"

// lockShared takes flock(2), which is what both MTAs use here except for LMDB, whose
// active pages stay as they are while it is written.
func lockShared(f *os.File) error { return flockShared(f) }
