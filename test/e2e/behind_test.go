// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"strings"
	"testing"

	"rcptgate/test/cases"
	"rcptgate/test/lab"
)

// An Exim behind: it sends no enhanced status codes, and "not ours" and "unknown" both as 550.
func TestEximBehind(t *testing.T) {
	lab.Need(t, lab.EximKit)
	exim := lab.StartExim(t, "good@exim.test", "other@exim.test")
	tap := lab.NewTap(t, "tcp", exim.Addr())
	g := lab.StartGate(t, section("exim.test", "smtp:"+tap.Hop())+section("elsewhere.test", "smtp:"+tap.Hop()))
	s := open(t, cases.Bare(g, nil))
	defer s.Close()
	expect(t, s, "good@exim.test", 250, "")
	expect(t, s, "nobody@exim.test", 550, "5.1.1")
	expect(t, s, "other@exim.test", 250, "")
	expect(t, s, "ann@elsewhere.test", 451, "4.7.1") // relay not permitted: about the gateway, not about ann
}

// A Sendmail behind that refuses unknown users in each of the ways that its tables have. Whatever code and words it has for
// them: with somebody to compare with they are refused in its words, others are taken, and "relaying denied" stays another
// matter.
func TestSendmailBehind(t *testing.T) {
	lab.Need(t, lab.SendmailKit)
	users := map[string]string{}
	for domain, refusal := range map[string]string{
		"plain.test": "", "words.test": "error:5.3.0:553 No such user here", "code.test": "error:5.0.0:550 User unknown", "policy.test": "error:5.7.1:550 No such user!",
	} {
		if refusal != "" {
			users["@"+domain] = refusal
		}
		users["good@"+domain], users["fine@"+domain] = "root", "root"
	}
	behind := lab.StartSendmail(t, lab.SendmailOptions{
		Name: "behind-sendmail", Hostname: "mail.behind.test", LocalDomains: []string{"plain.test"}, VirtualUsers: users,
	})
	tap := lab.NewTap(t, "tcp", behind.Addr())
	var config string
	for _, domain := range []string{"plain.test", "words.test", "code.test", "policy.test", "elsewhere.test"} {
		config += section(domain, "smtp:"+tap.Hop())
	}
	g := lab.StartGate(t, config)
	s := open(t, cases.Bare(g, nil))
	defer s.Close()
	for _, c := range []struct {
		domain         string
		alone          int // before a recipient was taken there
		code           int
		enhanced, text string
	}{
		{"plain.test", 550, 550, "5.1.1", "User unknown"},
		{"words.test", 451, 553, "5.3.0", "No such user here"},
		{"code.test", 451, 550, "5.0.0", "User unknown"},
		{"policy.test", 451, 550, "5.7.1", "No such user!"},
	} {
		expect(t, s, "absent@"+c.domain, c.alone, "")
		expect(t, s, "good@"+c.domain, 250, "")
		expect(t, s, "absent@"+c.domain, c.code, c.enhanced)
		if r := expect(t, s, "gone@"+c.domain, c.code, c.enhanced); !strings.Contains(r.Text(), c.text) {
			t.Errorf("the sender hears %q, not the server's own words", r.Text())
		}
		expect(t, s, "fine@"+c.domain, 250, "")
		expect(t, s, "ann@elsewhere.test", 451, "4.7.1") // 550 5.7.1 Relaying denied
	}
	if tap.Forget(); s.Rcpt("gone@words.test").Code != 553 || len(tap.Commands()) > 0 {
		t.Errorf("a refusal is not remembered: %s", tap.Transcript())
	}
}

// A Postfix behind whose postscreen puts off every recipient of a client's first session.
func TestPostscreenBehind(t *testing.T) {
	lab.Need(t, lab.PostfixKit)
	behind := lab.StartPostfix(t, lab.PostfixOptions{
		Name: "behind", Hostname: "mail.behind.test", Mailboxes: []string{"one@pf.test", "two@pf.test", "three@pf.test"}, Postscreen: true,
	})
	tap := lab.NewTap(t, "tcp", behind.Addr())
	g := lab.StartGate(t, section("pf.test", "smtp:"+tap.Hop()))
	s := open(t, cases.Bare(g, nil))
	defer s.Close()
	deferred := 0
	for _, name := range []string{"one", "two", "three"} {
		if r := s.Rcpt(name + "@pf.test"); r.Code/100 == 4 {
			deferred++
		} else if r.Code != 250 {
			t.Errorf("RCPT %s: %q", name, r)
		}
	}
	if deferred > 1 {
		t.Errorf("%d recipients that exist were put off", deferred)
	}
	expect(t, s, "absent@pf.test", 550, "5.1.1")
	if behind.Count(`450 4\.3\.2 Service currently unavailable`) == 0 {
		t.Error("postscreen let the first session through")
	}
}

// A Postfix behind with its mailboxes in a hash: table: sessions that are open see the old one. A forgotten answer is asked for
// on another.
func TestMailboxesChangeBehind(t *testing.T) {
	lab.Need(t, lab.PostfixKit)
	behind := lab.StartPostfix(t, lab.PostfixOptions{
		Name: "behind", Hostname: "mail.behind.test", Mailboxes: []string{"stays@pf.test", "leaver@pf.test"}, Hash: true,
	})
	tap := lab.NewTap(t, "tcp", behind.Addr())
	g := lab.StartGate(t, section("pf.test", "smtp:"+tap.Hop()))
	s := open(t, cases.Bare(g, nil))
	defer s.Close()
	expect(t, s, "stays@pf.test", 250, "")
	expect(t, s, "leaver@pf.test", 250, "")
	expect(t, s, "comer@pf.test", 550, "5.1.1")
	d := transaction(t, behind.Addr()) // as the gate's session is, and asked for the same
	put(t, d, "comer@pf.test", "550 5.1.1", "")
	put(t, d, "leaver@pf.test", "250 2.1.5", "")
	behind.Postmap("stays@pf.test", "comer@pf.test")
	put(t, d, "comer@pf.test", "550 5.1.1", "") // or nothing below would show anything
	put(t, d, "leaver@pf.test", "250 2.1.5", "")
	g.MustCommand(0, "cache", "forget", "comer@pf.test", "leaver@pf.test")
	expect(t, s, "comer@pf.test", 250, "")
	expect(t, s, "leaver@pf.test", 550, "5.1.1")
}
