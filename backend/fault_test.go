// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"strings"
	"testing"
	"time"

	"rcptgate/backend/sim"
	"rcptgate/kit/testkit"
)

var stageNames = map[sim.Stage]Stage{
	sim.Banner: StageBanner, sim.Hello: StageEHLO, sim.Mail: StageMail, sim.Rcpt: StageRcpt,
}

// faultKinds are what each fault must look like to the asker.
var faultKinds = map[sim.FaultKind][]Kind{
	sim.Hang:         {KindTimeout},
	sim.Drop:         {KindDropped},
	sim.HalfLine:     {KindDropped},
	sim.Drip:         {KindTimeout},
	sim.EndlessLine:  {KindGarbage},
	sim.EndlessLines: {KindGarbage},
	sim.Garbage:      {KindGarbage},
	sim.MixedCodes:   {KindGarbage},
}

// Every fault at every stage is a failure of that stage, never an answer, and the
// first question after it is answered right.
func TestEveryFaultAtEveryStage(t *testing.T) {
	for _, stage := range sim.Stages {
		for _, kind := range sim.FaultKinds {
			t.Run(string(stage)+"/"+string(kind), inBubble(func(t *testing.T) {
				faulty := sim.Behaviour{Users: []string{"user@example.com"}, Faults: map[sim.Stage]sim.Fault{stage: {Kind: kind, Every: time.Minute}}}
				if stage == sim.Hello {
					faulty.Faults[sim.Helo] = faulty.Faults[stage] // a dropped EHLO is followed by HELO
				}
				server := startSim(t, func(c *sim.Config) { c.Behaviour = faulty })
				b := newTestBackend(t, server, Config{}, WithTrials(50*time.Millisecond, time.Second), hurried)
				rep, err := askFor(b, "user@example.com", 5*time.Second, 3*time.Second)
				if err == nil {
					t.Fatalf("answered %+v", rep)
				}
				mustFail(t, rep, err, stageNames[stage], faultKinds[kind][0])
				server.SetBehaviour(sim.Behaviour{Users: []string{"user@example.com"}})
				testkit.Eventually(t, "right answer after the fault", func() bool {
					rep, err := ask(b, "user@example.com")
					return err == nil && rep.Code == 250
				})
				if rep, err := ask(b, "nobody@example.com"); err != nil || rep.Code != 550 {
					t.Fatalf("after the fault: %+v, %v", rep, err)
				}
			}))
		}
	}
}

// What the backend says before RCPT is about the connection, and so is 421.
func TestRepliesBeforeRcptAreFailures(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		stage sim.Stage
		reply string
	}{
		{sim.Banner, "554 5.7.1 go away"},
		{sim.Banner, "421 4.3.2 too busy"},
		{sim.Banner, "354 what?"},
		{sim.Banner, "250 not a banner"},
		{sim.Hello, "421 4.3.2 too busy"},
		{sim.Hello, "450 4.7.1 later"},
		{sim.Mail, "553 5.1.8 sender refused"},
		{sim.Mail, "421 4.3.2 too busy"},
		{sim.Mail, "452 4.3.1 full disk"},
		{sim.Mail, "354 go on"},
		{sim.Rcpt, "421 4.3.2 too busy"},
		{sim.Rcpt, "452 4.5.3 too many"},
		{sim.Rcpt, "354 go on"},
	} {
		t.Run(string(tc.stage)+" "+tc.reply[:3], func(t *testing.T) {
			t.Parallel()
			server := startSim(t, func(c *sim.Config) {
				c.Faults = map[sim.Stage]sim.Fault{tc.stage: {Kind: sim.Say, Reply: tc.reply}}
			})
			b := newTestBackend(t, server, Config{})
			rep, err := ask(b, "user@example.com")
			kind := KindReply
			if tc.reply[0] < '4' {
				kind = KindGarbage
			}
			f := mustFail(t, rep, err, stageNames[tc.stage], kind)
			if f.Reply == nil || !strings.HasPrefix(tc.reply, f.Error()[strings.Index(f.Error(), "said ")+5:][:3]) {
				t.Errorf("reply not kept: %v", f)
			}
		})
	}
}

// HELO 550 after a refused EHLO is the gateway's trouble, not the recipient's.
func TestHeloRefused(t *testing.T) {
	server := startSim(t, func(c *sim.Config) {
		c.NoEHLO = true
		c.Faults = map[sim.Stage]sim.Fault{sim.Helo: {Kind: sim.Say, Reply: "550 5.7.1 Access denied"}}
	})
	rep, err := ask(newTestBackend(t, server, Config{}), "user@example.com")
	if f := mustFail(t, rep, err, StageEHLO, KindReply); f.Reply.Code != 550 || f.Reply.Enhanced != "5.7.1" {
		t.Errorf("reply: %+v", f.Reply)
	}
}

// An unrequested reply must not become the answer about the next recipient.
func TestStrayRepliesAreNeverAnswers(t *testing.T) {
	for _, stage := range []sim.Stage{sim.Banner, sim.Hello, sim.Rset, sim.Mail, sim.Rcpt} {
		for _, kind := range []sim.FaultKind{sim.Stray, sim.Swap} {
			t.Run(string(stage)+"/"+string(kind), inBubble(func(t *testing.T) {
				server := startSim(t, func(c *sim.Config) {
					c.Faults = map[sim.Stage]sim.Fault{stage: {Kind: kind, After: 1}}
					if stage == sim.Banner || stage == sim.Hello {
						c.Faults = map[sim.Stage]sim.Fault{stage: {Kind: kind}}
					}
				})
				b := newTestBackend(t, server, Config{}, WithTrials(20*time.Millisecond, time.Second))
				for i := range 6 {
					recipient, code := "user@example.com", 250
					if i%2 == 1 {
						recipient, code = "nobody@example.com", 550
					}
					rep, err := askFor(b, recipient, 500*time.Millisecond, 0)
					if err == nil && rep.Code != code {
						t.Fatalf("question %d about %s: %+v", i, recipient, rep)
					}
				}
			}))
		}
	}
}

// A reply that comes when the connection lies idle ends it, without an error for any probe. On a
// machine so loaded that it is read together with the right one, it voids that.
func TestLateStrayRepliesEndTheConnection(t *testing.T) {
	for _, tls := range []sim.TLSMode{sim.TLSNone, sim.TLSGood} {
		t.Run("mode "+string(tls), inBubble(func(t *testing.T) {
			server := startSim(t, func(c *sim.Config) {
				c.STARTTLS = tls
				c.Faults = map[sim.Stage]sim.Fault{sim.Rcpt: {Kind: sim.LateStray, Every: 500 * time.Millisecond}}
			})
			b := newTestBackend(t, server, Config{})
			void := 0
			for n := range 6 {
				recipient, code := "user@example.com", 250
				if n%2 == 1 {
					recipient, code = "nobody@example.com", 550
				}
				switch rep, err := ask(b, recipient); {
				case err != nil && mustBe(t, err).Kind == KindGarbage:
					void++
				case err != nil || rep.Code != code:
					t.Fatalf("%s: %+v, %v", recipient, rep, err)
				}
				testkit.Eventually(t, "the stray reply was sent", func() bool { return server.Stats().Strays >= n+1 })
			}
			if void > 4 {
				t.Errorf("%d of 6 questions have no answer", void)
			}
		}))
	}
}

// A second banner that comes late is not a reply to EHLO: taken for one it would shift
// every reply that follows.
func TestASecondBannerIsNoReplyToEHLO(t *testing.T) {
	t.Parallel()
	server := startSim(t, func(c *sim.Config) {
		c.Faults = map[sim.Stage]sim.Fault{sim.Hello: {Kind: sim.Say, Reply: "220 sim.example ESMTP"}}
	})
	rep, err := ask(newTestBackend(t, server, Config{}), "user@example.com")
	mustFail(t, rep, err, StageEHLO, KindGarbage)
}

func TestAddressesThatCannotBeWrittenAreNotAsked(t *testing.T) {
	server := startSim(t, nil)
	b := newTestBackend(t, server, Config{})
	for _, bad := range []string{
		"a\r\nRCPT TO:<b@example.com", "a\n@example.com", "a\x00@example.com", "a>b@example.com", "a<b@example.com",
		"a b@example.com", `"a@example.com`, "\"a\\\r\n\"@example.com", "\x7f@example.com", strings.Repeat("a", 513), "",
	} {
		p := Probe{}
		p.Recipient.Path = bad
		rep, err := b.Ask(t.Context(), p)
		mustFail(t, rep, err, StageAddress, KindBadAddress)
		if bad == "" {
			continue
		}
		p.Recipient.Path, p.Sender = "user@example.com", bad
		rep, err = b.Ask(t.Context(), p)
		mustFail(t, rep, err, StageAddress, KindBadSender)
	}
	for _, good := range []string{`"a b"@example.com`, `"<>"@example.com`, `"a\"b"@example.com`, "o'hara@example.com", "100%@example.com"} {
		mustSay(t, b, good, 550)
	}
	if n := server.Stats().Connections; n != 1 {
		t.Errorf("%d connections", n)
	}
}
