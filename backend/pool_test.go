// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate/backend/sim"
	"rcptgate/kit/testkit"
)

// askMany puts total questions u1, u2, ... from so many askers at the same time and
// reports the first wrong answer: every twentieth is refused.
func askMany(t *testing.T, b *Backend, askers, total int) {
	t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	var once sync.Once
	for range askers {
		wg.Go(func() {
			for n := int(next.Add(1)); n <= total; n = int(next.Add(1)) {
				want := 250
				if n%20 == 0 {
					want = 550
				}
				rep, err := b.Ask(t.Context(), Probe{Recipient: numbered(n)})
				if err != nil || rep.Code != want {
					once.Do(func() { t.Errorf("u%d: %+v, %v; want %d", n, rep, err, want) })
				}
			}
		})
	}
	wg.Wait()
}

// A real Postfix with default limits would neither delay nor drop us, and few
// connections carry many probes: about ninety each, and on a machine that stands still
// now and then one for each asker.
func TestFewConnectionsToAFastBackend(t *testing.T) {
	for _, tc := range []struct{ askers, total, most int }{{8, 1000, 30}, {1, 1000, 15}, {64, 20_000, 330}} {
		t.Run(fmt.Sprint(tc.total, "/", tc.askers), inBubble(func(t *testing.T) {
			server := startSim(t, func(c *sim.Config) { oneInTwenty(c); c.Postfix = sim.PostfixDefaults })
			askMany(t, newTestBackend(t, server, Config{}), tc.askers, tc.total)
			st := server.Stats()
			if st.Connections > tc.most || st.Probes != tc.total {
				t.Errorf("%d connections (at most %d wanted), %d probes", st.Connections, tc.most, st.Probes)
			}
			if st.Delayed != 0 || st.Cut != 0 || st.MaxProbes > 90 {
				t.Errorf("the backend lost patience: %+v", st)
			}
			t.Logf("%d connections, %d at once", st.Connections, st.MaxConnections)
		}))
	}
}

// A backend that takes 200 ms a probe is used with all its connections.
func TestASlowBackendIsUsedFully(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := startSim(t, func(c *sim.Config) {
			c.AcceptAll = true
			c.Delays = map[sim.Stage]time.Duration{sim.Rcpt: 200 * time.Millisecond}
		})
		b := newTestBackend(t, server, Config{})
		began := time.Now()
		var wg sync.WaitGroup
		var next atomic.Int64
		for range 64 {
			wg.Go(func() {
				for round := 0; round < 6 || server.Stats().MaxConnections < 60 && time.Since(began) < time.Minute; round++ {
					if _, err := b.Ask(t.Context(), Probe{Recipient: numbered(int(next.Add(1)))}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		ideal := time.Duration(next.Load()) * 200 * time.Millisecond / 64
		t.Logf("%.3f of the ideal", float64(ideal)/float64(time.Since(began)))
		if st := server.Stats(); st.MaxConnections < 60 || st.MaxConnections > 64 {
			t.Errorf("%d connections at once", st.MaxConnections)
		}
	})
}

// Refusals are what Postfix counts.
func TestRefusalsAreFewOnAConnection(t *testing.T) {
	server := startSim(t, func(c *sim.Config) { c.Postfix = sim.PostfixDefaults })
	b := newTestBackend(t, server, Config{})
	for range 30 {
		mustSay(t, b, "nobody@example.com", 550)
	}
	if st := server.Stats(); st.Delayed != 0 || st.Cut != 0 || st.Connections != 4 {
		t.Errorf("%d replies delayed, %d connections", st.Delayed, st.Connections)
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	server := startSim(t, func(c *sim.Config) {
		oneInTwenty(c)
		c.Delays = map[sim.Stage]time.Duration{sim.Rcpt: 5 * time.Millisecond}
	})
	b := newTestBackend(t, server, Config{Connections: 3, ProbesPerConnection: 7})
	askMany(t, b, 30, 300)
	if st := server.Stats(); st.MaxConnections > 3 || st.MaxProbes > 7 {
		t.Errorf("%d connections at once, %d probes on one", st.MaxConnections, st.MaxProbes)
	}
}

func TestTheQueueIsBounded(t *testing.T) {
	server := startSim(t, func(c *sim.Config) { c.Faults = map[sim.Stage]sim.Fault{sim.Rcpt: {Kind: sim.Hang}} })
	b := newTestBackend(t, server, Config{Connections: 1, Queue: 2})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for n := range 3 {
		wg.Go(func() {
			_, err := b.Ask(ctx, Probe{Recipient: numbered(n)})
			mustFailKind(t, err, KindCancelled)
		})
		testkit.Eventually(t, "the first is asked", func() bool { return b.Health().Busy == 1 })
	}
	testkit.Eventually(t, "two wait", func() bool { h := b.Health(); return h.Waiting == 2 && h.Busy == 1 })
	rep, err := ask(b, "user@example.com")
	mustFail(t, rep, err, StageQueue, KindBusy)
	cancel()
	wg.Wait()
	testkit.Eventually(t, "nothing is left", func() bool { h := b.Health(); return h.Waiting == 0 && h.Busy == 0 })
}

func mustFailKind(t *testing.T, err error, kind Kind) {
	t.Helper()
	var f *Failure
	if !errors.As(err, &f) || f.Kind != kind {
		t.Errorf("got %v, want a failure of kind %s", err, kind)
	}
}

func TestIdleConnectionsAreClosedWithQuit(t *testing.T) {
	server := startSim(t, nil)
	b := newTestBackend(t, server, Config{Idle: seconds(0.05)})
	mustSay(t, b, "user@example.com", 250)
	testkit.Eventually(t, "QUIT", func() bool { return server.Stats().Quits == 1 && b.Health().Idle == 0 })
	mustSay(t, b, "user@example.com", 250)
	if n := server.Stats().Connections; n != 2 {
		t.Errorf("%d connections", n)
	}
}

// The backend closed kept connections or says 421 on them: no probe fails for it.
func TestAKeptConnectionThatHasEndedIsReplacedSilently(t *testing.T) {
	for _, idle421 := range []bool{false, true} {
		t.Run(fmt.Sprint("421=", idle421), func(t *testing.T) {
			server := startSim(t, nil)
			b := newTestBackend(t, server, Config{})
			mustSay(t, b, "user@example.com", 250)
			if idle421 {
				server.SetBehaviour(sim.Behaviour{Users: []string{"user@example.com"}, Faults: map[sim.Stage]sim.Fault{
					sim.Rset: {Kind: sim.Say, Reply: "421 4.4.2 Error: timeout exceeded"},
				}})
			} else {
				server.DropConnections()
			}
			mustSay(t, b, "nobody@example.com", 550)
			if h := b.Health(); len(h.Failures) != 0 {
				t.Errorf("failures: %v", h.Failures)
			}
		})
	}
}

// 421 at the banner while other connections work halves the limit; no question fails.
func TestFewerConnectionsThanConfigured(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*sim.Behaviour)
	}{
		{"421", func(b *sim.Behaviour) { b.MaxConnections = 4 }},
		{"kept waiting", func(b *sim.Behaviour) { b.HoldConnections = 4 }},
	} {
		t.Run(tc.name, inBubble(func(t *testing.T) {
			server := startSim(t, func(c *sim.Config) {
				c.AcceptAll = true
				c.Delays = map[sim.Stage]time.Duration{sim.Rcpt: 30 * time.Millisecond}
				tc.change(&c.Behaviour)
			})
			// No connection wears out: a place that is free would be given to one on hold.
			b := newTestBackend(t, server, Config{ProbesPerConnection: 10_000}, func(s *Set) { s.tune.grace = 2 * time.Second })
			var wg sync.WaitGroup
			began := time.Now()
			for n := range 64 {
				wg.Go(func() {
					for round := 0; round < 4 || b.Health().Limit == 64 && time.Since(began) < time.Minute; round++ {
						due := time.Now().Add(300 * time.Millisecond)
						if _, err := b.Ask(t.Context(), Probe{Recipient: numbered(n), Due: due}); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			if h := b.Health(); h.Limit >= 64 || h.Open { // 32, or 16 when it was tried again
				t.Errorf("limit %d, breaker open: %v", h.Limit, h.Open)
			}
		}))
	}
}

// Probes without a waiting asker may hold half of the connections; of those
// beyond that the oldest is dropped.
func TestOverdueProbesHoldHalfOfTheConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := startSim(t, func(c *sim.Config) {
			c.Users = []string{"user@example.com"}
			c.Unknown = "550 5.1.1 no"
			c.RefusalDelay = time.Hour
		})
		b := newTestBackend(t, server, Config{Connections: 4}, patient)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var dropped atomic.Int64
		for n := range 12 {
			wg.Go(func() {
				_, err := b.Ask(ctx, Probe{Recipient: numbered(n), Due: time.Now().Add(3 * time.Second)})
				var f *Failure
				if errors.As(err, &f) && f.Kind == KindTimeout && f.Stage == StageRcpt {
					dropped.Add(1)
				}
			})
		}
		testkit.Eventually(t, "all connections are held", func() bool { return b.Health().Busy == 4 })
		testkit.Eventually(t, "overdue probes are dropped", func() bool { return dropped.Load() >= 2 })
		for range 20 { // the other half stays in use
			mustSay(t, b, "user@example.com", 250)
		}
		if h := b.Health(); h.Overdue > 2 || h.Open {
			t.Errorf("%d overdue, breaker open: %v", h.Overdue, h.Open)
		}
		cancel()
		wg.Wait()
	})
}

func TestProbesASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := startSim(t, nil)
		b := newTestBackend(t, server, Config{ProbesPerSecond: 10})
		began := time.Now()
		for range 14 { // ten at once, then one in 100 ms
			mustSay(t, b, "user@example.com", 250)
		}
		if took := time.Since(began); took < 350*time.Millisecond {
			t.Errorf("14 probes in %v", took)
		}
		testkit.Eventually(t, "more are refused", func() bool { // sooner or later: a stall lets more through
			_, err := askFor(b, "user@example.com", 20*time.Millisecond, 0)
			var f *Failure
			return errors.As(err, &f) && f.Stage == StageQueue && f.Kind == KindBusy
		})
	})
}

// A probe whose asker has given up before it had a connection is asked all the same,
// once fewer of its kind hold connections.
func TestOverdueWaitersAreServedAfterTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := startSim(t, func(c *sim.Config) {
			c.AcceptAll = true
			c.FlushEach = true
			c.Delays = map[sim.Stage]time.Duration{sim.Rcpt: 300 * time.Millisecond}
		})
		b := newTestBackend(t, server, Config{Connections: 2}, patient)
		var wg sync.WaitGroup
		for n := range 8 {
			wg.Go(func() {
				if _, err := askFor(b, numbered(n).Path, time.Minute, 120*time.Millisecond); err != nil && mustBe(t, err).Stage != StageRcpt {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if h := b.Health(); h.Probes < 4 || h.Waiting != 0 || h.Busy != 0 || h.Overdue != 0 {
			t.Errorf("health: %+v", h)
		}
	})
}
