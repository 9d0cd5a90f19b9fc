// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/route"
)

func TestAnswersAreAskedOnceAndRemembered(t *testing.T) {
	for _, tt := range []struct {
		name        string
		say         said
		first, then string
		lives       time.Duration
	}{
		{"valid", good, "continue 250 - valid probe", "continue 250 - valid ram", 23 * time.Hour},
		{"unknown", unknown, "reject 550 5.1.1 unknown-user probe", "reject 550 5.1.1 unknown-user ram", 14 * time.Minute},
		{"bare 550", said{code: 550, text: "no such user"}, "reject 550 5.1.1 unknown-user probe", "reject 550 5.1.1 unknown-user ram", 50 * time.Second},
		{"full", full, "tempfail 452 4.2.2 mailbox-full probe", "tempfail 452 4.2.2 mailbox-full ram", 24 * time.Second},
		{"full for good", said{code: 552, enhanced: "5.2.2", text: "over quota"}, "tempfail 452 4.2.2 mailbox-full probe", "tempfail 452 4.2.2 mailbox-full ram", 24 * time.Second},
		{"greylisted", greylisted, "tempfail 450 4.2.0 deferred probe", "tempfail 450 4.2.0 deferred ram", 25 * time.Second},
		{"exchange throttling", said{code: 451, enhanced: "4.7.500", text: "Server busy"}, "tempfail 451 4.7.500 deferred probe", "tempfail 451 4.7.500 deferred ram", 25 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, w *world) {
				w.backend(at1).say("u@example.com", tt.say)
				v := w.ask("u@example.com")
				w.expect(v, tt.first)
				if v.Action.Refuses() && v.Text != tt.say.text {
					t.Errorf("text %q is not the backend's", v.Text)
				}
				time.Sleep(tt.lives)
				w.expect(w.ask("U@Example.COM"), tt.then)
				both := 0
				if tt.name == "bare 550" {
					both = 1 // with the other sender too, the first time
				}
				if n, _ := w.backend(at1).counts(); n != 1+both {
					t.Errorf("asked %d times", n)
				}
				if tt.say.code == 250 {
					return
				}
				time.Sleep(tt.lives / 4) // now it has ended
				w.expect(w.ask("u@example.com"), tt.first)
				if n, _ := w.backend(at1).counts(); n != 2+both {
					t.Errorf("after its end asked %d times in all", n)
				}
			})
		})
	}
}

func TestNothingBeforeRcptIsRemembered(t *testing.T) {
	for name, s := range map[string]said{
		"down": down, "banner 554": banner554, "mail 553": mail553,
		"421 at rcpt":   {fail: down.fail},
		"back pressure": {code: 452, enhanced: "4.3.1", text: "Insufficient system resources"},
		"message size":  {code: 552, enhanced: "5.3.4", text: "too big"},
		"454":           {code: 454, enhanced: "4.7.0", text: "TLS required"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, w *world) {
				w.backend(at1).all(s)
				v := w.ask("u@example.com")
				w.expect(v, "tempfail 451 4.4.1 unreachable probe")
				if strings.Contains(v.Text, "192.0.2.1") {
					t.Errorf("text names the backend: %q", v.Text)
				}
				if len(w.memory.all()) != 0 {
					t.Errorf("remembered: %v", w.memory.all())
				}
				w.backend(at1).all(good)
				w.expect(w.ask("u@example.com"), "continue 250 - valid probe")
			})
		})
	}
}

func TestUnreachableAccept(t *testing.T) {
	accept := "accept"
	inBubble(t, func(w *world) { w.opt.Domains = []DomainConfig{{Unreachable: &accept}} }, func(t *testing.T, w *world) {
		w.backend(at1).all(down)
		w.expect(w.ask("u@example.com"), "continue 0 - unreachable")
	})
}

func TestMailboxFullReject(t *testing.T) {
	inBubble(t, func(w *world) { w.opt.Domains, w.opt.RejectFull = []DomainConfig{{}}, []bool{true} }, func(t *testing.T, w *world) {
		w.backend(at1).all(full)
		w.expect(w.ask("u@example.com"), "reject 552 5.2.2 mailbox-full probe")
		w.expect(w.ask("postmaster@example.com"), "tempfail 452 4.2.2 mailbox-full probe")
	})
}

func TestDeadlinePassesProbeGoesOn(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		w.backend(at1).rest = unknown.late(12 * time.Second) // Exchange tarpits
		start := time.Now()
		w.expect(w.ask("u@example.com"), "tempfail 451 4.4.1 unreachable")
		if waited := time.Since(start); waited != 8*time.Second {
			t.Errorf("waited %v", waited)
		}
		time.Sleep(5 * time.Second)
		w.expect(w.ask("u@example.com"), "reject 550 5.1.1 unknown-user ram")
		if n, _ := w.backend(at1).counts(); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestStaleWhileDown(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.rest = good
		w.ask("u@example.com")
		b.all(down)
		for day := range 30 {
			time.Sleep(24 * time.Hour)
			w.expect(w.ask("u@example.com"), "continue 250 - valid ram")
			settle()
			if n, _ := b.counts(); n != day+2 {
				t.Fatalf("day %d: asked %d times", day+1, n)
			}
		}
		time.Sleep(25 * time.Hour) // day 31 is over: use has not prolonged it
		w.expect(w.ask("u@example.com"), "tempfail 451 4.4.1 unreachable")
	})
}

func TestReplyIsPassedOn(t *testing.T) {
	for _, tt := range []struct {
		say  said
		want string
	}{
		{said{code: 553, enhanced: "5.1.1", text: "one\ntwo"}, "reject 553 5.1.1 unknown-user"},
		{said{code: 556, enhanced: "5.1.10", text: "null MX"}, "reject 550 5.1.10 unknown-user"},
		{said{code: 521, enhanced: "5.1.2", text: "takes no mail"}, "reject 550 5.1.2 unknown-user"},
		{said{code: 550, text: "4.1.1 who?"}, "reject 550 5.1.1 unknown-user"},
		{said{code: 550, enhanced: "5.4.1", text: "Access denied"}, "reject 550 5.4.1 unknown-user"},
		{said{code: 450, enhanced: "5.1.1", text: "unknown for ever"}, "tempfail 450 4.1.1 deferred"},
	} {
		inBubble(t, nil, func(t *testing.T, w *world) {
			w.backend(at1).rest = tt.say
			for range 2 { // from the probe, and from memory
				v := w.ask("u@example.com")
				w.expect(v, tt.want)
				if v.Text != tt.say.text {
					t.Errorf("text %q, want %q", v.Text, tt.say.text)
				}
			}
		})
	}
}

func TestPostmasterIsNeverRefused(t *testing.T) {
	for _, name := range []string{"postmaster", "Postmaster", "abuse", "ABUSE"} {
		inBubble(t, nil, func(t *testing.T, w *world) {
			to := name + "@example.com"
			w.expect(w.ask(to), "continue - - exempt probe")
			w.expect(w.ask(to), "continue - - exempt ram")
			w.backend(at1).all(down)
			time.Sleep(time.Hour)
			w.expect(w.ask(to), "tempfail 451 4.4.1 unreachable")
			w.expect(w.ask(name+"s@example.com"), "tempfail")
		})
	}
}

func TestWhoIsNotAsked(t *testing.T) {
	no := false
	inBubble(t, func(w *world) {
		w.domains = append(w.domains, route.DomainConfig{Name: "left.example", Check: &no, Backend: []string{at2}})
		w.opt.Domains = make([]DomainConfig, 2)
	}, func(t *testing.T, w *world) {
		w.expect(w.ask("u@elsewhere.example"), "continue 0 - not-routed")
		w.expect(w.ask("postmaster"), "continue 0 - not-routed")
		w.expect(w.ask("u@left.example"), "continue 0 - unchecked")
		q := query("u@example.com")
		q.Client = netip.MustParseAddr("::ffff:192.0.2.1")
		w.expect(w.put(q), "continue 0 - backend-client")
		w.expect(w.ask(strings.Repeat("x", 501)+"@example.com"), "reject 501 5.1.3 bad-address")
		w.expect(w.ask(strings.Repeat("x", 501)+"@elsewhere.example"), "continue 0 - not-routed")
		w.expect(w.ask("u\r\nRSET@example.com"), "reject 501 5.1.3 bad-address")
		if n, _ := w.backend(at1).counts(); n != 0 {
			t.Errorf("asked %d times", n)
		}
		w.expect(w.ask(strings.Repeat("x", 500)+"@example.com"), "reject 550 5.1.1 unknown-user")
	})
}

func TestProbeIsVerbatim(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		w.ask("John.Doe+Detail@Example.COM")
		if p := w.backend(at1).probes()[0]; p.Recipient.Path != "John.Doe+Detail@Example.COM" || p.Sender != "" {
			t.Errorf("asked for %q from %q", p.Recipient.Path, p.Sender)
		}
	})
}

func TestLocalCaseKept(t *testing.T) {
	keep := "keep"
	inBubble(t, func(w *world) { w.opt.Domains = []DomainConfig{{LocalCase: &keep}} }, func(t *testing.T, w *world) {
		w.ask("u@example.com")
		w.ask("U@example.com")
		w.ask("U@EXAMPLE.com")
		if n, _ := w.backend(at1).counts(); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestPositiveOnly(t *testing.T) {
	inBubble(t, func(w *world) { w.opt.Lives.PositiveOnly = true }, func(t *testing.T, w *world) {
		b := w.backend(at1)
		for i, s := range []said{unknown, full, greylisted, unknown} {
			b.all(s)
			if v := w.ask("u@example.com"); !v.Action.Refuses() || v.Source != rcptgate.SourceProbe {
				t.Errorf("%d: %+v", i, v)
			}
			if kept := w.memory.all(); len(kept) != 0 {
				t.Errorf("%d: kept %v", i, kept)
			}
		}
		b.all(good)
		w.expect(w.ask("u@example.com"), "continue 250 - valid probe")
		w.expect(w.ask("u@example.com"), "continue 250 - valid ram")
	})
}

func TestExplain(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		w.backend(at1).all(good)
		chain := &rcptgate.Chain{Steps: []rcptgate.Step{{Name: "existence", Check: w.check}}}
		notes := func() string {
			q := query("u@example.com")
			q.Trace.Explain = true
			_, _ = chain.Check(t.Context(), q)
			return strings.Join(q.Trace.Steps[0].Notes, "\n")
		}
		first := notes()
		time.Sleep(3 * time.Hour)
		second := notes()
		for _, want := range []string{"route: " + at1, "memory: nothing", "probe: " + at1 + " said 250 2.1.5 Ok"} {
			if !strings.Contains(first, want) {
				t.Errorf("no %q in\n%s", want, first)
			}
		}
		if want := "memory: valid, learnt 3h ago from " + at1 + ", known by ram, refresh due in 21h"; !strings.Contains(second, want) {
			t.Errorf("no %q in\n%s", want, second)
		}
	})
}
