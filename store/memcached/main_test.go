// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"os"
	"testing"

	"rcptgate/kit/testkit"
	"rcptgate/test/lab"
)

// memcacheds are the servers of all tests that need none of a special kind.
var memcacheds lab.MemcachedPool

func TestMain(m *testing.M) {
	testkit.Overlap(8)
	testkit.Checks(0)
	code := m.Run()
	memcacheds.Close()
	os.Exit(code)
}
