// SPDX-License-Identifier: BSD-2-Clause

package syntax

import (
	"testing"

	"rcptgate/unit/checktest"
)

func TestSuite(t *testing.T) { checktest.Run(t, checktest.Suite{Unit: Unit(), Always: true}) }
