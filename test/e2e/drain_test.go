// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"os"
	"testing"
	"time"

	"rcptgate/test/lab"
)

// A client between MAIL and its first recipient while the gate ends: through both MTAs it still gets its answer.
func TestDrainBeforeTheFirstRecipient(t *testing.T) {
	lab.Need(t, lab.PostfixKit, lab.SendmailKit)
	for _, gw := range gateways {
		t.Run(gw.name, func(t *testing.T) {
			_, tap := behind(t)
			g := lab.StartGate(t, section("pf.test", "smtp:"+tap.Hop()))
			addr, _ := gw.start(t, g, tap)
			d := transaction(t, addr)
			if err := g.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond)
			put(t, d, "good@pf.test", "250 2.1.5", "")
		})
	}
}
