// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"rcptgate"
	"rcptgate/check/blocklist"
	"rcptgate/test/lab"
	"rcptgate/unit"
)

// TestSendersOfViruses has an infected message refused at its end through both MTAs, and then
// its client: at RCPT with the text, postmaster and abuse excepted, at MAIL, and when it
// connects. The scanner is the test's own, and it says that the client comes from elsewhere:
// the MTAs' clients here are on this machine, which is never listed.
func TestSendersOfViruses(t *testing.T) {
	lab.Need(t, lab.PostfixKit, lab.SendmailKit)
	const text = "You have sent us mail containing a virus and are blocked for an hour."
	client := netip.MustParseAddr("198.51.100.7")
	for _, m := range stagesMTAs {
		for _, stage := range []string{"rcpt", "mail", "connect"} {
			t.Run(m.name+"/"+stage, func(t *testing.T) {
				s := &stages{wants: rcptgate.WantHeader}
				elsewhere := func(_ context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
					q.Client = client
					return rcptgate.Verdict{}, nil
				}
				for at := range s.steps {
					s.steps[at] = elsewhere
				}
				s.steps[rcptgate.StageMessage] = func(_ context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
					q.Client = client
					if f := q.Message.Header("Subject"); f != nil && f.Text() == "infected" {
						q.Message.Virus, q.Message.Scanned = "Win.Test.EICAR_HDB-1", true
						return rcptgate.Verdict{Action: rcptgate.Reject, Code: 550, Enhanced: "5.7.1", Text: "Infected", Reason: "virus"}, nil
					}
					return rcptgate.Verdict{}, nil
				}
				var list rcptgate.Blocklist
				s.more = []unit.Unit{blocklist.Unit(), {Name: "look", Open: unit.Steps(func(set *unit.Setup) error {
					list = set.Blocklists["virus"]
					return nil
				})}}
				addr, log := m.start(t, s.start(t, "[[blocklist]]\nname = \"virus\"\nstage = \""+stage+"\"\ntext = \""+text+"\"\n"), lab.StartSink(t))

				d := lab.MustDial(t, addr)
				d.Must(t, 250, d.Mail(t, "x@client.test"))
				d.Must(t, 250, d.Rcpt(t, "a@in.test"))
				d.Must(t, 354, d.Do(t, "DATA"))
				if r := d.Do(t, "Subject: infected\r\n\r\nx\r\n."); r.Code != 550 {
					t.Fatalf("an infected message: %s\n%s", r, tail(log()))
				}
				d.Close()
				if l, ok := list.Listed(client); !ok || l.QueueID == "" || l.Evidence != "Win.Test.EICAR_HDB-1" {
					t.Fatalf("listed: %v, %+v", ok, l)
				}

				d, err := lab.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				refusal := d.Banner
				if refusal.Code/100 == 2 {
					refusal = d.Mail(t, "x@client.test")
				}
				if stage == "rcpt" {
					d.Must(t, 250, refusal)
					refusal = d.Rcpt(t, "a@in.test")
					for _, open := range []string{"postmaster@in.test", "abuse@in.test"} {
						d.Must(t, 250, d.Rcpt(t, open))
					}
				}
				d.Close()
				if refusal.Code/100 != 5 || (stage != "connect" || m.name == "postfix") && !strings.Contains(refusal.Text(), text) {
					t.Errorf("a listed client: %s\n%s", refusal, tail(log()))
				}
				list.Remove(client)
				d = lab.MustDial(t, addr)
				d.Must(t, 250, d.Mail(t, "x@client.test"))
				d.Must(t, 250, d.Rcpt(t, "a@in.test"))
				d.Close()
			})
		}
	}
}
