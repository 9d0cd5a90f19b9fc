// SPDX-License-Identifier: BSD-2-Clause

package lab

import "testing"

// A real Sendmail in front, without a filter: it relays what mailertable names and refuses to relay the rest.
func TestSendmailRelays(t *testing.T) {
	backend := StartPostfix(t, PostfixOptions{Name: "backend", Hostname: "mail.behind.test", Mailboxes: []string{"good@pf.test"}})
	s := StartSendmail(t, SendmailOptions{
		Relay:        map[string]string{"pf.test": "esmtp:[" + NewTap(t, "tcp", backend.Addr()).Host + "]"},
		VirtualUsers: map[string]string{"info@virt.test": "good@pf.test"},
	})
	d := MustDial(t, s.Addr())
	d.Must(t, 250, d.Mail(t, "sender@client.test"))
	d.Must(t, 250, d.Rcpt(t, "good@pf.test"))
	d.Must(t, 250, d.Rcpt(t, "info@virt.test"))
	if r := d.Rcpt(t, "x@elsewhere.test"); r.Code != 550 || r.Enhanced != "5.7.1" {
		t.Errorf("relaying elsewhere: %q", r)
	}
	d.Must(t, 250, d.Data(t, "hello"))
	if !backend.WaitLog(`to=<good@pf.test>.*status=sent`) {
		t.Errorf("the message did not reach the server behind; Sendmail's log:\n%s", s.Log())
	}
}
