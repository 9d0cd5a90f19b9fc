// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"rcptgate/address"
	"rcptgate/backend/sim"
	"rcptgate/kit/testkit"
)

// doubts gathers for which recipients Probe.Doubted was called.
type doubts struct {
	mu   sync.Mutex
	list map[string]int
}

func (d *doubts) ask(t *testing.T, b *Backend, recipient string) (Reply, error) {
	t.Helper()
	return b.Ask(t.Context(), Probe{Recipient: address.Parse(recipient), Doubted: func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.list == nil {
			d.list = make(map[string]int)
		}
		d.list[recipient]++
	}})
}

func (d *doubts) of(recipient string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.list[recipient]
}

// A stray reply that comes while the next question is on its way shifts the replies:
// the recipient gets the reply to MAIL. When that is noticed both answers are doubted,
// once each.
func TestAShiftedAnswerIsDoubted(t *testing.T) {
	for _, pipelining := range []sim.Pipelining{sim.PipelineNone, sim.PipelineGood} {
		t.Run(fmt.Sprint("pipelining ", pipelining), inBubble(func(t *testing.T) {
			server := startSim(t, func(c *sim.Config) {
				c.FlushEach = true
				c.Pipelining = pipelining
				// Held back until RSET is read, and then said before the reply to it.
				c.Faults = map[sim.Stage]sim.Fault{sim.Rset: {Kind: sim.Before, Reply: "250 2.0.0 late", Every: 75 * time.Millisecond}}
				c.Delays = map[sim.Stage]time.Duration{sim.Mail: 150 * time.Millisecond, sim.Rcpt: 300 * time.Millisecond}
			})
			b := newTestBackend(t, server, Config{})
			var d doubts
			if rep, err := d.ask(t, b, "user@example.com"); err != nil || rep.Code != 250 {
				t.Fatalf("%+v, %v", rep, err)
			}
			if rep, err := d.ask(t, b, "nobody@example.com"); err != nil || rep.Code != 250 {
				t.Fatalf("%+v, %v: the test wants the wrong answer", rep, err)
			}
			testkit.Eventually(t, "the right reply is there", func() bool { return server.Asked("nobody@example.com") == 1 })
			testkit.Eventually(t, "the next question is answered right", func() bool {
				rep, err := ask(b, "full@example.com")
				return err == nil && rep.Code == 452
			})
			for _, recipient := range []string{"user@example.com", "nobody@example.com"} {
				if n := d.of(recipient); n != 1 {
					t.Errorf("%s: doubted %d times", recipient, n)
				}
			}
		}))
	}
}

// A stray reply on a connection that is not used again is noticed when it is closed;
// the backend's good-bye is not a stray reply.
func TestDoubtsAtTheEndOfAConnection(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*sim.Config)
		want   int
	}{
		"stray reply": {func(c *sim.Config) {
			c.Faults = map[sim.Stage]sim.Fault{sim.Rcpt: {Kind: sim.LateStray, Every: 200 * time.Millisecond}}
		}, 1},
		"stray reply at QUIT": {func(c *sim.Config) {
			c.Faults = map[sim.Stage]sim.Fault{sim.Quit: {Kind: sim.Before, Reply: "550 5.1.1 late"}}
		}, 1},
		"421":    {func(c *sim.Config) { c.Faults = map[sim.Stage]sim.Fault{sim.Quit: {Kind: sim.Say, Reply: "421 bye"}} }, 0},
		"closed": {func(c *sim.Config) { c.Faults = map[sim.Stage]sim.Fault{sim.Quit: {Kind: sim.Drop}} }, 0},
		"good":   {func(*sim.Config) {}, 0},
	} {
		t.Run(name, inBubble(func(t *testing.T) {
			server := startSim(t, tc.change)
			b := newTestBackend(t, server, Config{Idle: seconds(0.8)})
			var d doubts
			if rep, err := d.ask(t, b, "user@example.com"); err != nil || rep.Code != 250 {
				t.Fatalf("%+v, %v", rep, err)
			}
			testkit.Eventually(t, "the connection is closed", func() bool { h := b.Health(); return h.Idle == 0 && h.Closing == 0 })
			if n := d.of("user@example.com"); n != tc.want {
				t.Errorf("doubted %d times, want %d", n, tc.want)
			}
		}))
	}
}

// A server that does not know RSET, or drops connections, casts no doubt on its answers.
func TestPeculiaritiesAreNoDoubts(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*sim.Behaviour){
		"no RSET":          func(b *sim.Behaviour) { b.NoRset = true },
		"drops after RSET": func(b *sim.Behaviour) { b.DropAfterRset = true },
		"421 at RCPT":      func(b *sim.Behaviour) { b.RecipientsPerConnection = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			server := startSim(t, func(c *sim.Config) { change(&c.Behaviour) })
			b := newTestBackend(t, server, Config{})
			var d doubts
			for range 4 {
				if rep, err := d.ask(t, b, "user@example.com"); err != nil || rep.Code != 250 {
					t.Fatalf("%+v, %v", rep, err)
				}
			}
			if n := d.of("user@example.com"); n != 0 {
				t.Errorf("doubted %d times", n)
			}
		})
	}
}
