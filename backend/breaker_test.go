// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate/backend/sim"
	"rcptgate/kit/testkit"
)

const trialsEvery = 40 * time.Millisecond

func mute(stage sim.Stage) sim.Behaviour {
	return sim.Behaviour{Users: []string{"user@example.com"}, Faults: map[sim.Stage]sim.Fault{stage: {Kind: sim.Hang}}}
}

// A mute backend costs the first questions their deadline, later ones nothing; the
// first after its recovery is right.
func TestAMuteBackendOpensTheBreaker(t *testing.T) {
	for _, stage := range []sim.Stage{sim.Banner, sim.Hello, sim.Mail} {
		t.Run(string(stage), inBubble(func(t *testing.T) {
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
			testkit.Eventually(t, "the breaker opens", func() bool { return b.Health().Open })
			if took := time.Since(began); took < 140*time.Millisecond {
				t.Errorf("breaker open after %v", took)
			}
			for range 100 {
				began := time.Now()
				rep, err := ask(b, "user@example.com")
				mustFail(t, rep, err, StageBreaker, KindOpen)
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("refused after %v", took)
				}
			}
			wg.Wait() // those that still wait would be answered
			server.SetBehaviour(sim.Behaviour{Users: []string{"user@example.com"}})
			testkit.Eventually(t, "the breaker closes by itself", func() bool { return !b.Health().Open })
			mustSay(t, b, "user@example.com", 250)
			mustSay(t, b, "nobody@example.com", 550)
		}))
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
	testkit.Eventually(t, "the breaker closes by itself", func() bool { return !b.Health().Open })
	mustSay(t, b, "nobody@example.com", 550)
	if n := server.Asked("nobody@example.com"); n != 1 {
		t.Errorf("asked %d times: trials must name no recipient", n)
	}
}

// A slow answer to RCPT is an answer: it comes, late, and the breaker stays closed.
func TestASlowRcptDoesNotOpenTheBreaker(t *testing.T) {
	for _, each := range []bool{true, false} {
		t.Run(fmt.Sprint("each reply in its own write: ", each), inBubble(func(t *testing.T) {
			server := startSim(t, func(c *sim.Config) {
				c.FlushEach = each
				c.RefusalDelay = 3500 * time.Millisecond
			})
			b := newTestBackend(t, server, Config{}, WithTrials(trialsEvery, time.Hour), patient)
			began := b.Health().Since
			if rep, err := askFor(b, "nobody@example.com", time.Minute, 100*time.Millisecond); err != nil || rep.Code != 550 {
				t.Fatalf("%+v, %v", rep, err)
			}
			if h := b.Health(); h.Open || each && h.Since != began {
				t.Errorf("breaker open: %s", h.LastError)
			}
			mustSay(t, b, "user@example.com", 250)
		}))
	}
}

// Waiting behind slow replies is not the backend's silence.
func TestWaitingInTheQueueDoesNotOpenTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := startSim(t, func(c *sim.Config) {
			c.AcceptAll = true
			c.FlushEach = true
			c.Delays = map[sim.Stage]time.Duration{sim.Rcpt: 100 * time.Millisecond}
		})
		b := newTestBackend(t, server, Config{Connections: 1}, WithTrials(time.Hour, time.Hour))
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				if _, err := askFor(b, "user@example.com", time.Minute, 150*time.Millisecond); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if h := b.Health(); h.Open || h.Probes != 6 {
			t.Errorf("health: %+v", h)
		}
	})
}

// A server that holds back its reply to MAIL while it looks up a slow recipient is not
// down, however many slow recipients are asked about at once.
func TestSlowRecipientsDoNotOpenTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := startSim(t, func(c *sim.Config) {
			c.HoldReplies = true
			c.RefusalDelay = 1500 * time.Millisecond
		})
		var told changes
		s := newTestSet(t, Config{}, WithTrials(200*time.Millisecond, time.Hour), OnBreaker(told.hook), func(s *Set) {
			s.tune.grace, s.tune.stall = 300*time.Millisecond, time.Minute
		})
		b := backendFor(t, s, server)
		mustSay(t, b, "user@example.com", 250)
		var wg sync.WaitGroup
		for n := range 24 { // fewer than half of the connections
			wg.Go(func() {
				if rep, err := askFor(b, numbered(n).Path, time.Minute, 200*time.Millisecond); err != nil || rep.Code != 550 {
					t.Errorf("u%d: %+v, %v", n, rep, err)
				}
			})
		}
		wg.Wait()
		if !told.are() {
			t.Errorf("the breaker turned: %v", told.list)
		}
		if st := server.Stats(); st.Mails <= st.Probes {
			t.Error("no trial was made: this test shows nothing")
		}
	})
}

// The same with recipients for which no answer comes in time at all: it is not clear which command is slow, so that a trial
// decides, however many there are.
func TestRecipientsWithoutAnAnswerDoNotOpenTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := startSim(t, func(c *sim.Config) {
			c.HoldReplies = true
			c.RefusalDelay = 10 * time.Second
		})
		var told changes
		s := newTestSet(t, Config{}, WithTrials(200*time.Millisecond, time.Hour), OnBreaker(told.hook), func(s *Set) {
			s.tune.grace, s.tune.stall = 300*time.Millisecond, time.Minute
		})
		b := backendFor(t, s, server)
		mustSay(t, b, "user@example.com", 250)
		var wg sync.WaitGroup
		for n := range 4 * tripAfter {
			wg.Go(func() {
				if rep, err := askFor(b, numbered(n).Path, time.Second, 200*time.Millisecond); err == nil {
					t.Errorf("u%d: %+v", n, rep)
				}
			})
		}
		wg.Wait()
		if !told.are() {
			t.Errorf("the breaker turned: %v", told.list)
		}
		mustSay(t, b, "user@example.com", 250)
	})
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
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("closing took %v", took)
	}
	rep, err := ask(b, "user@example.com")
	mustFail(t, rep, err, StageQueue, KindClosed)
}

// A reply that lies ready when this machine wakes up after its time is not late.
func TestWhatHasArrivedIsNotLate(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	b := newTestSet(t, Config{}).Get(Address{Host: "127.0.0.1", Port: 25})
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, fail := b.newConn(b.settings.Load(), nc, nil, time.Now())
	if fail != nil {
		t.Fatal(fail)
	}
	defer c.close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	for _, part := range []string{"250-mx.example\r\n250 ", "Ok\r\n"} {
		if _, err := server.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	c.clock(time.Now().Add(-time.Second), time.Now().Add(time.Minute))
	if rep, err := c.in.next(true); err != nil || rep.Code != 250 || c.late || b.Health().Open {
		t.Errorf("%+v, %v; late: %v, breaker open: %v", rep, err, c.late, b.Health().Open)
	}
}
