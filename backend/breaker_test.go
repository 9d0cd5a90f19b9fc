// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"sync"
	"testing"
	"time"

	"rcptgate/backend/sim"
)

const trialsEvery = 40 * time.Millisecond

func mute(stage sim.Stage) sim.Behaviour {
	return sim.Behaviour{Users: []string{"user@example.com"}, Faults: map[sim.Stage]sim.Fault{stage: {Kind: sim.Hang}}}
}

// A mute backend costs the first questions their deadline, later ones nothing; the
// first after its recovery is right.
func TestAMuteBackendOpensTheBreaker(t *testing.T) {
	t.Parallel()
	for _, stage := range []sim.Stage{sim.Banner, sim.Hello, sim.Mail} {
		t.Run(string(stage), func(t *testing.T) {
			t.Parallel()
			server := startSim(t, func(c *sim.Config) { c.Behaviour = mute(stage) })
			b := newTestBackend(t, server, Config{}, WithTrials(trialsEvery, time.Hour), hurried)
			var wg sync.WaitGroup
			began := time.Now()
			for range 20 {
				wg.Go(func() {
					if rep, err := askFor(b, "user@example.com", 2*time.Second, 150*time.Millisecond); err == nil {
						t.Errorf("answered %+v", rep)
					}
				})
			}
			eventually(t, "the breaker opens", func() bool { return b.Health().Open })
			if took := time.Since(began); took < 140*time.Millisecond {
				t.Errorf("breaker open after %v", took)
			}
			for range 100 {
				began := time.Now()
				rep, err := ask(b, "user@example.com")
				mustFail(t, rep, err, StageBreaker, KindOpen)
				if took := time.Since(began); took > time.Second {
					t.Errorf("refused after %v", took)
				}
			}
			server.SetBehaviour(sim.Behaviour{Users: []string{"user@example.com"}})
			eventually(t, "the breaker closes by itself", func() bool { return !b.Health().Open })
			mustSay(t, b, "user@example.com", 250)
			mustSay(t, b, "nobody@example.com", 550)
			wg.Wait()
		})
	}
}

func TestAStoppedBackendOpensTheBreaker(t *testing.T) {
	server := startSim(t, nil)
	b := newTestBackend(t, server, Config{}, WithTrials(trialsEvery, time.Hour))
	mustSay(t, b, "user@example.com", 250)
	server.Stop()
	for range tripAfter {
		rep, err := ask(b, "user@example.com")
		mustFail(t, rep, err, StageConnect, KindNoConnection)
	}
	rep, err := ask(b, "user@example.com")
	f := mustFail(t, rep, err, StageBreaker, KindOpen)
	if f.Err == nil {
		t.Error("the failure does not say why the breaker is open")
	}
	h := b.Health()
	if !h.Open || h.LastError == "" || h.Failures[StageConnect] < tripAfter || h.Failures[StageBreaker] != 1 {
		t.Errorf("health: %+v", h)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the breaker closes by itself", func() bool { return !b.Health().Open })
	mustSay(t, b, "nobody@example.com", 550)
	if n := server.Asked("nobody@example.com"); n != 1 {
		t.Errorf("asked %d times: trials must name no recipient", n)
	}
}

// A slow answer to RCPT is an answer: it comes, late, and the breaker stays closed.
func TestASlowRcptDoesNotOpenTheBreaker(t *testing.T) {
	t.Parallel()
	for _, each := range []bool{true, false} {
		server := startSim(t, func(c *sim.Config) {
			c.FlushEach = each
			c.RefusalDelay = 500 * time.Millisecond
		})
		b := newTestBackend(t, server, Config{}, WithTrials(trialsEvery, time.Hour), hurried)
		began := b.Health().Since
		if rep, err := askFor(b, "nobody@example.com", 10*time.Second, 100*time.Millisecond); err != nil || rep.Code != 550 {
			t.Fatalf("%+v, %v", rep, err)
		}
		if h := b.Health(); h.Open || each && h.Since != began {
			t.Errorf("breaker open (each reply in its own write: %v): %s", each, h.LastError)
		}
		mustSay(t, b, "user@example.com", 250)
	}
}

// Waiting behind slow replies is not the backend's silence.
func TestWaitingInTheQueueDoesNotOpenTheBreaker(t *testing.T) {
	t.Parallel()
	server := startSim(t, func(c *sim.Config) {
		c.AcceptAll = true
		c.FlushEach = true
		c.Delays = map[sim.Stage]time.Duration{sim.Rcpt: 100 * time.Millisecond}
	})
	b := newTestBackend(t, server, Config{Connections: 1}, WithTrials(time.Hour, time.Hour))
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if _, err := askFor(b, "user@example.com", 10*time.Second, 150*time.Millisecond); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if h := b.Health(); h.Open || h.Probes != 6 {
		t.Errorf("health: %+v", h)
	}
}

// The first question after long silence brings the first pace back.
func TestTrialsSlowDownWhenNobodyAsks(t *testing.T) {
	t.Parallel()
	server := startSim(t, nil)
	server.Stop()
	b := newTestBackend(t, server, Config{}, WithTrials(10*time.Millisecond, time.Hour))
	for range tripAfter {
		_, _ = ask(b, "user@example.com")
	}
	b.lastUse.Store(time.Now().Add(-2 * demandFor).UnixNano())
	eventually(t, "trials stop", func() bool {
		n := b.dialled.Load()
		time.Sleep(100 * time.Millisecond)
		return n == b.dialled.Load()
	})
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	if !b.Health().Open {
		t.Fatal("breaker closed without a trial")
	}
	rep, err := ask(b, "user@example.com")
	mustFail(t, rep, err, StageBreaker, KindOpen)
	eventually(t, "the breaker closes", func() bool { return !b.Health().Open })
}

// Others are not held up by one that hangs, and closing does not wait for it.
func TestBackendsAreApart(t *testing.T) {
	bad, good := startSim(t, func(c *sim.Config) { c.Behaviour = mute(sim.Banner) }), startSim(t, nil)
	s := NewSet(Config{}, "gate.example.org", nil)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { _, _ = ask(backendFor(t, s, bad), "user@example.com") })
	}
	b := backendFor(t, s, good)
	for range 20 {
		mustSay(t, b, "user@example.com", 250)
	}
	began := time.Now()
	s.Close()
	wg.Wait()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("closing took %v", took)
	}
	rep, err := ask(b, "user@example.com")
	mustFail(t, rep, err, StageQueue, KindClosed)
}
