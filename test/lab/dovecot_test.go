// SPDX-License-Identifier: BSD-2-Clause

package lab

import "testing"

// A real Dovecot: what LMTP says of good, unknown and full mailboxes, on TCP and on the unix socket.
func TestDovecotBackend(t *testing.T) {
	for _, tempfail := range []bool{false, true} {
		server := StartDovecot(t, DovecotOptions{
			Users: []string{"good@dc.test"}, Full: []string{"full@dc.test"}, QuotaFullTempfail: tempfail,
		})
		full := "552 5.2.2 <full@dc.test> Quota exceeded (mailbox for user is full)"
		if tempfail {
			full = "452 4.2.2 <full@dc.test> Quota exceeded (mailbox for user is full)"
		}
		for _, addr := range [][2]string{{"tcp", server.Addr()}, {"unix", server.Socket}} {
			d, err := Dial(addr[0], addr[1])
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			d.Must(t, 250, d.Do(t, "LHLO client.test"))
			d.Must(t, 250, d.Mail(t, ""))
			for _, c := range []struct{ rcpt, want string }{
				{"good@dc.test", "250 2.1.5 OK"},
				{"nobody@dc.test", "550 5.1.1 <nobody@dc.test> User doesn't exist: nobody@dc.test"},
				{"full@dc.test", full},
			} {
				if got := d.Rcpt(t, c.rcpt); got.String() != c.want {
					t.Errorf("%s: RCPT %s: %q, want %q", addr[0], c.rcpt, got, c.want)
				}
			}
		}
	}
}
