// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"os"
	"testing"

	"rcptgate/store/storetest"
)

func TestMain(m *testing.M) {
	storetest.Overlap()
	os.Exit(m.Run())
}
