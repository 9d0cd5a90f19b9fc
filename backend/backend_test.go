// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"testing"

	"rcptgate/backend/sim"
	"rcptgate/kit/testkit"
)

func TestAskSaysWhatTheBackendSaid(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*sim.Config)
	}{
		{"smtp", nil},
		{"lmtp", func(c *sim.Config) { c.LMTP = true }},
		{"unix", func(c *sim.Config) { c.Network, c.Address, c.LMTP = "unix", testkit.Dir(t)+"/lmtp", true }},
		{"no pipelining", func(c *sim.Config) { c.Pipelining = sim.PipelineNone }},
		{"each reply in its own write", func(c *sim.Config) { c.FlushEach = true }},
		{"tls", func(c *sim.Config) { c.STARTTLS = sim.TLSGood }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := startSim(t, tc.change)
			b := newTestBackend(t, server, Config{})
			for range 3 {
				mustSay(t, b, "user@example.com", 250)
				rep := mustSay(t, b, "nobody@example.com", 550)
				if rep.Enhanced != "5.1.1" || rep.Text != "<nobody@example.com>: Recipient address rejected: User unknown in relay recipient table" {
					t.Errorf("reply is %q %q", rep.Enhanced, rep.Text)
				}
				mustSay(t, b, "full@example.com", 452)
			}
			if st := server.Stats(); st.Connections != 1 || st.Probes != 9 {
				t.Errorf("%d connections, %d probes; want 1, 9", st.Connections, st.Probes)
			}
			if h := b.Health(); h.Probes != 9 || h.Refusals != 6 || h.Open || h.Idle != 1 {
				t.Errorf("health: %+v", h)
			}
		})
	}
}
