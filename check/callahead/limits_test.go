// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/backend"
	"rcptgate/backend/sim"
	"rcptgate/kit/testkit"
)

// askMany puts recipients to the gate, so many at a time, and gives the verdicts.
func (s *site) askMany(recipients []string, most int) map[string]rcptgate.Verdict {
	verdicts := make(map[string]rcptgate.Verdict)
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := make(chan string)
	for range most {
		wg.Go(func() {
			for r := range next {
				v, _ := s.chain.Check(s.t.Context(), query(r))
				mu.Lock()
				verdicts[r] = v
				mu.Unlock()
			}
		})
	}
	for _, r := range recipients {
		next <- r
	}
	close(next)
	wg.Wait()
	return verdicts
}

// A well-behaved backend sees few connections: at most 15 for 1,000 recipients, of which
// one in twenty is refused.
func TestConnectionsForAThousandRecipients(t *testing.T) {
	for _, unknown := range []string{"550 5.1.1 <%s>: User unknown", "550 Unknown user", "553 5.3.0 <%s>... No such user here"} {
		t.Run(unknown, func(t *testing.T) {
			b := sim.Behaviour{Unknown: unknown}
			var recipients []string
			for i := range 1000 {
				r := fmt.Sprintf("user%d@example.com", i)
				if recipients = append(recipients, r); i%20 != 10 {
					b.Users = append(b.Users, r)
				}
			}
			server := sim.New(sim.Config{Behaviour: b})
			s := newSite(t, server)
			s.ask(recipients[0])
			for r, v := range s.askMany(recipients, 4) {
				if v.Action.Refuses() != !strings.Contains(strings.Join(b.Users, " "), r) {
					t.Errorf("%s: %+v", r, v)
				}
			}
			st := server.Stats()
			t.Logf("%d connections, %d questions", st.Connections, st.Probes)
			if st.Connections > 15 {
				t.Errorf("%d connections", st.Connections)
			}
		})
	}
}

// An attack with made-up names on a server that has a limit for them, and valid
// recipients that the gate has never seen among them: none is refused for good.
func TestAttackOnALimitedBackend(t *testing.T) {
	for name, perClient := range map[string]bool{"a connection": false, "a client": true} {
		for language, say := range map[string]wording{"English": languages["English"], "Greek": languages["Greek"]} {
			t.Run(name+" "+language, func(t *testing.T) {
				t.Parallel()
				var mu sync.Mutex
				unknowns, valid := 0, make(map[string]bool)
				decide := func(recipient string, refused int) string {
					mu.Lock()
					defer mu.Unlock()
					switch {
					case perClient && unknowns >= 5, !perClient && refused >= 5:
						return "550 " + strings.NewReplacer("{A}", "127.0.0.1", "{T}", fmt.Sprint(unknowns)).Replace(say.tooMany)
					case valid[recipient]:
						return "250 2.1.5 Ok"
					}
					unknowns++
					return "550 5.1.1 " + strings.NewReplacer("{R}", recipient, "{I}", fmt.Sprint(rand.Uint64())).Replace(say.unknown)
				}
				var all []string
				for i := range testkit.Rounds(300, 1000) {
					all = append(all, fmt.Sprintf("attack%d@example.com", i))
				}
				for i := range 100 {
					r := fmt.Sprintf("valid%d@example.com", i)
					valid[r] = true
					all = append(all, r)
				}
				rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
				s := newSite(t, sim.New(sim.Config{Behaviour: sim.Behaviour{DecideAfter: decide}}))
				taken := 0
				for r, v := range s.askMany(all, 16) {
					switch {
					case valid[r] && v.Action == rcptgate.Reject:
						t.Errorf("%s: %+v", r, v)
					case valid[r] && !v.Action.Refuses():
						taken++
					case !valid[r] && !v.Action.Refuses():
						t.Errorf("%s is taken: %+v", r, v)
					}
				}
				t.Logf("%d of 100 valid recipients were taken at once, %d control questions", taken, s.state.Stats().Controls)
				if !perClient && taken != 100 {
					t.Errorf("%d of 100 valid recipients were taken at once", taken)
				}
			})
		}
	}
}

// That a refusal under a policy's code is about one mailbox holds for a minute: the policy may turn against everybody.
func TestAPolicyThatTurnsAgainstEverybody(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b, closed := w.backend(at1), false
		rejected := said{code: 550, enhanced: "5.7.1", text: "Rejected by policy"}
		b.decide = func(p backend.Probe) *said {
			switch {
			case closed, takes(p, "closed"), takes(p, "shut"):
				return &rejected
			case takes(p, "known"), takes(p, "boss"):
				return &good
			}
			return &unknown
		}
		w.expect(w.ask("known@example.com"), "continue 250 - valid probe")
		settle()
		w.expect(w.ask("closed@example.com"), "reject 550 5.7.1 refused probe")
		w.expect(w.ask("shut@example.com"), "reject 550 5.7.1 refused probe")
		if n := w.state.Stats().Controls; n != 1 {
			t.Errorf("%d control questions within a minute", n)
		}
		closed = true
		time.Sleep(controlApart)
		w.expect(w.ask("boss@example.com"), "tempfail 451 4.7.1 refused probe")
		if n := w.state.Stats().Controls; n != 2 {
			t.Errorf("%d control questions after a minute", n)
		}
	})
}
