// SPDX-License-Identifier: BSD-2-Clause

package ram

import (
	"testing"

	"rcptgate/store"
	"rcptgate/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(_ *testing.T, entries int) store.Store {
		return New(Options{Entries: entries})
	})
}
