// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"os"
	"testing"

	"rcptgate/kit/testkit"
)

func TestMain(m *testing.M) {
	testkit.Overlap(8)
	testkit.Checks(0)
	os.Exit(m.Run())
}
