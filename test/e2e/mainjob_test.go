// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"strings"
	"testing"

	"rcptgate/kit/testkit"
	"rcptgate/test/lab"
)

// gateway is a real MTA in front of a gate.
type gateway struct {
	name  string
	start func(t *testing.T, g *lab.Gate, backend *lab.Tap) (addr string, log func() string)
}

// gateways use the sockets the cases do not: Postfix the inet one, Sendmail the unix one.
var gateways = []gateway{
	{"postfix", func(t *testing.T, g *lab.Gate, backend *lab.Tap) (string, func() string) {
		p := lab.StartPostfix(t, lab.PostfixOptions{
			Name: "front-postfix", Milters: []string{g.PostfixMilter()}, Relay: map[string]string{"pf.test": "smtp:" + backend.Hop()},
		})
		return p.Addr(), p.Log
	}},
	{"sendmail", func(t *testing.T, g *lab.Gate, backend *lab.Tap) (string, func() string) {
		s := lab.StartSendmail(t, lab.SendmailOptions{
			Name: "front-sendmail", Milter: "unix:" + g.Unix, Relay: map[string]string{"pf.test": "esmtp:[" + backend.Host + "]"},
		})
		return s.Addr(), s.Log
	}},
}

// behind starts a real Postfix with default limits as the server behind, and a tap before it.
func behind(t *testing.T) (*lab.Postfix, *lab.Tap) {
	t.Helper()
	p := lab.StartPostfix(t, lab.PostfixOptions{
		Name: "behind", Hostname: "mail.behind.test",
		Mailboxes: []string{"good@pf.test", "other@pf.test", "full@pf.test"},
		Refuse:    map[string]string{"full@pf.test": "452 4.2.2 Mailbox full"},
	})
	return p, lab.NewTap(t, "tcp", p.Addr())
}

// The main job with nothing but real servers: through each MTA a message to good, unknown and full recipients reaches
// the good ones alone and makes no bounce; the server behind is really stopped, the gate restarted, an answer forgotten.
func TestMainJob(t *testing.T) {
	lab.Need(t, lab.PostfixKit, lab.SendmailKit)
	for _, gw := range gateways {
		t.Run(gw.name, func(t *testing.T) {
			backend, tap := behind(t)
			g := lab.StartGate(t, section("pf.test", "smtp:"+tap.Hop()))
			addr, log := gw.start(t, g, tap)

			d := transaction(t, addr)
			put(t, d, "good@pf.test", "250 2.1.5", "")
			put(t, d, "nobody@pf.test", "550 5.1.1", "User unknown in virtual mailbox table")
			put(t, d, "full@pf.test", "452 4.2.2", "Mailbox full")
			d.Must(t, 250, d.Data(t, "hello"))
			if !backend.WaitLog(`to=<good@pf.test>.*status=sent`) {
				t.Error("the message did not arrive")
			}
			if n := backend.Count(`: to=<.*status=`); n != 1 {
				t.Errorf("%d deliveries behind, want the good recipient's alone:\n%s", n, backend.Log())
			}
			if strings.Contains(log(), "to=<sender@client.test>") {
				t.Error("a refused recipient led to a bounce")
			}

			backend.Stop()
			d = transaction(t, addr)
			put(t, d, "good@pf.test", "250 2.1.5", "")
			put(t, d, "nobody@pf.test", "550 5.1.1", "User unknown")
			put(t, d, "other@pf.test", "451 4.4.1", "")

			g.Restart()
			// What the disk does not give within a quarter of a second on a busy machine is asked for again, as clients do.
			testkit.Eventually(t, "the gate knows the recipient from its disk", func() bool {
				return transaction(t, addr).Rcpt(t, "good@pf.test").Code == 250
			})
			testkit.Eventually(t, "the gate knows who is unknown from its disk", func() bool {
				r := transaction(t, addr).Rcpt(t, "nobody@pf.test")
				return r.Code == 550 && strings.Contains(r.Text(), "User unknown in virtual mailbox table")
			})

			backend.Restart()
			testkit.Eventually(t, "the server behind is asked again", func() bool {
				return transaction(t, addr).Rcpt(t, "other@pf.test").Code == 250
			})
			asked := tap.Asked("nobody@pf.test")
			g.MustCommand(0, "cache", "forget", "nobody@pf.test")
			put(t, transaction(t, addr), "nobody@pf.test", "550 5.1.1", "User unknown")
			if got := tap.Asked("nobody@pf.test") - asked; got != 1 {
				t.Errorf("after forget the server behind was asked %d times, want 1", got)
			}
		})
	}
}

// transaction begins a session with an MTA and a transaction in it.
func transaction(t *testing.T, addr string) *lab.Dialogue {
	t.Helper()
	d := lab.MustDial(t, addr)
	d.Must(t, 250, d.Mail(t, "sender@client.test"))
	return d
}

// put asks for a recipient; the reply begins with want and holds the text.
func put(t *testing.T, d *lab.Dialogue, recipient, want, text string) {
	t.Helper()
	if r := d.Rcpt(t, recipient); !strings.HasPrefix(r.String(), want+" ") || !strings.Contains(r.Text(), text) {
		t.Errorf("RCPT %s: %q, want %s %s", recipient, r, want, text)
	}
}

// A gate that is not there: both MTAs put the recipient off, so no mail passes unasked, and nothing is lost.
func TestGateAbsent(t *testing.T) {
	lab.Need(t, lab.PostfixKit, lab.SendmailKit)
	for _, gw := range gateways {
		t.Run(gw.name, func(t *testing.T) {
			_, tap := behind(t)
			g := lab.StartGate(t, section("pf.test", "smtp:"+tap.Hop()))
			addr, _ := gw.start(t, g, tap)
			put(t, transaction(t, addr), "good@pf.test", "250 2.1.5", "")
			g.Kill()
			d, err := lab.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			code := d.Banner.Code
			for _, line := range []string{"EHLO client.test", "MAIL FROM:<sender@client.test>", "RCPT TO:<good@pf.test>"} {
				if code/100 == 4 {
					break
				}
				code = d.Do(t, line).Code
			}
			if code/100 != 4 {
				t.Errorf("without its filter the MTA answered %d, want a temporary failure", code)
			}
			g.Run()
			put(t, transaction(t, addr), "good@pf.test", "250 2.1.5", "")
		})
	}
}
