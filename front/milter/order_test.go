// SPDX-License-Identifier: BSD-2-Clause

package milter_test

import (
	"testing"

	"rcptgate"
	"rcptgate/front/milter"
	"rcptgate/front/milter/mta"
	"rcptgate/kit/testkit"
)

// TestAnotherClient holds that a client that is reported in the middle of a transaction, without
// the MTA having ended the one before, finds nothing of that one: no recipients, no HELO.
func TestAnotherClient(t *testing.T) {
	t.Parallel()
	gate := &stagesGate{wants: everyStage}
	c := start(t, gate, milter.Config{}, "unix").dial(t, mta.Options{})
	say := say(t)
	say(c.Connect("one.example", client))
	say(c.Helo("helo.one.example"))
	say(c.Mail("s@one.example", nil))
	say(c.Rcpt("a@in.test"))
	say(c.Connect("two.example", client))
	if q := gate.last(t); q.Stage != rcptgate.StageConnect || q.Helo != "" || q.Sender != "" {
		t.Errorf("at %s: HELO %q, sender %q", q.Stage, q.Helo, q.Sender)
	}
	say(c.EndOfMessage())
	if q := gate.last(t); q.Stage == rcptgate.StageMessage && q.Accepted > 0 {
		t.Errorf("the message of %s has %d recipients of the client before", q.ClientName, q.Accepted)
	}
}

// TestPanicGivesTheSpoolBack holds that a message whose step panics outside of the gate's care
// does not go on counting against the limit of all messages.
func TestPanicGivesTheSpoolBack(t *testing.T) {
	t.Parallel()
	gate := &letterGate{wants: wantsAll, do: func(*rcptgate.Query) rcptgate.Verdict { panic("hostile message") }}
	server := start(t, gate, milter.Config{}, "unix")
	c := server.dial(t, mta.Options{})
	say := say(t)
	say(c.Connect("client.example", client))
	say(c.Mail("s@example.org", nil))
	say(c.Rcpt("a@in.test"))
	say(c.Body(make([]byte, 1000)))
	if n := server.Stats().Spooled; n != 1000 {
		t.Fatalf("%d octets are spooled", n)
	}
	if r, err := c.EndOfMessage(); err == nil {
		t.Fatalf("answered %+v", r)
	}
	testkit.Eventually(t, "the spool to be empty", func() bool { return server.Stats().Spooled == 0 })
}
