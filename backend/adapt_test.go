// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate/address"
	"rcptgate/backend/sim"
	"rcptgate/kit/testkit"
)

// No peculiarity costs an answer. Each is noticed, and costs little from then on.
func TestAdaptations(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*sim.Behaviour)
		word   string
		spared func(before, after sim.Stats, probes int) string // what is wrong once it was noticed
	}{
		{"no EHLO", func(b *sim.Behaviour) { b.NoEHLO = true }, "", oneConnection},
		{"drops on EHLO", func(b *sim.Behaviour) { b.DropOnEHLO = true }, "helo", oneConnection},
		{"does not know RSET", func(b *sim.Behaviour) { b.NoRset = true }, "probes-per-connection=1", noReset},
		{"drops after RSET", func(b *sim.Behaviour) { b.DropAfterRset = true }, "probes-per-connection=1", noReset},
		{"drops after one recipient", func(b *sim.Behaviour) { b.DropAfterProbes = 1 }, "probes-per-connection=1", noReset},
		{"drops after four recipients", func(b *sim.Behaviour) { b.DropAfterProbes = 4 }, "probes-per-connection=4", nothingCutShort(4)},
		{"452 4.5.3 after three", func(b *sim.Behaviour) { b.RecipientsPerConnection = 3 }, "probes-per-connection=3", nothingCutShort(3)},
		{"drops after two refusals", func(b *sim.Behaviour) { b.DropAfterRefusals = 2 }, "refusals-per-connection=2", nil},
		{"discards pipelined commands", func(b *sim.Behaviour) { b.Pipelining = sim.PipelineDiscard }, "no-pipelining", oneConnection},
		{"drops on pipelined commands", func(b *sim.Behaviour) { b.Pipelining = sim.PipelineDrop }, "no-pipelining", oneConnection},
		{"refuses pipelined commands", func(b *sim.Behaviour) { b.Pipelining = sim.PipelineRefuse }, "no-pipelining", oneConnection},
		{"drops on STARTTLS", func(b *sim.Behaviour) { b.STARTTLS = sim.TLSDrop }, "no-tls", oneConnection},
	} {
		t.Run(tc.name, inBubble(func(t *testing.T) {
			server := startSim(t, func(c *sim.Config) { oneInThree(c); tc.change(&c.Behaviour) })
			b := newTestBackend(t, server, Config{})
			askThirds(t, b, 40)
			if words := b.Health().Adaptations; tc.word != "" && !slices.Contains(words, tc.word) {
				t.Errorf("adaptations %q, want %q", words, tc.word)
			}
			before := server.Stats()
			askThirds(t, b, 12)
			if tc.spared != nil {
				if wrong := tc.spared(before, server.Stats(), 12); wrong != "" {
					t.Error(wrong)
				}
			}
			server.SetBehaviour(goodThirds())
			expire(b)
			before = server.Stats()
			askThirds(t, b, 20)
			if n := server.Stats().Connections - before.Connections; n > 4 {
				t.Errorf("a repaired backend gets %d connections for 20 probes", n)
			}
			if words := b.Health().Adaptations; len(words) != 0 {
				t.Errorf("a repaired backend is still adapted to: %q", words)
			}
		}))
	}
}

func oneConnection(before, after sim.Stats, _ int) string {
	if n := after.Connections - before.Connections; n > 3 { // nine refusals each
		return fmt.Sprintf("%d connections more", n)
	}
	return ""
}

func noReset(before, after sim.Stats, probes int) string {
	if n := after.Connections - before.Connections; n > probes+1 {
		return fmt.Sprintf("%d connections for %d probes", n, probes)
	}
	if after.Resets != before.Resets {
		return "RSET was sent"
	}
	return ""
}

func nothingCutShort(each int) func(before, after sim.Stats, probes int) string {
	return func(before, after sim.Stats, probes int) string {
		if n := after.Probes - before.Probes; n != probes {
			return fmt.Sprintf("%d recipients named for %d probes", n, probes)
		}
		if n := after.Connections - before.Connections; n > probes/each+1 {
			return fmt.Sprintf("%d connections for %d probes", n, probes)
		}
		return ""
	}
}

// oneInThree refuses u3, u6, ...
func oneInThree(c *sim.Config) { c.Behaviour = goodThirds() }

func goodThirds() sim.Behaviour {
	return sim.Behaviour{Decide: func(recipient string) string {
		var n int
		if _, err := fmt.Sscanf(recipient, "u%d@", &n); err == nil && n%3 != 0 {
			return "250 2.1.5 Ok"
		}
		return ""
	}}
}

func askThirds(t *testing.T, b *Backend, probes int) {
	t.Helper()
	for n := range probes {
		want := 250
		if n%3 == 0 {
			want = 550
		}
		if rep, err := askFor(b, numbered(n).Path, time.Minute, 30*time.Second); err != nil || rep.Code != want {
			t.Fatalf("u%d: %+v, %v; want %d", n, rep, err, want)
		}
	}
}

// expire makes everything known about b an hour older.
func expire(b *Backend) {
	var k knowledge
	if known := b.habits.knowledge.Load(); known != nil {
		k = *known
	}
	for _, until := range []*time.Time{&k.noPipelining, &k.noEHLO, &k.noTLS, &k.provenPipelining, &k.maxUntil} {
		*until = until.Add(-adaptFor)
	}
	b.habits.knowledge.Store(&k)
	b.pool.mu.Lock()
	defer b.pool.mu.Unlock()
	for _, c := range b.pool.idle {
		b.pool.retire(c)
	}
	b.pool.idle = nil
}

// A backend that is slow without pipelining too does not lie about it.
func TestSlownessIsNoLie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := startSim(t, func(c *sim.Config) { c.FlushEach = true; c.RefusalDelay = 600 * time.Millisecond })
		b := newTestBackend(t, server, Config{}, func(s *Set) { s.tune.stall = 200 * time.Millisecond })
		mustSay(t, b, "nobody@example.com", 550)
		if k := b.habits.known(); k.noPipelining || !k.proven {
			t.Errorf("known: %+v", k)
		}
	})
}

// Postfix sleeps for a second before it refuses a client that has erred, and for
// another when mail comes in too fast. Neither is a reason to ask again.
func TestSleepsOfPostfixAreNoLie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := startSim(t, func(c *sim.Config) { c.FlushEach = true; c.RefusalDelay = 2 * time.Second })
		b := newTestBackend(t, server, Config{}, func(s *Set) { s.tune.stall = pipelineStall })
		mustSay(t, b, "nobody@example.com", 550)
		if s := server.Stats(); s.Probes != 1 || s.Connections != 1 {
			t.Errorf("%d probes over %d connections for one question", s.Probes, s.Connections)
		}
	})
}

// 421 and 452 4.5.3 at RCPT concern the connection: a fresh one is asked.
func TestRepliesThatConcernTheConnectionAreAskedAgain(t *testing.T) {
	for _, reply := range []string{"421 4.7.0 too many", "452 4.5.3 too many recipients"} {
		server := startSim(t, func(c *sim.Config) {
			c.Faults = map[sim.Stage]sim.Fault{sim.Rcpt: {Kind: sim.Say, Reply: reply, After: 2}}
		})
		b := newTestBackend(t, server, Config{})
		for range 8 {
			mustSay(t, b, "user@example.com", 250)
		}
		if h := b.Health(); len(h.Failures) != 0 {
			t.Errorf("%s: %v", reply, h.Failures)
		}
	}
}

// 454 at RCPT is an answer, such as Postfix's "Relay access denied" for odd addresses.
// Nothing is learnt from it: a stranger chooses the address.
func TestATemporaryRefusalIsNoHabitOfTheServer(t *testing.T) {
	server := startSim(t, func(c *sim.Config) {
		c.Decide = func(recipient string) string {
			if strings.Contains(recipient, "%") {
				return "454 4.7.1 <" + recipient + ">: Relay access denied"
			}
			return ""
		}
	})
	b := newTestBackend(t, server, Config{})
	for range 6 {
		mustSay(t, b, "x%y@example.com", 454)
		mustSay(t, b, "user@example.com", 250)
	}
	if h := b.Health(); len(h.Adaptations) != 0 || h.Connections != 1 {
		t.Errorf("%d connections, adaptations %q", h.Connections, h.Adaptations)
	}
}

// postscreen(8) defers every recipient of a client's first session, and lets the next
// one through once the first has ended.
func TestTheFirstSessionBehindPostscreen(t *testing.T) {
	server := startSim(t, func(c *sim.Config) { c.Postscreen = true })
	b := newTestBackend(t, server, Config{})
	for range 6 {
		mustSay(t, b, "user@example.com", 250)
	}
	if st := server.Stats(); st.Connections != 2 || st.Quits != 1 {
		t.Errorf("%d connections, %d of them ended with QUIT", st.Connections, st.Quits)
	}
	if h := b.Health(); len(h.Adaptations) != 0 {
		t.Errorf("adaptations %q", h.Adaptations)
	}
}

// A server that says 450 4.3.2 on a fresh connection too means it: that is the answer,
// and does not cost every question a connection.
func TestAServerThatIsUnavailable(t *testing.T) {
	server := startSim(t, func(c *sim.Config) {
		c.Decide = func(string) string { return "450 4.3.2 Service currently unavailable" }
	})
	b := newTestBackend(t, server, Config{})
	for range 8 {
		mustSay(t, b, "user@example.com", 450)
	}
	if n := server.Stats().Connections; n > 3 {
		t.Errorf("%d connections for 8 questions", n)
	}
}

// One dropped connection, as of a server that is restarted or of one sick server behind
// a balancer, costs nothing but the connection: not TLS, not SMTPUTF8, and nothing is
// learnt from it.
func TestOneDroppedConnectionTeachesNothing(t *testing.T) {
	for _, tc := range []struct {
		stage sim.Stage
		first int
	}{{sim.Hello, 1}, {sim.Hello, 2}, {sim.StartTLS, 1}, {sim.StartTLS, 2}} {
		t.Run(fmt.Sprint(tc.stage, tc.first), func(t *testing.T) {
			server := startSim(t, func(c *sim.Config) {
				c.AcceptAll, c.SMTPUTF8, c.STARTTLS = true, true, sim.TLSGood
				c.Faults = map[sim.Stage]sim.Fault{tc.stage: {Kind: sim.Drop, First: tc.first}}
			})
			b := newTestBackend(t, server, Config{})
			if tc.first > 1 {
				mustSay(t, b, "user@example.com", 250)
			}
			mustSay(t, b, "ü@bücher.example", 250)
			if server.Stats().TLS == 0 {
				t.Error("without TLS")
			}
			if h := b.Health(); len(h.Adaptations) != 0 || h.Open {
				t.Errorf("adaptations %q, breaker open: %v", h.Adaptations, h.Open)
			}
		})
	}
}

// Whether a server that drops EHLO would take an address beyond ASCII is not known.
func TestSMTPUTF8IsUnknownWithoutAReplyToEHLO(t *testing.T) {
	server := startSim(t, func(c *sim.Config) { c.DropOnEHLO = true })
	b := newTestBackend(t, server, Config{})
	for range 2 * cutsNeeded { // also once it is adapted to
		rep, err := ask(b, "ü@bücher.example")
		mustFail(t, rep, err, StageEHLO, KindUncertain)
	}
	if h := b.Health(); h.Open || !slices.Contains(h.Adaptations, "helo") {
		t.Errorf("health: %+v", h)
	}
	server.SetBehaviour(sim.Behaviour{NoEHLO: true})
	expire(b)
	rep, err := ask(b, "ü@bücher.example")
	mustFail(t, rep, err, StageMail, KindUnsupported)
}

// A firewall that swallows STARTTLS costs the first connections some seconds each, and
// none of them its answer.
func TestSilenceAfterSTARTTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := startSim(t, func(c *sim.Config) {
			c.STARTTLS = sim.TLSGood
			c.Faults = map[sim.Stage]sim.Fault{sim.StartTLS: {Kind: sim.Hang}}
		})
		b := newTestBackend(t, server, Config{}, func(s *Set) { s.tune.tlsWait = time.Second; hurried(s) })
		for range cutsNeeded {
			rep, err := askFor(b, "user@example.com", time.Minute, 100*time.Millisecond) // late, and answered
			if err != nil || rep.Code != 250 {
				t.Fatalf("%+v, %v", rep, err)
			}
		}
		before := server.Stats().Connections
		askFresh(t, b, "user@example.com")
		if h := b.Health(); h.Open || len(h.Failures) != 0 || !slices.Contains(h.Adaptations, "no-tls") {
			t.Errorf("health: %+v", h)
		}
		if n := server.Stats().Connections - before; n != 1 {
			t.Errorf("%d connections once it was noticed", n)
		}
	})
}

// What is wrong with our own sender says nothing about the recipient.
func TestTroubleWithTheSender(t *testing.T) {
	server := startSim(t, func(c *sim.Config) {
		c.AcceptAll = true
		c.Senders = map[string]string{"postmaster@bücher.example": "553 5.1.7 not ASCII", `"a b"@x.example`: "250 2.1.0 Ok"}
	})
	b := newTestBackend(t, server, Config{})
	for _, tc := range []struct {
		sender string
		stage  Stage // "": answered
	}{
		{"postmaster@bücher.example", ""}, // as A-labels
		{`"a b"@x.example`, ""},
		{`a"b@x.example`, StageAddress},
		{"a\r\nb@x.example", StageAddress},
		{"ü@x.example", StageMail}, // the server lacks SMTPUTF8
	} {
		rep, err := b.Ask(t.Context(), Probe{Sender: tc.sender, Recipient: address.Parse("user@example.com")})
		switch {
		case tc.stage != "":
			mustFail(t, rep, err, tc.stage, KindBadSender)
			if err := CheckSender(tc.sender); (err == nil) != (tc.stage == StageMail) {
				t.Errorf("CheckSender(%q) = %v", tc.sender, err)
			}
		case err != nil || rep.Code != 250 || CheckSender(tc.sender) != nil:
			t.Errorf("%q: %+v, %v", tc.sender, rep, err)
		}
	}
	if h := b.Health(); h.Open {
		t.Error("the breaker is open")
	}
}

func TestBrokenTLS(t *testing.T) {
	for _, mode := range []sim.TLSMode{sim.TLSNone, sim.TLSRefuse, sim.TLSDrop, sim.TLSGarbage, sim.TLSInject, sim.TLSHang} {
		t.Run("mode "+string(mode), inBubble(func(t *testing.T) {
			server := startSim(t, func(c *sim.Config) { c.STARTTLS = mode })
			impatient := func(s *Set) { s.tune.tlsWait = 200 * time.Millisecond }
			b := newTestBackend(t, server, Config{TLS: TLSOpportunistic}, impatient)
			mustSay(t, b, "user@example.com", 250) // without
			mustSay(t, b, "nobody@example.com", 550)
			required := newTestBackend(t, server, Config{TLS: TLSRequired}, impatient)
			rep, err := ask(required, "user@example.com")
			if f := (&Failure{}); err == nil {
				t.Fatalf("answered without TLS: %+v", rep)
			} else if f = mustBe(t, err); f.Stage != StageTLS {
				t.Errorf("failed at %s: %v", f.Stage, f)
			}
			off := newTestBackend(t, server, Config{TLS: TLSOff})
			mustSay(t, off, "user@example.com", 250)
			if n := server.Stats().TLS; n != 0 { // the reply to EHLO would be the injected one
				t.Errorf("%d handshakes", n)
			}
		}))
	}
}

func TestVerifiedTLS(t *testing.T) {
	server := startSim(t, func(c *sim.Config) { c.STARTTLS = sim.TLSGood; c.NeedTLS = true })
	ca := t.TempDir() + "/ca.pem"
	if err := os.WriteFile(ca, server.CertificatePEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		cfg  Config
		good bool
	}{
		{"opportunistic", Config{}, true},
		{"trusted by address", Config{TLS: TLSRequired, CAFile: ca}, true},
		{"trusted by name", Config{TLS: TLSRequired, CAFile: ca, TLSName: "sim.example"}, true},
		{"another name", Config{TLS: TLSRequired, CAFile: ca, TLSName: "other.example"}, false},
		{"not trusted", Config{TLS: TLSRequired}, false},
		{"no such ca_file", Config{TLS: TLSRequired, CAFile: ca + "x"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newTestBackend(t, server, tc.cfg)
			if tc.good {
				for range 3 {
					mustSay(t, b, "user@example.com", 250)
					mustSay(t, b, "nobody@example.com", 550)
				}
				if n := b.Health().Connections; n != 1 {
					t.Errorf("%d connections: session tickets must not end them", n)
				}
				return
			}
			rep, err := ask(b, "user@example.com")
			mustFail(t, rep, err, StageTLS, KindTLS)
		})
	}
}

func TestOurNameInTheBannerIsALoop(t *testing.T) {
	suspicious := func(s *Set) { s.tune.mayLoop = func(net.IP) bool { return false } }
	server := startSim(t, func(c *sim.Config) { c.Name = "Gate.Example.org" })
	rep, err := ask(newTestBackend(t, server, Config{}, suspicious), "user@example.com")
	mustFail(t, rep, err, StageBanner, KindLoop)
	mustSay(t, newTestBackend(t, server, Config{}), "user@example.com", 250) // loopback is exempt
	lmtp := startSim(t, func(c *sim.Config) { c.Name, c.LMTP = "gate.example.org", true })
	mustSay(t, newTestBackend(t, lmtp, Config{}, suspicious), "user@example.com", 250)
	unix := startSim(t, func(c *sim.Config) {
		c.Name, c.Network, c.Address = "gate.example.org", "unix", testkit.Dir(t)+"/smtp"
	})
	mustSay(t, newTestBackend(t, unix, Config{}, suspicious), "user@example.com", 250)
	ehlo := startSim(t, func(c *sim.Config) {
		c.Faults = map[sim.Stage]sim.Fault{sim.Hello: {Kind: sim.Say, Reply: "250 gate.example.org\nPIPELINING"}}
	})
	rep, err = ask(newTestBackend(t, ehlo, Config{}, suspicious), "user@example.com")
	mustFail(t, rep, err, StageEHLO, KindLoop)
}

func TestAddressesOutsideASCII(t *testing.T) {
	server := startSim(t, func(c *sim.Config) { c.AcceptAll = true })
	able := startSim(t, func(c *sim.Config) { c.AcceptAll = true; c.SMTPUTF8 = true })
	plain, utf8 := newTestBackend(t, server, Config{}), newTestBackend(t, able, Config{})
	mustSay(t, plain, "u@bücher.example", 250)
	if server.Asked("u@xn--bcher-kva.example") != 1 {
		t.Errorf("asked %v", server.Stats().PerRecipient)
	}
	rep, err := plain.Ask(t.Context(), Probe{Recipient: address.Parse("ü@bücher.example")})
	mustFail(t, rep, err, StageMail, KindUnsupported)
	mustSay(t, utf8, "ü@bücher.example", 250)
	if able.Asked("ü@bücher.example") != 1 {
		t.Errorf("asked %v", able.Stats().PerRecipient)
	}
	if h := plain.Health(); h.Open || h.Idle != 1 {
		t.Errorf("health: %+v", h)
	}
}
