// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rcptgate"
	"rcptgate/backend"
	"rcptgate/backend/sim"
	"rcptgate/kit/testkit"
	"rcptgate/route"
	"rcptgate/store"
	"rcptgate/store/ram"
	"rcptgate/store/tiers"
)

func TestMain(m *testing.M) {
	testkit.Overlap(12)
	testkit.Checks(0)
	goleak.VerifyTestMain(m)
}

// site is a check over real parts: backends on loopback, a pool, the RAM store.
type site struct {
	t      testing.TB
	memory *tiers.Tiers
	state  *State
	chain  *rcptgate.Chain
	check  *Check
	set    *backend.Set
}

func newSite(t testing.TB, sims ...*sim.Server) *site {
	t.Helper()
	domain := route.DomainConfig{Name: "example.com"}
	for _, s := range sims {
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Stop)
		domain.Backend = append(domain.Backend, s.Backend())
	}
	set := backend.NewSet(backend.DefaultConfig(), "mx1.example.org", nil)
	t.Cleanup(set.Close)
	router, err := route.New(route.Options{Domains: []route.DomainConfig{domain}, FollowMTA: true, Enforce: true, Hostname: "mx1.example.org", Set: set})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(router.Close)
	s := &site{t: t, set: set, memory: tiers.New(ram.New(ram.Options{Entries: 100_000})), state: NewState(nil)}
	t.Cleanup(func() {
		s.state.Close()
		if err := s.memory.Close(); err != nil {
			t.Error(err)
		}
	})
	s.check, err = New(Options{
		Config: DefaultConfig(), Lives: DefaultLives(), Domains: make([]DomainConfig, 1), Hostname: "mx1.example.org",
		Router: router, Memory: s.memory, State: s.state,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.chain = &rcptgate.Chain{Deadline: 8 * time.Second, Steps: []rcptgate.Step{{Name: "existence", Check: s.check}}}
	return s
}

func (s *site) ask(recipient string) string {
	v, _ := s.chain.Check(s.t.Context(), query(recipient))
	return fmt.Sprintf("%v %d %s %s %s", v.Action, v.Code, v.Enhanced, v.Reason, v.Source)
}

func (s *site) expect(recipient, want string) {
	s.t.Helper()
	if got := s.ask(recipient); got != want {
		s.t.Errorf("%s: %s, want %s", recipient, got, want)
	}
}

func behaviour() sim.Behaviour {
	return sim.Behaviour{Users: []string{"good@example.com", "second@example.com"}, Full: []string{"full@example.com"}}
}

func TestRealBackend(t *testing.T) {
	t.Parallel()
	server := sim.New(sim.Config{Behaviour: behaviour()})
	s := newSite(t, server)
	s.expect("good@example.com", "continue 250 2.1.5 valid probe")
	s.expect("no@example.com", "reject 550 5.1.1 unknown-user probe")
	s.expect("full@example.com", "tempfail 452 4.2.2 mailbox-full probe")
	s.expect("GOOD@example.com", "continue 250 2.1.5 valid ram")
	s.expect("no@example.com", "reject 550 5.1.1 unknown-user ram")
	server.Stop()
	s.expect("good@example.com", "continue 250 2.1.5 valid ram")
	s.expect("second@example.com", "tempfail 451 4.4.1 unreachable probe")
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.memory.Forget(t.Context(), store.Pattern{Address: "no@example.com"}); err != nil {
		t.Fatal(err)
	}
	s.state.Forget(store.Pattern{Address: "no@example.com"})
	b := behaviour()
	b.Users = append(b.Users, "no@example.com")
	server.SetBehaviour(b)
	// The breaker may have opened: five seconds at most.
	testkit.Eventually(t, "the backend's recovery is noticed", func() bool { return s.ask("no@example.com") == "continue 250 2.1.5 valid probe" })
}

func TestRealSecondBackend(t *testing.T) {
	t.Parallel()
	first, second := sim.New(sim.Config{Behaviour: behaviour()}), sim.New(sim.Config{Behaviour: behaviour()})
	s := newSite(t, first, second)
	first.SetBehaviour(sim.Behaviour{Faults: map[sim.Stage]sim.Fault{sim.Banner: {Kind: sim.Say, Reply: "554 go away"}}})
	s.expect("good@example.com", "continue 250 2.1.5 valid probe")
	s.expect("no@example.com", "reject 550 5.1.1 unknown-user probe")
}

// A mute first backend costs the first question some seconds, later ones nothing.
func TestRealMuteFirstBackend(t *testing.T) {
	t.Parallel()
	first, second := sim.New(sim.Config{Behaviour: sim.Behaviour{Faults: map[sim.Stage]sim.Fault{sim.Banner: {Kind: sim.Hang}}}}), sim.New(sim.Config{Behaviour: behaviour()})
	s := newSite(t, first, second)
	start := time.Now()
	s.expect("good@example.com", "continue 250 2.1.5 valid probe")
	if d := time.Since(start); d < 2*time.Second {
		t.Errorf("answered after %v", d)
	}
	// Its share of the deadline passes, and its breaker opens.
	a, err := backend.ParseAddress(first.Backend())
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the first backend is known to be mute", func() bool { return s.set.Get(a).Health().Open })
	s.expect("no@example.com", "reject 550 5.1.1 unknown-user probe")
	if n := s.set.Get(a).Health().Failures[backend.StageBreaker]; n != 1 {
		t.Errorf("the first backend's breaker has answered %d questions", n)
	}
}

func TestRealFallbackSender(t *testing.T) {
	b := behaviour()
	b.Senders = map[string]string{"": "553 5.1.7 null sender refused"}
	s := newSite(t, sim.New(sim.Config{Behaviour: b}))
	s.expect("good@example.com", "continue 250 2.1.5 valid probe")
	s.expect("no@example.com", "reject 550 5.1.1 unknown-user probe")
}

func TestReal500Questions(t *testing.T) {
	t.Parallel()
	b := behaviour()
	b.Delays = map[sim.Stage]time.Duration{sim.Rcpt: 300 * time.Millisecond}
	server := sim.New(sim.Config{Behaviour: b})
	s := newSite(t, server)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for range 500 {
		wg.Go(func() {
			<-start
			if got := s.ask("good@example.com"); got != "continue 250 2.1.5 valid probe" && got != "continue 250 2.1.5 valid ram" {
				t.Error(got)
			}
		})
	}
	close(start)
	wg.Wait()
	testkit.Eventually(t, "the accept-all test in the background", func() bool { return server.Stats().Probes >= 2 })
	if st := server.Stats(); st.PerRecipient["good@example.com"] != 1 || st.Probes != 2 {
		t.Errorf("%d RCPT commands: %v", st.Probes, st.PerRecipient)
	}
}

func TestRealAcceptAll(t *testing.T) {
	server := sim.New(sim.Config{Behaviour: sim.Behaviour{AcceptAll: true}})
	s := newSite(t, server)
	s.expect("any@example.com", "continue 250 2.1.5 valid probe")
	testkit.Eventually(t, "the backend is known to take everyone", func() bool { return s.ask("other@example.com") == "continue 250 2.1.5 accept-all ram" })
	before := server.Stats().Probes
	s.expect("third@example.com", "continue 250 2.1.5 accept-all ram")
	if n := server.Stats().Probes; n != before {
		t.Errorf("%d probes more", n-before)
	}
}

func TestNoAnswerFromDNS(t *testing.T) {
	w := newWorld(t, func(w *world) { w.domains[0].Backend = []string{"mx"} }) // its DNS server does not exist
	w.expect(w.ask(user), "tempfail 451 4.4.1 unreachable probe")
	if log := w.log.String(); log != "" {
		t.Errorf("log: %s", log)
	}
}

func remembered(t testing.TB) (*site, []*rcptgate.Query) {
	var users []string
	for i := range 1000 {
		users = append(users, fmt.Sprintf("user%d@example.com", i))
	}
	s := newSite(t, sim.New(sim.Config{Behaviour: sim.Behaviour{Users: users}}))
	var queries []*rcptgate.Query
	for _, u := range users {
		if v, _ := s.chain.Check(t.Context(), query(u)); v.Reason != rcptgate.ReasonValid {
			t.Fatalf("%s: %+v", u, v)
		}
		queries = append(queries, query(u))
	}
	return s, queries
}

func TestRememberedAnswerAllocates(t *testing.T) {
	s, queries := remembered(t)
	i := 0
	n := testing.AllocsPerRun(1000, func() {
		_, _ = s.check.Check(context.Background(), queries[i%len(queries)])
		i++
	})
	t.Logf("%v allocations a remembered answer", n)
	if n > 2 {
		t.Errorf("%v allocations a remembered answer, 2 are allowed", n)
	}
}

func BenchmarkRemembered(b *testing.B) {
	s, queries := remembered(b)
	b.ReportAllocs()
	b.ResetTimer()
	i := 0
	for b.Loop() {
		_, _ = s.check.Check(context.Background(), queries[i%len(queries)])
		i++
	}
}

func BenchmarkRememberedParallel(b *testing.B) {
	s, queries := remembered(b)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			q := *queries[i%len(queries)]
			_, _ = s.check.Check(context.Background(), &q)
		}
	})
}

func BenchmarkClassify(b *testing.B) {
	codes := DefaultUnknownCodes()
	b.ReportAllocs()
	for b.Loop() {
		Classify(550, "5.1.1", "<u@x.example>: Recipient address rejected: User unknown", codes)
	}
}

// TestAddressBeyondASCII: what the backend cannot be given could not be delivered
// there either, and would be bounced if it were taken (RFC 6531 section 3.2).
func TestAddressBeyondASCII(t *testing.T) {
	without := sim.New(sim.Config{Behaviour: behaviour()})
	s := newSite(t, without)
	s.expect("gööd@example.com", "reject 553 5.6.7 bad-address probe")
	s.expect("gööd@example.com", "reject 553 5.6.7 bad-address probe")
	b := behaviour()
	b.SMTPUTF8, b.Users = true, append(b.Users, "gööd@example.com")
	without.SetBehaviour(b)
	without.DropConnections()
	s.expect("gööd@example.com", "continue 250 2.1.5 valid probe")
}
