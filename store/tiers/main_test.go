// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"os"
	"testing"

	"rcptgate/store/storetest"
)

func TestMain(m *testing.M) {
	storetest.Overlap()
	os.Exit(m.Run())
}
