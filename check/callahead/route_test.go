// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"rcptgate/address"
	"rcptgate/backend"
	"rcptgate/config/setting"
	"rcptgate/store"
)

func duration(d time.Duration) setting.Duration { return setting.Duration(d) }

// A refusal that may be about us is passed on only when the backend has just taken
// somebody else.
func TestRefused(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.all(relaying)
		v := w.ask(user)
		w.expect(v, "tempfail 451 4.7.1 refused probe")
		if v.Text != textUnreachable {
			t.Errorf("text %q is not our own: the server's may name us", v.Text)
		}
		if n, _ := b.counts(); n != 2 {
			t.Errorf("asked %d times, want twice: with both senders", n)
		}
		if len(w.memory.all()) != 0 {
			t.Errorf("remembered %v", w.memory.all())
		}
		if !strings.Contains(w.log.String(), "may be about this gateway") {
			t.Errorf("the postmaster was not told: %s", w.log)
		}
		b.say("good@example.com", good)
		w.ask("good@example.com")
		w.expect(w.ask(user), "reject 554 5.7.1 refused probe")
		w.expect(w.ask(user), "reject 554 5.7.1 refused ram")
		time.Sleep(6 * time.Minute)
		w.expect(w.ask(user), "reject 554 5.7.1 refused probe")
		time.Sleep(6 * time.Minute)
		b.say("good@example.com", relaying) // the server has changed its mind about us
		w.expect(w.ask(user), "tempfail 451 4.7.1 refused probe")
		w.expect(w.ask("good@example.com"), "continue 250 - valid ram")
	})
}

func TestItsOwnAcceptanceProvesNothing(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.all(good)
		w.ask(user)
		w.memory.forget()
		b.all(relaying)
		w.expect(w.ask(user), "tempfail 451 4.7.1 refused")
	})
}

func TestProofOutlastsRepeatedAnswersOfOne(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		now, p := time.Now(), pair{at1, "example.com"}
		w.state.took(p, "other@example.com", address.Parse("other@example.com"), now)
		w.state.took(p, user, address.Parse(user), now)
		w.state.took(p, user, address.Parse(user), now)
		if !w.state.tookAnother(p, user, proofLife, now) || !w.state.tookAnother(p, "other@example.com", proofLife, now) || w.state.tookAnother(pair{at2, "example.com"}, user, proofLife, now) {
			t.Error("what was taken was not remembered")
		}
	})
}

func TestRefusedBesideValid(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := known(w)
		b.all(relaying)
		for range 10 {
			w.expect(w.ask(user), "continue 250 - valid ram")
			time.Sleep(11 * time.Minute)
		}
	})
}

func TestFallbackSender(t *testing.T) {
	for name, refusal := range map[string]said{"at rcpt": relaying, "at mail": mail553} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, w *world) {
				b := w.backend(at1)
				b.all(good)
				b.say("no@example.com", unknown)
				b.bySender = func(sender string) *said { // no question yet
					if sender == "" {
						return &refusal
					}
					return nil
				}
				w.expect(w.ask(user), "continue 250 - valid probe")
				w.expect(w.ask("no@example.com"), "reject 550 5.1.1 unknown-user probe")
				var senders []string
				for _, p := range b.probes() {
					senders = append(senders, p.Sender)
				}
				if got, want := fmt.Sprintf("%q", senders), `["" "postmaster@mx1.example.org" "postmaster@mx1.example.org"]`; got != want {
					t.Errorf("senders %s, want %s", got, want)
				}
				// After an hour the null sender is tried first again.
				time.Sleep(61 * time.Minute)
				settle()
				b.mu.Lock()
				b.bySender = nil
				b.mu.Unlock()
				w.ask("third@example.com")
				if p := b.probes(); len(p) != 4 || p[3].Sender != "" {
					t.Errorf("%d probes, the last from %q", len(p), p[len(p)-1].Sender)
				}
			})
		})
	}
}

func TestBothSendersRefusedAtMail(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		w.backend(at1).all(mail553)
		w.expect(w.ask(user), "tempfail 451 4.4.1 unreachable")
		if n, _ := w.backend(at1).counts(); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestNoFallbackWithoutAName(t *testing.T) {
	inBubble(t, func(w *world) { w.opt.Hostname = "gw" }, func(t *testing.T, w *world) {
		w.backend(at1).all(relaying)
		w.expect(w.ask(user), "tempfail 451 4.7.1 refused")
		if n, _ := w.backend(at1).counts(); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

// On a route that only the MTA named, which may be a smart host for outgoing mail,
// only unknown and full refuse.
func TestRouteOfTheMTAAlone(t *testing.T) {
	for name, tt := range map[string]struct {
		say  said
		want string
	}{
		"valid":    {good, "continue 250 - valid"},
		"unknown":  {unknown, "reject 550 5.1.1 unknown-user"},
		"full":     {full, "tempfail 452 4.2.2 mailbox-full"},
		"refused":  {relaying, "continue - - refused"},
		"banner":   {banner554, "continue - - refused"},
		"mail":     {mail553, "continue - - refused"},
		"deferred": {greylisted, "tempfail 450 4.2.0 deferred"},
		"down":     {down, "tempfail 451 4.4.1 unreachable"},
		"loop":     {looping, "tempfail 451 4.4.1 unreachable"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, w *world) {
				b := w.backend(at3)
				b.rest, b.madeUp = tt.say, good
				for range 3 {
					w.expect(w.put(viaMTA("u@far.example", "[192.0.2.3]")), tt.want)
				}
				settle()
				if _, tests := b.counts(); tests != 0 {
					t.Errorf("%d made-up recipients were sent there", tests)
				}
				hint := strings.Count(w.log.String(), "accepted anyway")
				if refused := strings.HasSuffix(tt.want, "refused"); refused != (hint == 1) {
					t.Errorf("%d hints: %s", hint, w.log)
				} else if refused && !strings.Contains(w.log.String(), "domain=far.example network=198.51.100.0/24") {
					t.Errorf("the hint does not name domain and network: %s", w.log)
				}
			})
		})
	}
}

// What a smart host refused does not count once the domain is configured.
func TestRefusalOfTheMTAsRouteDoesNotHarden(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		w.backend(at1).all(relaying)
		w.expect(w.put(viaMTA("u@far.example", "[192.0.2.1]")), "continue - - refused")
		w.domains[0].Name = "far.example"
		w.configure()
		w.expect(w.ask("u@far.example"), "tempfail 451 4.7.1 refused")
	})
}

func two(w *world) { w.domains[0].Backend = []string{at1, at2} }

func TestSeveralBackends(t *testing.T) {
	for _, tt := range []struct {
		name          string
		first, second said
		want          string
		after         time.Duration
		asked2        int
	}{
		{"first says yes", good, unknown, "continue 250 - valid", 0, 0},
		{"first says no", unknown, good, "reject 550 5.1.1 unknown-user", 0, 0},
		{"first says full at the moment", full, good, "continue 250 - valid", 0, 1},
		{"first says full at the moment, second is down", full, down, "tempfail 452 4.2.2 mailbox-full", 0, 1},
		{"first says full for good", said{code: 552, enhanced: "5.2.2", text: "full"}, good, "tempfail 452 4.2.2 mailbox-full", 0, 0},
		{"first is down", down, good, "continue 250 - valid", 0, 1},
		{"first defers", greylisted, good, "continue 250 - valid", 0, 1},
		{"first defers, second is down", greylisted, down, "tempfail 450 4.2.0 deferred", 0, 1},
		{"both are down", down, banner554, "tempfail 451 4.4.1 unreachable", 0, 1},
		{"first hangs", good.late(time.Hour), unknown, "reject 550 5.1.1 unknown-user", 3 * time.Second, 1},
		{"first is slow", good.late(4 * time.Second), unknown.late(2 * time.Second), "continue 250 - valid", 4 * time.Second, 1},
		{"first is not so slow", unknown.late(2900 * time.Millisecond), good, "reject 550 5.1.1 unknown-user", 2900 * time.Millisecond, 0},
		{"both hang", good.late(time.Hour), good.late(time.Hour), "tempfail 451 4.4.1 unreachable", 8 * time.Second, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, two, func(t *testing.T, w *world) {
				w.backend(at1).rest, w.backend(at2).rest = tt.first, tt.second
				start := time.Now()
				w.expect(w.ask(user), tt.want)
				if d := time.Since(start); d != tt.after {
					t.Errorf("answered after %v, want %v", d, tt.after)
				}
				if n, _ := w.backend(at2).counts(); n != tt.asked2 {
					t.Errorf("second asked %d times", n)
				}
			})
		})
	}
}

// A backend that is passed over is asked to the end, so that its breaker learns.
func TestPassedOverIsNotCutOff(t *testing.T) {
	inBubble(t, two, func(t *testing.T, w *world) {
		w.backend(at1).rest, w.backend(at2).rest = good.late(time.Hour), good
		start := time.Now()
		w.expect(w.ask(user), "continue 250 - valid")
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("answered after %v", d)
		}
		for w.backend(at1).under() > 0 {
			time.Sleep(time.Second)
		}
		if d := time.Since(start); d < 30*time.Second || d > 31*time.Second {
			t.Errorf("the first backend was left after %v, want the probe's own time-out", d)
		}
	})
}

func TestAcceptAllOfTheSecondBackend(t *testing.T) {
	inBubble(t, two, func(t *testing.T, w *world) {
		w.backend(at1).rest = down
		w.backend(at2).rest, w.backend(at2).madeUp = good, good
		w.ask(user)
		settle()
		w.expect(w.ask("any@example.com"), "continue 250 - accept-all probe")
		if asked, tests := w.backend(at2).counts(); asked != 1 || tests != 1 {
			t.Errorf("%d probes, %d tests", asked, tests)
		}
	})
}

func TestDueIsAShareOfTheDeadline(t *testing.T) {
	inBubble(t, func(w *world) { w.domains[0].Backend = []string{at1, at2, at3} }, func(t *testing.T, w *world) {
		w.backend(at1).rest, w.backend(at2).rest, w.backend(at3).rest = down, down, down
		start := time.Now()
		w.ask(user)
		for at, want := range map[string]time.Duration{at1: 4 * time.Second, at2: 4 * time.Second, at3: 8 * time.Second} {
			if got := w.backend(at).probes()[0].Due.Sub(start); got != want {
				t.Errorf("%s is due after %v, want %v", at, got, want)
			}
		}
	})
}

func TestAcceptAll(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.rest, b.madeUp = good, good
		w.expect(w.ask("one@example.com"), "continue 250 - valid probe")
		settle()
		for range 3 {
			w.expect(w.ask("one@example.com"), "continue 250 - accept-all ram")
			w.expect(w.ask("two@example.com"), "continue 250 - accept-all ram")
		}
		if asked, tests := b.counts(); asked != 1 || tests != 1 {
			t.Errorf("%d probes, %d tests", asked, tests)
		}
		if rec := w.memory.record("one@example.com"); !rec.IsZero() {
			t.Errorf("kept as valid: %+v", rec)
		}
		if !strings.Contains(w.log.String(), "accepts every recipient") {
			t.Errorf("the postmaster was not told: %s", w.log)
		}
		// It expires, and is tested again: recipient checks were switched on meanwhile.
		time.Sleep(61 * time.Minute)
		b.all(unknown)
		b.say("one@example.com", good)
		b.takesMadeUp(unknown)
		w.expect(w.ask("one@example.com"), "continue 250 - valid probe")
		settle()
		w.expect(w.ask("two@example.com"), "reject 550 5.1.1 unknown-user probe")
		w.expect(w.ask("one@example.com"), "continue 250 - valid ram")
		if _, tests := b.counts(); tests != 2 {
			t.Errorf("%d tests", tests)
		}
	})
}

func TestAcceptAllTakesBackWhatCameMeanwhile(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.rest, b.madeUp = good, good.late(5*time.Second)
		for i := range 20 {
			w.ask(fmt.Sprintf("u%d@example.com", i))
			w.expect(w.ask(fmt.Sprintf("u%d@example.com", i)), "continue 250 - valid ram")
		}
		time.Sleep(6 * time.Second)
		for key, rec := range w.memory.all() {
			if rec.Standing.Class == store.Valid {
				t.Errorf("%s is kept as valid", key)
			}
		}
		if _, tests := b.counts(); tests != 1 {
			t.Errorf("%d tests", tests)
		}
	})
}

// TestAcceptAllFoundWhileAnAnswerIsKept has the test end between an answer and the moment when
// it is remembered.
func TestAcceptAllFoundWhileAnAnswerIsKept(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.rest, b.madeUp = good, good.late(5*time.Second)
		const late = "late@example.com"
		w.memory.learns = func(key string) {
			if key == late {
				time.Sleep(6 * time.Second)
			}
		}
		w.ask("first@example.com")
		w.ask(late)
		time.Sleep(10 * time.Second)
		if got := w.memory.record(late).Standing; got.Class == store.Valid {
			t.Errorf("record %+v", got)
		}
		w.expect(w.ask(late), "continue 250 - accept-all ram")
	})
}

func TestAcceptAllKeepsWhatWasKnownBefore(t *testing.T) {
	inBubble(t, func(w *world) { w.opt.Lives.AcceptAll.Expire = duration(time.Hour) }, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.all(good)
		w.ask(user)
		settle()
		learnt := w.memory.record(user).Standing.Learnt
		time.Sleep(day + time.Hour)
		b.takesMadeUp(good)
		w.ask(user) // refreshes, and tests
		settle()
		if got := w.memory.record(user).Standing; got.Class != store.Valid || !got.Learnt.Equal(learnt) {
			t.Errorf("record %+v", got)
		}
	})
}

func TestAcceptAllProvesNothing(t *testing.T) {
	for name, s := range map[string]said{"4xx": greylisted, "drop": down, "full": full} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, w *world) {
				b := w.backend(at1)
				b.rest, b.madeUp = good, s
				w.ask("one@example.com")
				settle()
				for i := range 20 {
					w.expect(w.ask(fmt.Sprintf("u%d@example.com", i)), "continue 250 - valid probe")
					settle()
				}
				if _, tests := b.counts(); tests != 1 {
					t.Errorf("%d tests at once", tests)
				}
				w.expect(w.ask("one@example.com"), "continue 250 - valid ram")
				time.Sleep(6 * time.Minute)
				w.ask("again@example.com")
				settle()
				if _, tests := b.counts(); tests != 2 {
					t.Errorf("%d tests, want another after a while", tests)
				}
			})
		})
	}
}

func TestAcceptAllIsPerDomainAndBackend(t *testing.T) {
	inBubble(t, func(w *world) {
		w.domains = append(w.domains, w.domains[0])
		w.domains[1].Name = "other.example"
	}, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.rest, b.madeUp = good, good
		w.ask(user)
		settle()
		b.takesMadeUp(unknown)
		w.expect(w.ask("u@other.example"), "continue 250 - valid probe")
		settle()
		w.expect(w.ask("u@other.example"), "continue 250 - valid ram")
		w.expect(w.ask(user), "continue 250 - accept-all ram")
	})
}

func TestAcceptAllTestOff(t *testing.T) {
	inBubble(t, func(w *world) { w.opt.Domains = []DomainConfig{{AcceptAllTest: ptr(false)}} }, func(t *testing.T, w *world) {
		w.backend(at1).rest, w.backend(at1).madeUp = good, good
		w.ask(user)
		settle()
		w.expect(w.ask(user), "continue 250 - valid ram")
		if _, tests := w.backend(at1).counts(); tests != 0 {
			t.Errorf("%d tests", tests)
		}
	})
}

func TestMadeUp(t *testing.T) {
	a, b := madeUp(), madeUp()
	if a == b || len(a) < 30 || len(a) > 64 || strings.ContainsAny(a, "+-._=") || strings.ToLower(a) != a {
		t.Errorf("made up %q and %q", a, b)
	}
}

func TestLoop(t *testing.T) {
	ours := func(sender, helo, client string) func(w *world) string {
		return func(w *world) string {
			q := query(user)
			q.Sender, q.Helo, q.Client = sender, helo, netip.Addr{}
			if client != "" {
				q.Client = netip.MustParseAddr(client)
			}
			v := w.put(q)
			return fmt.Sprintf("%v %s %s", v.Action, v.Enhanced, v.Reason)
		}
	}
	const loop, none = "tempfail 4.4.6 loop", "reject 5.1.1 unknown-user"
	for _, tt := range []struct{ sender, helo, client, want string }{
		{"", "MX1.example.org", "198.51.100.7", loop},
		{"postmaster@mx1.example.org", "mx1.example.org.", "198.51.100.7", loop},
		{"someone@example.net", "mx1.example.org", "198.51.100.7", none},
		{"", "mail.example.net", "198.51.100.7", none},
		{"", "", "198.51.100.7", none},
		{"", "mx1.example.org", "127.0.0.1", none}, // our MTA's own bounce
		{"", "mx1.example.org", "", none},
	} {
		inBubble(t, nil, func(t *testing.T, w *world) {
			if got := ours(tt.sender, tt.helo, tt.client)(w); got != tt.want {
				t.Errorf("%+v: %s", tt, got)
			}
		})
	}
	// Our own machine asks about a recipient that we are asking about: the backend is our MTA.
	inBubble(t, nil, func(t *testing.T, w *world) {
		w.backend(at1).all(unknown.late(2 * time.Second))
		var wg sync.WaitGroup
		wg.Go(func() { w.ask(user) })
		time.Sleep(time.Second)
		if got := ours("", "mx1.example.org", "127.0.0.1")(w); got != loop {
			t.Errorf("while asking: %s", got)
		}
		wg.Wait()
		if w.state.Stats().Loops != 1 || !strings.Contains(w.log.String(), "call-ahead loop") {
			t.Errorf("the postmaster was not told: %s", w.log)
		}
	})
}

func TestBackendIsOurselves(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		w.backend(at1).all(looping)
		w.expect(w.ask(user), "tempfail 451 4.4.1 unreachable")
		if !strings.Contains(w.log.String(), "call-ahead loop") {
			t.Errorf("the postmaster was not told: %s", w.log)
		}
	})
}

func TestUnwritableRecipient(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		w.backend(at1).all(said{fail: &backend.Failure{Stage: backend.StageAddress, Kind: backend.KindBadAddress}})
		w.expect(w.ask("a b@example.com"), "reject 501 5.1.3 bad-address")
	})
}

func TestPanicIsAFailure(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		w.backend(at1).bySender = func(string) *said { panic("boom") }
		defer func() { w.backend(at1).bySender = nil }()
		v := w.ask(user)
		w.expect(v, "tempfail 451 4.4.1 unreachable")
	})
}
