// SPDX-License-Identifier: BSD-2-Clause

package names

import (
	"os"
	"testing"

	"rcptgate/kit/testkit"
)

func TestMain(m *testing.M) {
	testkit.Overlap(8)
	os.Exit(m.Run())
}
