// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"rcptgate/address"
	"rcptgate/backend/sim"
	"rcptgate/config/setting"
	"rcptgate/kit/testkit"
)

func TestMain(m *testing.M) {
	testkit.Overlap(48)
	goleak.VerifyTestMain(m)
}

// memory is the network of tests in a bubble. What needs no time goes over the kernel's.
var memory testkit.Network

// inBubble makes a test of f in which time is the bubble's.
func inBubble(f func(t *testing.T)) func(t *testing.T) {
	return func(t *testing.T) { synctest.Test(t, f) }
}

// startSim starts a simulated server with "user@example.com" and "full@example.com".
func startSim(t testing.TB, change func(*sim.Config)) *sim.Server {
	t.Helper()
	cfg := sim.Config{Behaviour: sim.Behaviour{Users: []string{"user@example.com"}, Full: []string{"full@example.com"}}}
	if testkit.Bubbled() {
		cfg.Listen = memory.Listen
	}
	if change != nil {
		change(&cfg)
	}
	s := sim.New(cfg)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func newTestSet(t testing.TB, cfg Config, options ...Option) *Set {
	t.Helper()
	s := NewSet(cfg, "gate.example.org", nil, append([]Option{impatient}, options...)...)
	if testkit.Bubbled() {
		s.tune.dial = memory.DialContext
	}
	t.Cleanup(s.Close)
	return s
}

func backendFor(t testing.TB, s *Set, server *sim.Server) *Backend {
	t.Helper()
	a, err := ParseAddress(server.Backend())
	if err != nil {
		t.Fatal(err)
	}
	return s.Get(a)
}

func newTestBackend(t testing.TB, server *sim.Server, cfg Config, options ...Option) *Backend {
	t.Helper()
	return backendFor(t, newTestSet(t, cfg, options...), server)
}

// ask puts one question with ample time.
func ask(b *Backend, recipient string) (Reply, error) {
	return askFor(b, recipient, time.Minute, 0)
}

// askFor puts one question that may take so long, and whose asker waits until due.
func askFor(b *Backend, recipient string, d, due time.Duration) (Reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	p := Probe{Recipient: address.Parse(recipient)}
	if due != 0 {
		p.Due = time.Now().Add(due)
	}
	return b.Ask(ctx, p)
}

func mustSay(t testing.TB, b *Backend, recipient string, code int) Reply {
	t.Helper()
	rep, err := ask(b, recipient)
	if err != nil {
		t.Fatalf("asking about %s: %v", recipient, err)
	}
	if rep.Code != code {
		t.Fatalf("asking about %s: %d %s %q, want %d", recipient, rep.Code, rep.Enhanced, rep.Text, code)
	}
	return rep
}

func mustFail(t testing.TB, rep Reply, err error, stage Stage, kind Kind) *Failure {
	t.Helper()
	var f *Failure
	if !errors.As(err, &f) {
		t.Fatalf("got %+v, %v; want a failure at %s of kind %s", rep, err, stage, kind)
	}
	if f.Stage != stage || f.Kind != kind {
		t.Fatalf("failed at %s with %s (%v), want %s with %s", f.Stage, f.Kind, err, stage, kind)
	}
	return f
}

func seconds(n float64) setting.Duration { return setting.Duration(n * float64(time.Second)) }

// hurried makes the least time that a backend gets short.
func hurried(s *Set) { s.tune.grace = 400 * time.Millisecond }

// patient gives a backend on a machine that stands still for seconds its time, for tests
// in which it must not look down.
func patient(s *Set) { s.tune.grace, s.tune.stall = 3*time.Second, time.Minute }

// impatient makes servers that lie about PIPELINING be found out soon.
func impatient(s *Set) { s.tune.stall = 2 * time.Second }

func mustBe(t testing.TB, err error) *Failure {
	t.Helper()
	var f *Failure
	if !errors.As(err, &f) {
		t.Fatalf("%v is no failure", err)
	}
	return f
}
