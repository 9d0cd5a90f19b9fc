// SPDX-License-Identifier: BSD-2-Clause

package milter_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"rcptgate"
	"rcptgate/front/milter"
	"rcptgate/front/milter/mta"
)

// dropsGate discards recipients whose name begins with "drop", and "first" if it is the first
// recipient, holds for "hold" and refuses
// "no".
type dropsGate struct {
	asker
	wants rcptgate.Wants
	last  rcptgate.Session
}

func (g *dropsGate) Wants() rcptgate.Wants { return g.wants }

func (g *dropsGate) Ask(_ context.Context, q *rcptgate.Query) rcptgate.Verdict {
	g.last = *q.Session
	g.last.Mail.Recipients, g.last.Mail.Dropped = slices.Clone(q.Session.Mail.Recipients), slices.Clone(q.Session.Mail.Dropped)
	name := strings.ToLower(q.Recipient.Local)
	switch {
	case strings.HasPrefix(name, "drop"), name == "first" && q.Accepted == 0:
		return rcptgate.Verdict{Action: rcptgate.DiscardRecipient, Reason: "rule:x"}
	case strings.HasPrefix(name, "hold"):
		return rcptgate.Verdict{Action: rcptgate.Hold, Text: "look at\nit", Reason: "rule:y"}
	case strings.HasPrefix(name, "no"):
		return rcptgate.Verdict{Action: rcptgate.Reject, Code: 550, Text: "no"}
	case strings.HasPrefix(name, "later"):
		return rcptgate.Verdict{Action: rcptgate.Tempfail, Code: 451, Text: "later"}
	}
	return rcptgate.Verdict{}
}

const wantsDrops = rcptgate.EditRecipients | rcptgate.Quarantine

// TestDiscards plays transactions whose recipients are discarded or held. Of an
// answer to a recipient "+" is taken, and what was done to the message stands at the end.
func TestDiscards(t *testing.T) {
	for _, tc := range []struct {
		name      string
		wants     rcptgate.Wants
		rcpt, say string
	}{
		{"one of three", wantsDrops, "ann drop bob", "+ + + -<drop@in.test> continue"},
		{"two of three", wantsDrops, "drop1 ann drop2", "+ + + -<drop1@in.test> -<drop2@in.test> continue"},
		{"all", wantsDrops, "drop1 drop2", "+ + discard_message"},
		{"all, and one is refused", wantsDrops, "drop1 no1", "+ 550 discard_message"},
		{"as the client wrote it", wantsDrops, "ann Drop.X DROP", "+ + + -<Drop.X@in.test> -<DROP@in.test> continue"},
		{"a source route stays", wantsDrops, "ann @relay.test:drop", "+ + -<@relay.test:drop@in.test> continue"},
		{"twice, once", wantsDrops, "ann drop drop", "+ + + -<drop@in.test> continue"},
		{"none", wantsDrops, "ann", "+ continue"},
		{"held", wantsDrops, "ann hold drop", "+ + + -<drop@in.test> qlook at it continue"},
		{"held for a recipient, and all discarded", wantsDrops, "drop", "+ discard_message"},
		{"not agreed on", 0, "ann drop hold", "+ 451 451 continue"},
		{"one that is also taken stays", wantsDrops, "first first", "+ + continue"},
		{"one that is also taken in another spelling stays", wantsDrops, `first "First"`, "+ + continue"},
		{"one that is discarded in two spellings", wantsDrops, `ann drop "drop"`, "+ + + -<drop@in.test> -<\"drop\"@in.test> continue"},
		{"one that is taken as well stays", wantsDrops, "ann dropping dropping ann", "+ + + + -<dropping@in.test> continue"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			gate := &dropsGate{wants: tc.wants}
			c := start(t, gate, milter.Config{}, "unix").dial(t, mta.Options{})
			for range 2 { // nothing is left for the next transaction
				if got := transaction(t, c, strings.Fields(tc.rcpt)); got != tc.say {
					t.Errorf("heard %q, want %q", got, tc.say)
				}
			}
		})
	}
}

func transaction(t *testing.T, c *mta.Client, names []string) string {
	t.Helper()
	say := say(t)
	say(c.Connect("client.example", client))
	say(c.Mail("s@example.org", nil))
	var heard []string
	for _, name := range names {
		r := say(c.Rcpt(name + "@in.test"))
		heard = append(heard, map[bool]string{true: "+", false: word(r)}[word(r) == "continue"]) // a discard would end the message
	}
	return strings.Join(append(heard, ends(say(c.EndOfMessage()))), " ")
}

// ends writes the answer to the end of a message: the changes, then the action.
func ends(r mta.Response) string {
	var list []string
	for _, change := range r.Changes {
		list = append(list, string(change.Kind)+change.Name)
	}
	return strings.Join(append(list, word(r)), " ")
}

// Whatever ends a transaction ends its discards and holds: none reaches the next message.
func TestDiscardsEndWithTheTransaction(t *testing.T) {
	for name, end := range map[string]func(*mta.Client) error{
		"abort":      (*mta.Client).Abort,
		"two aborts": func(c *mta.Client) error { _ = c.Abort(); return c.Abort() },
		"mail":       func(*mta.Client) error { return nil },
		"helo":       func(c *mta.Client) error { _, err := c.Helo("again.example"); return err },
		"new client": (*mta.Client).QuitNewConn,
		"message":    func(c *mta.Client) error { _, err := c.EndOfMessage(); return err },
	} {
		t.Run(name, func(t *testing.T) {
			say, gate := say(t), &dropsGate{wants: wantsDrops}
			c := start(t, gate, milter.Config{}, "unix").dial(t, mta.Options{})
			say(c.Connect("client.example", client))
			say(c.Mail("s@example.org", nil))
			say(c.Rcpt("drop@in.test"))
			say(c.Rcpt("hold@in.test"))
			if err := end(c); err != nil {
				t.Fatal(err)
			}
			say(c.Mail("s2@example.org", nil))
			if r := say(c.Rcpt("ann@in.test")); r.Action.Refuses() {
				t.Errorf("the next message's recipient: %+v", r)
			}
			if s := gate.last; len(s.Mail.Dropped)+len(s.Mail.Recipients) > 0 || s.Mail.Hold != "" {
				t.Errorf("the next transaction began with %+v", s.Mail)
			}
			if got := ends(say(c.EndOfMessage())); got != "continue" {
				t.Errorf("the next message: %s", got)
			}
		})
	}
}

// TestSession holds what steps see of the connection and the transaction.
func TestSession(t *testing.T) {
	say, gate := say(t), &dropsGate{wants: wantsDrops | rcptgate.WantSession | rcptgate.WantMail}
	srv := start(t, gate, milter.Config{}, "unix")
	c := srv.dial(t, mta.Options{})
	say(c.Connect("client.example", client, macros("v", "Postfix 3.7.11")...))
	say(c.Mail("s@example.org", nil, macros("{tls_version}", "TLSv1.3", "{cipher}", "TLS_AES_256_GCM_SHA384")...))
	for _, name := range []string{"ann", "no1", "drop", "bob"} {
		say(c.Rcpt(name + "@in.test"))
	}
	q, s := gate.last, gate.last.Mail
	if q.MTA != rcptgate.Postfix || q.Port != 40000 || q.Connected.IsZero() || !strings.HasSuffix(q.Listener, srv.socket.Address) {
		t.Errorf("connection: %+v", q)
	}
	if q.TLSVersion != "TLSv1.3" || q.TLSCipher != "TLS_AES_256_GCM_SHA384" {
		t.Errorf("TLS: %q %q", q.TLSVersion, q.TLSCipher)
	}
	if len(s.Recipients) != 2 || s.Recipients[0].Local != "ann" || s.Recipients[1].Local != "drop" || !slices.Equal(s.Dropped, []int{1}) {
		t.Errorf("transaction: %+v", s)
	}
	say(c.EndOfMessage())
	say(c.Mail("s@example.org", nil))
	if gate.last.TLSVersion != "TLSv1.3" && gate.last.TLSVersion != "" { // MAIL came without macros
		t.Errorf("TLS: %q", gate.last.TLSVersion)
	}
	if len(gate.last.Mail.Recipients) > 0 {
		t.Errorf("recipients of the message before: %v", gate.last.Mail.Recipients)
	}
}

// TestLocalMail holds that no recipient of local mail is refused: the message is, at its end.
func TestLocalMail(t *testing.T) {
	for _, tc := range []struct{ rcpt, say string }{
		{"ann bob", "+ + continue"},
		{"ann no bob", "+ + + 550 <no@in.test>: no"},
		{"later no no2", "+ + + 550 <no@in.test>: no"},
		{"ann later", "+ + 451 <later@in.test>: later"},
		{"ann drop", "+ + -<drop@in.test> continue"},
	} {
		srv := startLocal(t, &dropsGate{wants: wantsDrops})
		c := srv.dial(t, mta.Options{})
		for range 2 {
			say := say(t)
			say(c.Connect("localhost", netip.AddrPort{}))
			say(c.Mail("s@example.org", nil))
			var heard []string
			for _, name := range strings.Fields(tc.rcpt) {
				heard = append(heard, map[bool]string{true: "refused", false: "+"}[say(c.Rcpt(name+"@in.test")).Action.Refuses()])
			}
			end := say(c.EndOfMessage())
			if got := strings.TrimSpace(strings.Join(append(heard, ends(end)), " ") + " " + end.Text); got != tc.say {
				t.Errorf("%s: %q, want %q", tc.rcpt, got, tc.say)
			}
		}
	}
}
