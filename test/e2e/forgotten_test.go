// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"strings"
	"testing"
	"time"

	"rcptgate/test/lab"
)

// told is how soon every gateway must know what another one forgot, and what a busy machine gets more.
const told = 60*time.Second + 15*time.Second

// TestGatewaysForget is the story of a mailbox that is made and one that is deleted: one "cache forget" on one gateway is
// enough for all, even for gateways that are down meanwhile, and nothing brings the old answers back.
func TestGatewaysForget(t *testing.T) {
	t.Parallel()
	lab.Need(t, lab.MemcachedKit)
	s := newSite(t, 3)
	s.mailbox("leaver", true)
	s.join(3, s.config())
	s.learnUnknown()
	for _, g := range s.gates {
		s.want(g, "comer", 550)
		s.want(g, "leaver", 250)
	}
	asked := s.behind.Asked("comer@sim.test") + s.behind.Asked("leaver@sim.test")

	first, second, away := s.gates[0], s.gates[1], s.gates[2]
	away.Stop(time.Minute) // its disk has the old answers
	s.mailbox("comer", true)
	s.mailbox("leaver", false)
	s.want(second, "comer", 550) // or nothing below would show anything
	s.want(second, "leaver", 250)
	first.MustCommand(0, "cache", "forget", "comer@sim.test", "leaver@sim.test")
	s.want(first, "comer", 250)
	s.want(first, "leaver", 550)
	s.follows(second)
	asked = s.behind.Asked("comer@sim.test") + s.behind.Asked("leaver@sim.test") - asked
	s.exactly("two addresses that were forgotten, asked about on two gateways", asked, 2, 4, s.unanswered(first, second))

	for _, m := range s.servers {
		m.Restart()
	}
	first.Restart()
	away.Run() // the new answers have not been put into memcached again
	s.follows(away)
	s.stays()
}

// follows waits until a gateway knows the new answers.
func (s *site) follows(g *lab.Gate) {
	s.Helper()
	began := time.Now()
	within(s, told, "the gateway asks again", func() bool { return s.code(g, "comer") == 250 && s.code(g, "leaver") == 550 })
	s.Logf("the gateway followed after %v", time.Since(began).Round(100*time.Millisecond))
}

// stays looks for the old answers after everything that could have kept them was started anew.
func (s *site) stays() {
	s.Helper()
	for _, restart := range []func(){func() {}, func() { s.gates[2].Restart() }, func() { s.servers[0].Restart() }, func() { s.gates[0].Crash() }} {
		restart()
		for _, g := range s.gates {
			s.want(g, "comer", 250)
			s.want(g, "leaver", 550)
		}
	}
}

// TestGatewaysForgetAlone forgets while no memcached can be reached: the exit code says that only this gateway has, and
// the others learn of it when one is back.
func TestGatewaysForgetAlone(t *testing.T) {
	t.Parallel()
	lab.Need(t, lab.MemcachedKit)
	s := newSite(t, 2)
	s.mailbox("leaver", true)
	s.join(2, s.config())
	first, second := s.gates[0], s.gates[1]
	for _, g := range s.gates {
		s.want(g, "comer", 550)
		s.want(g, "leaver", 250)
	}
	s.mailbox("comer", true)
	s.mailbox("leaver", false)
	s.servers[0].Stop() // one hangs, one is gone
	s.servers[1].Kill()
	out := first.MustCommand(75, "cache", "forget", "comer@sim.test", "leaver@sim.test")
	if !strings.Contains(out, "only this gateway has forgotten") {
		t.Errorf("forgetting without memcached says:\n%s", out)
	}
	s.want(first, "comer", 250)
	s.want(first, "leaver", 550)
	s.want(second, "comer", 550) // it cannot know
	s.want(second, "leaver", 250)
	first.Restart() // what it owes the others it has on disk
	s.servers[0].Restart()
	s.servers[1].Restart()
	s.follows(second)
	first.MustCommand(0, "cache", "flush")
	s.want(first, "comer", 250)
}
