// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	memory "rcptgate/store"
	"rcptgate/store/disk"
	"rcptgate/store/tiers"
)

// openDisk opens the memory in the state directory, as the program does.
func openDisk(o tiers.DiskOptions) (memory.Store, error) {
	return disk.Open(disk.Options{Dir: o.Dir, Entries: o.Entries, Log: o.Log, Notices: o.Notices, Renewed: o.Renewed})
}
