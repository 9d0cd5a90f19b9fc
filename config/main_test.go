// SPDX-License-Identifier: BSD-2-Clause

package config

import (
	"testing"

	"rcptgate/kit/testkit"
)

func TestMain(m *testing.M) {
	testkit.Checks(0)
	m.Run()
}
