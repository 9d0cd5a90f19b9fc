// SPDX-License-Identifier: BSD-2-Clause

package unit

import (
	"rcptgate/backend"
	"rcptgate/table/pool"
	"rcptgate/view"
)

// Tables are all that "rcptgate status" can show, without rows and in its order: the host's
// own and those of the units.
func Tables(units []Unit) []view.Table {
	list := []view.Table{decisionsTable(), backend.Table(), memoryTable(), memcachedTable(), pool.Table()}
	for i := range units {
		for _, t := range units[i].Tables {
			t.Unit = units[i].Name
			list = append(list, t)
		}
	}
	return list
}

// Declared are the Tables of the host's units.
func (h *Host) Declared() []view.Table { return Tables(h.units) }
