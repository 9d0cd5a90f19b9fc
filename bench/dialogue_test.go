// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"testing"

	"rcptgate"
	"rcptgate/backend/sim"
)

// The stand-in asks about each recipient over a connection of its own, and passes on what it was told.
func TestDialogue(t *testing.T) {
	s, err := startBackend(0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	d := newDialogue(s.Addr(), false)
	ask := asking(t, d)
	for range 2 {
		if a := ask("good1@example.com"); a != rcptgate.Continue {
			t.Errorf("a recipient that exists: %v", a)
		}
		if a := ask("nobody@example.com"); a != rcptgate.Reject {
			t.Errorf("a recipient that does not exist: %v", a)
		}
	}
	if got := s.Stats(); got.Connections != 4 || got.Probes != 4 {
		t.Errorf("%d connections and %d probes for 4 questions", got.Connections, got.Probes)
	}
	s.SetBehaviour(sim.Behaviour{Faults: map[sim.Stage]sim.Fault{sim.Rcpt: {Kind: sim.Drop}}})
	if a := ask("good1@example.com"); a != rcptgate.Tempfail {
		t.Errorf("no reply: %v", a)
	}
}

// Over kept connections each question has its own answer, and a connection that fails is not used again.
func TestKeptDialogue(t *testing.T) {
	s, err := startBackend(0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	d := newDialogue(s.Addr(), true)
	ask := asking(t, d)
	for range 3 {
		if a := ask("good1@example.com"); a != rcptgate.Continue {
			t.Errorf("a recipient that exists: %v", a)
		}
		if a := ask("nobody@example.com"); a != rcptgate.Reject {
			t.Errorf("a recipient that does not exist: %v", a)
		}
	}
	if got := s.Stats(); got.Connections != 1 || got.Probes != 6 {
		t.Errorf("%d connections and %d probes for 6 questions", got.Connections, got.Probes)
	}
	s.SetBehaviour(sim.Behaviour{Faults: map[sim.Stage]sim.Fault{sim.Rcpt: {Kind: sim.Drop}}})
	if a := ask("good1@example.com"); a != rcptgate.Tempfail {
		t.Errorf("no reply: %v", a)
	}
	s.SetBehaviour(sim.Behaviour{})
	if a := ask("nobody@example.com"); a == rcptgate.Tempfail {
		t.Errorf("after that: %v", a)
	}
}

// asking gives what asks d about a recipient.
func asking(t *testing.T, d *dialogue) func(recipient string) rcptgate.Action {
	return func(recipient string) rcptgate.Action {
		return d.Ask(t.Context(), &rcptgate.Query{Recipient: rcptgate.Mailbox{Path: recipient}}).Action
	}
}
