// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"rcptgate"
	"rcptgate/kit/testkit"
	"rcptgate/test/lab"
)

// TestMailOfOwnUsers has a real Postfix show the gate what the machine's own users submit
// (pickup(8), non_smtpd_milters). A refusal of a recipient there would leave the mail in the
// queue for ever; on a socket of milter_local the whole message comes back to its sender.
func TestMailOfOwnUsers(t *testing.T) {
	lab.Need(t, lab.PostfixKit)
	var lifted atomic.Bool
	s := &stages{wants: rcptgate.EditRecipients | rcptgate.WantHeader}
	s.steps[rcptgate.StageRcpt] = func(_ context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
		if !q.Session.Local {
			t.Error("the session is not a local one")
		}
		switch {
		case strings.HasPrefix(q.Recipient.Local, "no"):
			return rcptgate.Verdict{Action: rcptgate.Reject, Code: 550, Enhanced: "5.1.1", Text: "no such mailbox", Reason: "test"}, nil
		case strings.HasPrefix(q.Recipient.Local, "later") && !lifted.Load():
			return rcptgate.Verdict{Action: rcptgate.Tempfail, Code: 451, Enhanced: "4.3.0", Text: "later", Reason: "test"}, nil
		case strings.HasPrefix(q.Recipient.Local, "drop"):
			return rcptgate.Verdict{Action: rcptgate.DiscardRecipient, Reason: "test"}, nil
		}
		return rcptgate.Verdict{}, nil
	}
	s.steps[rcptgate.StageMessage] = func(_ context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
		if f := q.Message.Header("Subject"); f != nil && strings.Contains(f.Value, "infected") {
			return rcptgate.Verdict{Action: rcptgate.Reject, Code: 550, Enhanced: "5.7.1", Text: "a virus", Reason: "test"}, nil
		}
		return rcptgate.Verdict{}, nil
	}
	sink := lab.StartSink(t)
	port := lab.FreePort(t)
	s.start(t, fmt.Sprintf("milter_local = [\"inet:%d@127.0.0.1\"]", port))
	p := lab.StartPostfix(t, lab.PostfixOptions{
		Relay: map[string]string{"in.test": "smtp:" + sink.Hop()}, Main: map[string]string{"non_smtpd_milters": fmt.Sprintf("inet:127.0.0.1:%d", port)},
	})
	for _, tc := range []struct{ subject, rcpt, delivered, bounce string }{
		{"plain", "a@in.test b@in.test", "a@in.test b@in.test", ""},
		{"refused", "a@in.test no@in.test", "", "no such mailbox"},
		{"dropped", "a@in.test drop@in.test", "a@in.test", ""},
		{"infected", "a@in.test", "", "a virus"},
	} {
		subject := "Subject: local-" + tc.subject
		p.Submit("sender@in.test", subject+"\n\nx\n", split(tc.rcpt)...)
		if tc.bounce != "" {
			to, found := sink.Find(t, subject, 1)
			if len(found) != 1 || fmt.Sprint(to) != "[sender@in.test]" || found[0].Sender != "" || !strings.Contains(found[0].Data, tc.bounce) {
				t.Errorf("%s: %v, %+v\n%s", tc.subject, to, found, tail(p.Log()))
			}
			continue
		}
		if to, _ := sink.Find(t, subject+"\r\n", len(split(tc.delivered))); strings.Join(to, " ") != tc.delivered {
			t.Errorf("%s: delivered to %v\n%s", tc.subject, to, tail(p.Log()))
		}
	}
	p.Submit("sender@in.test", "Subject: local-later\n\nx\n", "a@in.test", "later@in.test")
	if !p.WaitLog(`END-OF-MESSAGE.*later`) {
		t.Errorf("not put off\n%s", tail(p.Log()))
	}
	lifted.Store(true)
	p.Submit("sender@in.test", "Subject: local-wakes\n\nx\n", "a@in.test") // and pickup looks at its queue
	if to, _ := sink.Find(t, "Subject: local-later\r\n", 2); strings.Join(to, " ") != "a@in.test later@in.test" {
		t.Errorf("what was put off was delivered to %v\n%s", to, tail(p.Log()))
	}
	testkit.Eventually(t, "nothing stays in the queues", func() bool {
		return p.Queued("maildrop")+p.Queued("incoming")+p.Queued("active")+p.Queued("deferred") == 0
	})
}
