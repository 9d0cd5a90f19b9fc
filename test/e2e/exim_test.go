// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"testing"

	"rcptgate/test/cases"
	"rcptgate/test/lab"
)

// An Exim behind: it sends no enhanced status codes, and "not ours" and "unknown" both as 550.
func TestEximBehind(t *testing.T) {
	lab.Need(t, lab.EximKit)
	exim := lab.StartExim(t, "good@exim.test", "other@exim.test")
	tap := lab.NewTap(t, "tcp", exim.Addr())
	g := lab.StartGate(t, "enforce = true\n"+section("exim.test", "smtp:"+tap.Hop())+section("elsewhere.test", "smtp:"+tap.Hop()))
	s := open(t, cases.Bare(g, nil))
	defer s.Close()
	expect(t, s, "good@exim.test", 250, "")
	expect(t, s, "nobody@exim.test", 550, "5.1.1")
	expect(t, s, "other@exim.test", 250, "")
	expect(t, s, "ann@elsewhere.test", 451, "4.7.1") // relay not permitted: about the gateway, not about ann
}
