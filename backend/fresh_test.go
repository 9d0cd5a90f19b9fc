// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"testing"
	"testing/synctest"
	"time"

	"rcptgate/address"
	"rcptgate/backend/sim"
	"rcptgate/kit/testkit"
)

func askFresh(t *testing.T, b *Backend, recipient string) Reply {
	t.Helper()
	rep, err := b.Ask(t.Context(), Probe{Recipient: address.Parse(recipient), Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// A reply says what its connection has carried before, so that the caller can judge it.
func TestRepliesSayWhatTheirConnectionHasCarried(t *testing.T) {
	server := startSim(t, nil)
	b := newTestBackend(t, server, Config{})
	for n, recipient := range []string{"user@example.com", "nobody@example.com", "user@example.com", "user@example.com"} {
		rep, err := ask(b, recipient)
		if err != nil {
			t.Fatal(err)
		}
		refused := 0
		if n > 1 {
			refused = 1
		}
		if rep.ConnAsked != n || rep.ConnRefused != refused || rep.ConnAge <= 0 {
			t.Errorf("question %d: asked %d, refused %d, age %v", n, rep.ConnAsked, rep.ConnRefused, rep.ConnAge)
		}
	}
	ageConnections(b, time.Minute)
	if rep := mustSay(t, b, "user@example.com", 250); rep.ConnAge < time.Minute {
		t.Errorf("age %v", rep.ConnAge)
	}
}

// ageConnections makes the idle connections older.
func ageConnections(b *Backend, by time.Duration) {
	b.pool.mu.Lock()
	defer b.pool.mu.Unlock()
	for _, c := range b.pool.idle {
		c.began = c.began.Add(-by)
	}
}

// A fresh question never uses a connection that is there, and leaves one that others use.
func TestAFreshQuestion(t *testing.T) {
	for _, most := range []int{0, 1} {
		server := startSim(t, nil)
		b := newTestBackend(t, server, Config{Connections: most})
		mustSay(t, b, "user@example.com", 250)
		for n := range 3 {
			if rep := askFresh(t, b, "user@example.com"); rep.ConnAsked != 0 {
				t.Errorf("at most %d connections: a connection that has carried %d", most, rep.ConnAsked)
			}
			if rep := mustSay(t, b, "user@example.com", 250); rep.ConnAsked != 1 {
				t.Errorf("the connection was not kept: %+v", rep)
			}
			if got := server.Stats().Connections; got != n+2 {
				t.Errorf("%d connections", got)
			}
		}
		if most == 1 {
			testkit.Eventually(t, "the server hears QUIT", func() bool { return server.Stats().Quits == 3 })
		}
		if h := b.Health(); h.Busy != 0 || h.Idle+h.Closing > max(most, 4) {
			t.Errorf("health: %+v", h)
		}
	}
}

// Where all connections are busy, a fresh question waits for one and replaces it.
func TestAFreshQuestionWaitsForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := startSim(t, func(c *sim.Config) {
			c.Delays = map[sim.Stage]time.Duration{sim.Rcpt: 50 * time.Millisecond}
		})
		b := newTestBackend(t, server, Config{Connections: 1})
		first := make(chan error, 1)
		go func() {
			_, err := ask(b, "user@example.com")
			first <- err
		}()
		testkit.Eventually(t, "the connection is busy", func() bool { return b.Health().Busy == 1 })
		if rep := askFresh(t, b, "user@example.com"); rep.ConnAsked != 0 || rep.Code != 250 {
			t.Errorf("%+v", rep)
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
		if n := server.Stats().Connections; n != 2 {
			t.Errorf("%d connections", n)
		}
	})
}

// A server that shows changes only to new sessions, as Postfix does with hash: maps,
// hides them no longer than a connection may live.
func TestConnectionsAreNotUsedBeyondTheirAge(t *testing.T) {
	server := startSim(t, nil)
	b := newTestBackend(t, server, Config{Idle: seconds(600)})
	mustSay(t, b, "user@example.com", 250)
	ageConnections(b, 4*time.Minute)
	if rep := mustSay(t, b, "user@example.com", 250); rep.ConnAsked != 1 {
		t.Errorf("not kept: %+v", rep)
	}
	ageConnections(b, time.Minute)
	if rep := mustSay(t, b, "user@example.com", 250); rep.ConnAsked != 0 || rep.ConnAge > time.Minute {
		t.Errorf("too old: %+v", rep)
	}
	testkit.Eventually(t, "the server hears QUIT", func() bool { return server.Stats().Quits == 1 })
	b = newTestBackend(t, server, Config{Idle: seconds(600), ConnectionAge: seconds(0.05)})
	mustSay(t, b, "user@example.com", 250)
	testkit.Eventually(t, "nothing is kept", func() bool { h := b.Health(); return h.Idle == 0 && h.Closing == 0 })
}

// SIZE is said where it is offered, and never more than the server allows.
func TestSizeOfTheMessage(t *testing.T) {
	for _, tc := range []struct {
		name    string
		offered int64
		size    int64
		want    int
	}{
		{"room enough", 0, 1000, 250},
		{"no room", 0, 1001, 452},
		{"over the limit of the server", 500, 5000, 250},
		{"not offered", -1, 5000, 250},
		{"unknown", 0, 0, 250},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := startSim(t, func(c *sim.Config) {
				c.SizeMax = tc.offered
				c.Room = map[string]int64{"user@example.com": 1000}
			})
			b := newTestBackend(t, server, Config{})
			rep, err := b.Ask(t.Context(), Probe{Recipient: address.Parse("user@example.com"), Size: tc.size})
			if err != nil || rep.Code != tc.want {
				t.Errorf("%+v, %v; want %d", rep, err, tc.want)
			}
			mustSay(t, b, "user@example.com", 250) // the next question says nothing of it
		})
	}
}
