// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"testing"
)

// A real Postfix as the server behind: what it says of good, unknown and full recipients, and what a stop does.
func TestPostfixBackend(t *testing.T) {
	p := StartPostfix(t, PostfixOptions{
		Name: "backend", Hostname: "mail.behind.test",
		Mailboxes: []string{"good@pf.test", "full@pf.test"},
		Refuse:    map[string]string{"full@pf.test": "452 4.2.2 Mailbox full"},
	})
	d := MustDial(t, p.Addr())
	d.Must(t, 250, d.Mail(t, ""))
	for _, c := range []struct{ rcpt, want string }{
		{"good@pf.test", "250 2.1.5 Ok"},
		{"GOOD@PF.Test", "250 2.1.5 Ok"},
		{"nobody@pf.test", "550 5.1.1 <nobody@pf.test>: Recipient address rejected: User unknown in virtual mailbox table"},
		{"full@pf.test", "452 4.2.2 <full@pf.test>: Recipient address rejected: Mailbox full"},
		{"x@elsewhere.test", "454 4.7.1 <x@elsewhere.test>: Relay access denied"},
	} {
		if got := d.Rcpt(t, c.rcpt); got.String() != c.want {
			t.Errorf("RCPT %s: %q, want %q", c.rcpt, got, c.want)
		}
	}
	p.Stop()
	if _, err := Dial("tcp", p.Addr()); err == nil {
		t.Error("a stopped Postfix still answers")
	}
	p.Restart()
	d = MustDial(t, p.Addr())
	d.Must(t, 250, d.Mail(t, ""))
	d.Must(t, 250, d.Rcpt(t, "good@pf.test"))
	if n := p.Connections(); n < 3 {
		t.Errorf("the log shows %d connections, want 3 or more", n)
	}
}
