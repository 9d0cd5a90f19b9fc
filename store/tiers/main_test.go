// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"os"
	"testing"

	"rcptgate/kit/testkit"
)

func TestMain(m *testing.M) {
	testkit.Overlap(8)
	testkit.Checks(30)
	os.Exit(m.Run())
}
