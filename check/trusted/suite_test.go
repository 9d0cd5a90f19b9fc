// SPDX-License-Identifier: BSD-2-Clause

package trusted

import (
	"testing"

	"rcptgate/unit/checktest"
)

func TestSuite(t *testing.T) {
	checktest.Run(t, checktest.Suite{Unit: Unit(), Always: true, Config: "trusted = [\"192.0.2.0/24\"]\n"})
}
