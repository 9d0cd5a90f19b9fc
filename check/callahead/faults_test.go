// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"rcptgate/address"
	"rcptgate/backend"
	"rcptgate/store"
)

// Another spelling of a mailbox teaches nothing about it, whatever the server says.
func TestOtherSpellings(t *testing.T) {
	for _, spelling := range []string{`"victim"@example.com`, `"vic\tim"@example.com`, "victim@example.com.."} {
		t.Run(spelling, func(t *testing.T) {
			for name, say := range map[string]said{"refused": {code: 501, enhanced: "5.1.3", text: "bad syntax"}, "unknown": unknown, "full": full, "taken": good} {
				inBubble(t, nil, func(t *testing.T, w *world) {
					b := w.backend(at1)
					b.say("known@example.com", good)
					w.ask("known@example.com")
					settle()
					b.decide = func(p backend.Probe) *said {
						if p.Recipient.Path == spelling {
							return ptr(say.late(2 * time.Second))
						}
						return nil
					}
					b.say("victim@example.com", good)
					before := w.memory.all()
					var wg sync.WaitGroup
					wg.Go(func() { w.ask(spelling) })
					time.Sleep(time.Second)
					if name != "taken" { // nor does it join
						w.expect(w.ask("victim@example.com"), "continue 250 - valid probe")
					}
					wg.Wait()
					settle()
					for key, rec := range w.memory.all() {
						if _, was := before[key]; !was && (key != "victim@example.com" || rec.Standing.Class != store.Valid || name == "taken") {
							t.Errorf("%s: remembered %q: %+v", name, key, rec)
						}
					}
				})
			}
		})
	}
}

// A known-good recipient that is asked for in another spelling is refreshed with its own.
func TestOtherSpellingsRefreshTheUsualOne(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := known(w)
		w.expect(w.ask(`"u"@example.com`), "continue 250 - valid ram")
		settle()
		p := b.probes()
		if last := p[len(p)-1]; last.Recipient.Path != user {
			t.Errorf("refreshed with %q", last.Recipient.Path)
		}
		if rec := w.memory.record(user); rec.Standing.Due(time.Now()) {
			t.Error("not refreshed")
		}
	})
}

// What an address stands for, and what a server says about us, stays here.
func TestWordsThatStayHere(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.say("known@example.com", good)
		b.rest = said{code: 550, enhanced: "5.1.1", text: "%s: no such user"}
		b.madeUp = b.rest
		w.ask("known@example.com")
		settle()
		q := query("public@example.com")
		q.Target = address.Parse("secret@example.com")
		for range 2 {
			if v := w.put(q); v.Code != 550 || strings.Contains(v.Text, "secret") {
				t.Errorf("the sender is told %d %q", v.Code, v.Text)
			}
		}
		b.all(said{code: 554, enhanced: "5.7.1", text: "<gw7.corp.internal[10.77.0.3]>: Client host rejected by mailstore3.corp.internal"})
		if v := w.ask("other@example.com"); v.Code != 451 || strings.Contains(v.Text, "internal") {
			t.Errorf("the sender is told %d %q", v.Code, v.Text)
		}
		if !strings.Contains(w.log.String(), "mailstore3.corp.internal") {
			t.Errorf("the log does not have the server's words: %s", w.log)
		}
	})
}

// A reply that may have belonged to another question is forgotten, with what it taught.
func TestDoubtedAnswers(t *testing.T) {
	for name, say := range map[string]said{"valid": good, "unknown": unknown, "full": full} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, w *world) {
				b := w.backend(at1)
				b.all(say)
				v := w.ask(user)
				settle()
				if rec := w.memory.record(user); rec.IsZero() {
					t.Fatal("not remembered")
				}
				b.probes()[0].Doubted()
				settle()
				if rec := w.memory.record(user); !rec.IsZero() {
					t.Errorf("%v: still remembered: %+v", v.Reason, rec)
				}
				if got := w.state.goods(pair{at1, "example.com"}, ""); len(got) != 0 {
					t.Errorf("control questions may be about %+v", got)
				}
			})
			inBubble(t, nil, func(t *testing.T, w *world) { // next to what was known
				b := known(w)
				before := w.memory.record(user)
				b.all(say)
				w.ask(user)
				settle()
				p := b.probes()
				p[len(p)-1].Doubted()
				settle()
				if rec := w.memory.record(user); rec.Standing != before.Standing || rec.Transient.Class != store.None || rec.Doubt.Count != 0 {
					t.Errorf("remembered %+v", rec)
				}
			})
		})
	}
	inBubble(t, nil, func(t *testing.T, w *world) { // before the answer is remembered
		b := w.backend(at1)
		b.conn = func(p backend.Probe, _ *backend.Reply) { p.Doubted() }
		w.expect(w.ask(user), "tempfail 451 4.4.1 unreachable")
		if rec := w.memory.record(user); !rec.IsZero() {
			t.Errorf("remembered %+v", rec)
		}
	})
	inBubble(t, nil, func(t *testing.T, w *world) { // something newer is known
		b := w.backend(at1)
		b.all(unknown)
		w.ask(user)
		doubted := b.probes()[0].Doubted
		time.Sleep(time.Hour)
		b.all(good)
		w.ask(user)
		doubted()
		settle()
		w.expect(w.ask(user), "continue 250 - valid ram")
	})
}

// A finding that rests on a doubted reply is forgotten as well.
func TestDoubtedFinding(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := w.backend(at1)
		var doubted func()
		b.rest, b.madeUp = good, good
		b.conn = func(p backend.Probe, _ *backend.Reply) {
			if strings.HasPrefix(p.Recipient.Local, "rcptgate") {
				doubted = p.Doubted
			}
		}
		w.ask(user)
		settle()
		w.expect(w.ask("any@example.com"), "continue 250 - accept-all ram")
		doubted()
		settle()
		b.all(unknown)
		w.expect(w.ask("any@example.com"), "reject 550 5.1.1 unknown-user probe")
	})
}

// The panic of a test with a made-up recipient is reported, once.
func TestPanicOfTheTestIsReported(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.all(good)
		b.conn = func(p backend.Probe, _ *backend.Reply) {
			if strings.HasPrefix(p.Recipient.Local, "rcptgate") {
				panic("boom")
			}
		}
		w.expect(w.ask(user), "continue 250 - valid probe")
		settle()
		if log := w.log.String(); strings.Count(log, "boom") != 1 || !strings.Contains(log, "acceptall.go") {
			t.Errorf("log: %s", log)
		}
		w.expect(w.ask("second@example.com"), "continue 250 - valid probe")
	})
}

// Nothing is asked once the time for it has passed.
func TestNoProbeAfterTheEnd(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		out := w.check.put(ctx, w.backend(at1), backend.Probe{Recipient: address.Parse(user)})
		if n, _ := w.backend(at1).counts(); n != 0 || out.err == nil {
			t.Errorf("asked %d times: %v", n, out.err)
		}
	})
}

// An address beyond ASCII before a server without SMTPUTF8, over the MTA's own route.
func TestAddressBeyondASCIIOverTheMTAsRoute(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		w.backend(at3).all(said{fail: &backend.Failure{Stage: backend.StageMail, Kind: backend.KindUnsupported}})
		w.expect(w.put(viaMTA("gööd@far.example", "[192.0.2.3]")), "reject 553 5.6.7 bad-address probe")
	})
}
