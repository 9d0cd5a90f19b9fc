// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/backend"
	"rcptgate/store"
)

// wording is what a server says in one language. Texts hold what differs from reply to
// reply: {R} the recipient, {L} its local part, {I} an id, {T} a time, {A} the client.
type wording struct {
	unknown, tooMany, sender, relay, full, disabled string
}

var languages = map[string]wording{
	"English": {
		"<{R}>: no such user ({I})", "Too many invalid recipients from {A}, {T}", "<{R}> missing BATV signature {I}",
		"relaying for {A} denied at {T}", "<{R}> is over quota", "account {L} is disabled (#{I})",
	},
	"Greek": {
		"<{R}>: άγνωστος παραλήπτης ({I})", "Πάρα πολλοί άγνωστοι παραλήπτες από {A}, {T}", "<{R}> λείπει η υπογραφή {I}",
		"Δεν επιτρέπεται η αναμετάδοση για {A} {T}", "το γραμματοκιβώτιο {L} είναι πλήρες", "ο λογαριασμός {L} είναι ανενεργός ({I})",
	},
	"German": {
		"Empfänger {R} unbekannt, Vorgang {I}", "Zu viele ungültige Empfänger von {A} ({T})", "{R}: Signatur fehlt {I}",
		"Weiterleitung für {A} verweigert {T}", "Postfach von {L} ist voll", "Konto {L} ist gesperrt, {I}",
	},
	"Japanese": {
		"宛先「{R}」は存在しません。{I}", "{A}からの不正な宛先が多すぎます {T}", "{R}の署名がありません {I}",
		"{A}からの中継は拒否されました {T}", "{L}のメールボックスの容量が不足しています", "{L}は無効です {I}",
	},
}

// fill puts something new into every place of a text.
func fill(text string, p backend.Probe) string {
	return strings.NewReplacer("{R}", p.Recipient.Path, "{L}", p.Recipient.Local,
		"{I}", fmt.Sprintf("%X", rand.Uint64()), "{A}", fmt.Sprintf("192.0.2.%d", rand.IntN(250)),
		"{T}", time.Now().Add(time.Duration(rand.Int64N(int64(1000*time.Hour)))).Format(time.RFC1123Z)).Replace(text)
}

func (s said) filled(p backend.Probe) *said { s.text = fill(s.text, p); return &s }

// eachLanguage runs f in a world whose backend takes known@example.com.
func eachLanguage(t *testing.T, f func(t *testing.T, w *world, b *fakeBackend, say wording)) {
	for name, say := range languages {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, w *world) { f(t, w, w.backend(at1), say) })
		})
	}
}

func takes(p backend.Probe, local ...string) bool {
	for _, l := range local {
		if p.Recipient.Local == l {
			return true
		}
	}
	return false
}

// A server that counts unknown recipients and then refuses everybody.
func TestLimitOfUnknownRecipients(t *testing.T) {
	for _, code := range []struct {
		code     int
		enhanced string
	}{{550, ""}, {550, "5.1.1"}, {550, "5.7.1"}, {571, ""}, {554, ""}} {
		t.Run(fmt.Sprint(code.code, code.enhanced), func(t *testing.T) {
			eachLanguage(t, func(t *testing.T, w *world, b *fakeBackend, say wording) {
				count := 0
				b.decide = func(p backend.Probe) *said {
					switch {
					case count >= 5:
						return said{code: code.code, enhanced: code.enhanced, text: say.tooMany}.filled(p)
					case takes(p, "known", "boss"):
						return &good
					}
					count++
					return said{code: 550, enhanced: "5.1.1", text: say.unknown}.filled(p)
				}
				w.expect(w.ask("known@example.com"), "continue 250 - valid probe")
				settle()
				for i := range 20 {
					v := w.ask(fmt.Sprintf("attack%d@example.com", i))
					if i < 4 {
						w.expect(v, "reject 550 5.1.1 unknown-user probe")
					} else {
						w.expect(v, "tempfail 451 4.7.1 refused probe")
					}
				}
				w.expect(w.ask("boss@example.com"), "tempfail 451 4.7.1 refused probe")
				w.expect(w.ask("known@example.com"), "continue 250 - valid ram")
				if rec := w.memory.record("boss@example.com"); !rec.IsZero() {
					t.Errorf("remembered %+v", rec)
				}
				if n := w.state.Stats().Controls; n != 1 { // about the new shape alone
					t.Errorf("%d control questions", n)
				}
				if !strings.Contains(w.log.String(), "this is about the gateway") {
					t.Errorf("the postmaster does not hear of it: %s", w.log)
				}
				b.mu.Lock()
				count = 0
				b.mu.Unlock()
				time.Sleep(controlApart)
				w.expect(w.ask("boss@example.com"), "continue 250 - valid probe")
				w.expect(w.ask("absent@example.com"), "reject 550 5.1.1 unknown-user probe")
			})
		})
	}
}

// The same, and the first that the gate ever asks are the names of an attack.
func TestLimitBeforeAnyoneIsKnown(t *testing.T) {
	eachLanguage(t, func(t *testing.T, w *world, b *fakeBackend, say wording) {
		count := 0
		b.decide = func(p backend.Probe) *said {
			if count >= 5 {
				return said{code: 550, text: say.tooMany}.filled(p)
			} else if takes(p, "boss") {
				return &good
			}
			count++
			return said{code: 550, text: say.unknown}.filled(p)
		}
		for i := range 30 {
			w.ask(fmt.Sprintf("attack%d@example.com", i))
		}
		w.expect(w.ask("boss@example.com"), "tempfail 451 4.7.1 refused probe")
	})
}

// A server that refuses the null sender at RCPT.
func TestRefusalOfTheNullSender(t *testing.T) {
	eachLanguage(t, func(t *testing.T, w *world, b *fakeBackend, say wording) {
		b.decide = func(p backend.Probe) *said {
			switch {
			case p.Sender == "":
				return said{code: 550, text: say.sender}.filled(p)
			case takes(p, "boss", "second"):
				return &good
			}
			return said{code: 550, enhanced: "5.1.1", text: say.unknown}.filled(p)
		}
		w.expect(w.ask("boss@example.com"), "continue 250 - valid probe")
		settle()
		w.expect(w.ask("absent@example.com"), "reject 550 5.1.1 unknown-user probe")
		w.expect(w.ask("second@example.com"), "continue 250 - valid probe")
		if p := b.probes(); len(p) != 4 || p[0].Sender != "" || p[3].Sender == "" {
			t.Errorf("probes %+v", p)
		}
	})
	inBubble(t, nil, func(t *testing.T, w *world) { // no recipient is known yet, and the first one is absent
		w.backend(at1).decide = func(p backend.Probe) *said {
			if p.Sender == "" {
				return &said{code: 550, text: "missing BATV signature"}
			}
			return &said{code: 550, enhanced: "5.1.1", text: "no such user"}
		}
		w.expect(w.ask("absent@example.com"), "reject 550 5.1.1 unknown-user probe")
	})
}

// Relaying is denied to us, under whatever code, just after the server accepted a recipient.
func TestRelayingDenied(t *testing.T) {
	for _, code := range []said{{code: 550, enhanced: "5.1.2"}, {code: 550}, {code: 550, enhanced: "5.7.1"}, {code: 550, enhanced: "5.1.1"}, {code: 553, enhanced: "5.3.0"}, {code: 550, enhanced: "5.4.1"}} {
		t.Run(fmt.Sprint(code.code, code.enhanced), func(t *testing.T) {
			eachLanguage(t, func(t *testing.T, w *world, b *fakeBackend, say wording) {
				b.say("known@example.com", good)
				w.ask("known@example.com")
				settle()
				code.text = say.relay
				b.decide = func(p backend.Probe) *said { return code.filled(p) }
				before := w.state.Stats().Controls
				for i := range 5 {
					w.expect(w.ask(fmt.Sprintf("u%d@example.com", i)), "tempfail 451 4.7.1 refused probe")
				}
				if n := w.state.Stats().Controls - before; n != 1 {
					t.Errorf("%d control questions", n)
				}
				w.expect(w.ask("known@example.com"), "continue 250 - valid ram")
				time.Sleep(day + time.Hour)
				w.expect(w.ask("known@example.com"), "continue 250 - valid ram")
				settle()
				if d := w.memory.record("known@example.com").Doubt; d.Count != 0 {
					t.Errorf("doubt %+v", d)
				}
			})
		})
	}
	for _, s := range []said{{code: 550, enhanced: "5.1.2", text: "Relay not allowed."}, {code: 550, text: "not local host example.com, not a gateway"}} {
		inBubble(t, nil, func(t *testing.T, w *world) { // the very first question
			w.backend(at1).all(s)
			w.expect(w.ask(user), "tempfail 451 4.7.1 refused probe")
		})
	}
}

// What is about one mailbox is not how the server says unknown.
func TestAboutOneMailbox(t *testing.T) {
	eachLanguage(t, func(t *testing.T, w *world, b *fakeBackend, say wording) {
		b.decide = func(p backend.Probe) *said {
			switch {
			case takes(p, "known"):
				return &good
			case takes(p, "full552"):
				return said{code: 552, text: say.full}.filled(p)
			case takes(p, "full511"):
				return said{code: 552, enhanced: "5.1.1", text: say.full}.filled(p)
			case takes(p, "full522"):
				return said{code: 554, text: "550 5.2.2 " + say.disabled}.filled(p)
			case takes(p, "off"):
				return said{code: 550, text: say.disabled}.filled(p)
			}
			return said{code: 550, text: say.unknown}.filled(p)
		}
		w.expect(w.ask("known@example.com"), "continue 250 - valid probe")
		settle()
		w.expect(w.ask("absent@example.com"), "reject 550 5.1.1 unknown-user probe")
		for _, full := range []string{"full552", "full511", "full522"} {
			w.expect(w.ask(full+"@example.com"), "tempfail 452 4.2.2 mailbox-full probe")
		}
		w.expect(w.ask("off@example.com"), "reject 550 - refused probe")
		if n := w.state.Stats().Controls; n != 2 {
			t.Errorf("%d control questions", n)
		}
	})
	for _, wrong := range []string{`"RCPT TO" mailbox unavailable`, "Postfach nicht erreichbar", "Αδύνατη η παράδοση", "利用できません"} {
		inBubble(t, nil, func(t *testing.T, w *world) {
			w.backend(at1).all(said{code: 552, text: wrong})
			w.expect(w.ask(user), "tempfail 451 4.7.1 refused probe")
			w.backend(at1).say("known@example.com", good)
			w.ask("known@example.com")
			settle()
			w.expect(w.ask(user), "reject 552 - refused probe")
		})
	}
}

// However a server says unknown, the made-up recipient has shown it.
func TestAnyWayToSayUnknown(t *testing.T) {
	for _, code := range []said{
		{code: 553, enhanced: "5.3.0"}, {code: 550, enhanced: "5.0.0"}, {code: 550, enhanced: "5.7.1"}, {code: 553}, {code: 550, enhanced: "5.1.6"},
		{code: 550}, {code: 554}, {code: 552}, {code: 550, enhanced: "5.2.1"}, {code: 501, enhanced: "5.5.4"}, {code: 550, enhanced: "4.7.1"},
	} {
		t.Run(fmt.Sprint(code.code, code.enhanced), func(t *testing.T) {
			eachLanguage(t, func(t *testing.T, w *world, b *fakeBackend, say wording) {
				code.text = say.unknown
				b.decide = func(p backend.Probe) *said {
					if takes(p, "known", "user") {
						return &good
					}
					return code.filled(p)
				}
				w.ask("known@example.com")
				settle()
				want := fmt.Sprintf("reject %d - unknown-user", code.code)
				w.expect(w.ask("absent@example.com"), want+" probe")
				w.expect(w.ask("user-unknown@example.com"), want+" probe")
				time.Sleep(14 * time.Minute)
				w.expect(w.ask("absent@example.com"), want+" ram")
				time.Sleep(time.Hour) // the finding has ended; it is still known
				w.expect(w.ask("absent@example.com"), want+" probe")
				if st := w.state.Stats(); st.Controls != 1 || st.AcceptAllTests != 1 {
					t.Errorf("%d control questions, %d tests", st.Controls, st.AcceptAllTests)
				}
			})
		})
	}
}

// How the server says unknown survives a restart, and so does a recipient to ask about.
func TestClassesAfterARestart(t *testing.T) {
	eachLanguage(t, func(t *testing.T, w *world, b *fakeBackend, say wording) {
		b.decide = func(p backend.Probe) *said {
			if takes(p, "known") {
				return &good
			}
			return said{code: 553, enhanced: "5.7.1", text: say.unknown}.filled(p)
		}
		w.ask("known@example.com")
		settle()
		if a := w.memory.record(store.FindingKey(at1, "example.com")).Standing; a.Class != store.Selective || !strings.Contains(a.Text, "<>: 553 5.7.1") {
			t.Errorf("the finding is %+v", a)
		}
		w.restart()
		w.expect(w.ask("absent@example.com"), "reject 553 5.7.1 unknown-user probe")
		if n := w.state.Stats().Controls; n != 0 {
			t.Errorf("%d control questions", n)
		}
		w.memory.source = "disk"
		w.expect(w.ask("known@example.com"), "continue 250 - valid disk")
		w.memory.source = ""
		b.decide = func(p backend.Probe) *said { return said{code: 550, enhanced: "5.1.1", text: say.relay}.filled(p) }
		w.expect(w.ask("other@example.com"), "tempfail 451 4.7.1 refused probe")
		if n := w.state.Stats().RefusesUs; n != 1 {
			t.Errorf("%d refusals are known to be about us", n)
		}
	})
}

// A limit that counts on one connection.
func TestLimitOfOneConnection(t *testing.T) {
	for _, code := range []said{{code: 550}, {code: 571}, {code: 554, enhanced: "5.7.1"}} {
		eachLanguage(t, func(t *testing.T, w *world, b *fakeBackend, say wording) {
			code.text = say.tooMany
			asked, refused := 0, 0
			b.decide = func(p backend.Probe) *said {
				if p.Fresh {
					asked, refused = 0, 0
				}
				switch {
				case refused >= 5:
					return code.filled(p)
				case strings.HasPrefix(p.Recipient.Local, "real"):
					return &good
				}
				return said{code: 550, text: say.unknown}.filled(p)
			}
			b.conn = func(p backend.Probe, rep *backend.Reply) {
				rep.ConnAsked, rep.ConnRefused, rep.ConnAge = asked, refused, time.Second
				asked++
				if rep.Code >= 400 {
					refused++
				}
			}
			for i := range 200 {
				if i%4 == 3 {
					if v := w.ask(fmt.Sprintf("real%d@example.com", i)); v.Action.Refuses() {
						t.Fatalf("real%d: %+v", i, v)
					}
					settle()
				} else if v := w.ask(fmt.Sprintf("attack%d@example.com", i)); !v.Action.Refuses() {
					t.Fatalf("attack%d: %+v", i, v)
				}
			}
			if st := w.state.Stats(); st.Controls > 3 {
				t.Errorf("%d control questions", st.Controls)
			}
		})
	}
}

// A connection to Postfix of ten seconds or more may have old tables: an unknown there is asked about once more, on a
// fresh one. The second answer counts; on a younger connection the first does.
func TestUnknownOnAnOldConnection(t *testing.T) {
	for _, c := range []struct {
		age   time.Duration
		fresh said // on a connection of its own
		want  string
		asked int
	}{
		{oldSession, good, "continue 250 - valid probe", 2},
		{time.Minute, unknown, "reject 550 5.1.1 unknown-user probe", 2},
		{oldSession - time.Millisecond, good, "reject 550 5.1.1 unknown-user probe", 1},
	} {
		inBubble(t, nil, func(t *testing.T, w *world) {
			b := w.backend(at1)
			b.decide = func(p backend.Probe) *said {
				switch {
				case takes(p, "known"):
					return &good
				case p.Fresh:
					return &c.fresh
				}
				return &unknown
			}
			b.madeUp = unknown
			w.ask("known@example.com")
			settle()
			before, _ := b.counts()
			b.conn = func(p backend.Probe, rep *backend.Reply) {
				if !p.Fresh {
					rep.ConnAge = c.age
				}
			}
			w.expect(w.ask("new@example.com"), c.want)
			if asked, _ := b.counts(); asked-before != c.asked {
				t.Errorf("on a connection of %v: asked %d times, want %d", c.age, asked-before, c.asked)
			}
		})
	}
}

func TestForgottenIsAskedOnAFreshConnection(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.all(good)
		w.ask("u@example.com")
		settle()
		w.memory.forget()
		w.state.Forget(store.Pattern{Address: "u@example.com"})
		w.ask("u@example.com")
		w.ask("other@example.com")
		settle()
		b.mu.Lock()
		fresh := b.fresh - b.controls
		b.mu.Unlock()
		last := b.probes()
		if fresh != 1 && !(fresh == 0 && b.controls > 0) {
			t.Errorf("%d questions on fresh connections: %+v", fresh, last)
		}
		w.memory.forget()
		w.state.Forget(store.Pattern{Domain: "example.com"})
		w.ask("third@example.com")
		if p := b.probes(); !p[len(p)-1].Fresh {
			t.Errorf("asked %+v", p[len(p)-1])
		}
		settle()
		time.Sleep(forgottenFor + time.Second)
		w.ask("fourth@example.com")
		if p := b.probes(); p[len(p)-1].Fresh {
			t.Errorf("asked %+v", p[len(p)-1])
		}
	})
}

// check says how the class was found.
func TestClassesAreExplained(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.say("known@example.com", good)
		b.say("off@example.com", said{code: 550, text: "off@example.com is disabled"})
		b.rest = said{code: 553, enhanced: "5.7.1", text: "no such user %s"}
		b.madeUp = b.rest
		w.ask("known@example.com")
		settle()
		time.Sleep(3 * time.Hour)
		chain := &rcptgate.Chain{Steps: []rcptgate.Step{{Name: "existence", Check: w.check}}}
		notes := func(recipient string) string {
			q := query(recipient)
			q.Trace.Explain = true
			_, _ = chain.Check(t.Context(), q)
			return strings.Join(q.Trace.Steps[0].Notes, "\n")
		}
		same, other := notes("absent@example.com"), notes("off@example.com")
		const learnt = `classes: this server says unknown as "553 5.7.1 no such user *", learnt 3h ago; `
		if !strings.Contains(same, learnt+"this reply is the same") {
			t.Errorf("%s", same)
		}
		if !strings.Contains(other, learnt+"this reply is another") || !strings.Contains(other, "classes: control question: known@example.com is taken") {
			t.Errorf("%s", other)
		}
	})
}

func TestClassifyByWords(t *testing.T) {
	words := "words"
	inBubble(t, func(w *world) { w.opt.Domains = []DomainConfig{{Classify: &words}} }, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.say("known@example.com", good)
		w.ask("known@example.com")
		settle()
		b.all(said{code: 550, text: "Zu viele"})
		w.expect(w.ask(user), "reject 550 5.1.1 unknown-user probe")
		b.all(said{code: 550, text: "Too many invalid recipients"})
		w.expect(w.ask("second@example.com"), "reject 550 - refused probe") // proven a moment ago
		if n := w.state.Stats().Controls; n > 1 {
			t.Errorf("%d control questions", n)
		}
	})
}

// Configured codes are believed.
func TestConfiguredCodesAreBelieved(t *testing.T) {
	inBubble(t, func(w *world) { w.opt.Config.UnknownCodes = UnknownCodes{{5, 7, 1}} }, func(t *testing.T, w *world) {
		w.backend(at1).all(relaying)
		w.expect(w.ask(user), "reject 554 5.7.1 unknown-user probe")
	})
}

// A text that no mask makes equal is not asked about more than a tenth of the time.
func TestControlsAreBounded(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.decide = func(p backend.Probe) *said {
			if takes(p, "known") {
				return &good
			}
			word := strings.Map(func(r rune) rune { return 'g' + (r-'0')%16 }, fmt.Sprint(rand.Uint64()))
			return &said{code: 554, enhanced: "5.7.1", text: word}
		}
		w.ask("known@example.com")
		settle()
		for i := range 200 {
			v := w.ask(fmt.Sprintf("u%d@example.com", i))
			if v.Action.Refuses() == false {
				t.Fatalf("%+v", v)
			}
		}
		if n := w.state.Stats().Controls; n < 5 || n > creditMost+40 {
			t.Errorf("%d control questions about 200 recipients", n)
		}
	})
}
