// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"fmt"
	"testing"

	"rcptgate/backend/sim"
	"rcptgate/unit/checktest"
)

func TestSuite(t *testing.T) {
	server := sim.New(sim.Config{Behaviour: sim.Behaviour{Users: []string{"ann@b.example"}, Full: []string{"carl@b.example"}}})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	checktest.Run(t, checktest.Suite{
		Unit: Unit(), Always: true, Recipients: []string{"ann@b.example", "carl@b.example", "nobody@b.example", "x@down.example"},
		Config: fmt.Sprintf("[[domain]]\nname = \"b.example\"\nbackend = [%q]\n[[domain]]\nname = \"down.example\"\nbackend = [\"smtp:[127.0.0.1]:1\"]\n", server.Backend()),
	})
}
