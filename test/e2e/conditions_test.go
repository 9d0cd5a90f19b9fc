// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"fmt"
	"testing"
	"time"

	"rcptgate/test/lab"
)

// conditionRules has a rule for each condition that the recipes of docs/rules.md do not show with real
// MTAs. The windows of time are three days around today, so that midnight may pass.
func conditionRules(now time.Time) string {
	day := func(n int) string { return now.AddDate(0, 0, n).Weekday().String()[:3] }
	return fmt.Sprintf(`
[[rule]]
name = "clear"
recipient = ["clear@own.example"]
tls = false
[[rule]]
name = "secret"
recipient = ["secret@own.example"]
tls = true
[[rule]]
name = "many"
recipient = ["many*@own.example"]
rcpts = ">2"
action = "tempfail"
[[rule]]
name = "now"
recipient = ["now@own.example"]
at = ["%s,%s,%s"]
[[rule]]
name = "then"
recipient = ["then@own.example"]
at = ["%s 00:00-23:59"]
[[rule]]
name = "target"
target = ["real@own.example"]
text = "by target"
[[rule]]
name = "own"
recipient = ["own@own.example"]
client = ["$own"]
[[rule]]
name = "foreign"
recipient = ["foreign@own.example"]
client = ["!$own"]
[[rule]]
name = "six"
recipient = ["six@own.example"]
client = ["::1/128", "2001:db8::/32"]
`, day(-1), day(0), day(1), day(3))
}

// TestRuleConditions puts the conditions tls, rcpts, at and target to rules behind a real Sendmail and a
// real Postfix. Only Sendmail says what virtusertable makes of a recipient; of Postfix, the target is the
// recipient itself.
func TestRuleConditions(t *testing.T) {
	lab.Need(t, lab.PostfixKit, lab.SendmailKit)
	g := startRules(t)
	g.configure(t, conditionRules(time.Now()))
	dir := lab.NewDir(t, "certificate")
	cert, key := lab.Certificate(t, dir, "mx.example.org")
	milter := fmt.Sprintf("inet:%d@127.0.0.1", g.port)
	postfix := lab.StartPostfix(t, lab.PostfixOptions{
		Milters: []string{fmt.Sprintf("inet:127.0.0.1:%d", g.port)},
		Main: map[string]string{
			"smtpd_tls_security_level": "may", "smtpd_tls_cert_file": cert, "smtpd_tls_key_file": key, "mynetworks": "127.0.0.0/8", "default_transport": "discard:",
			"smtpd_reject_unlisted_recipient": "no",
		},
	})
	sendmail := lab.StartSendmail(t, lab.SendmailOptions{
		Milter: milter, IPv6: true, RelayDomains: []string{"own.example"}, VirtualUsers: map[string]string{"name@virt.example": "real@own.example"},
		Extra: fmt.Sprintf("define(`confSERVER_CERT', `%[1]s')\ndefine(`confSERVER_KEY', `%[2]s')\ndefine(`confCACERT', `%[1]s')\ndefine(`confCACERT_PATH', `%[3]s')", cert, key, dir),
	})
	for _, mta := range []struct{ name, addr string }{{"postfix", postfix.Addr()}, {"sendmail", sendmail.Addr()}} {
		for _, secure := range []bool{false, true} {
			d := lab.MustDial(t, mta.addr)
			if secure {
				d.StartTLS(t)
			}
			d.Must(t, 250, d.Mail(t, "someone@else.example"))
			for recipient, want := range map[string]int{
				"clear@own.example": map[bool]int{false: 550, true: 250}[secure], "secret@own.example": map[bool]int{false: 250, true: 550}[secure],
			} {
				if r := d.Rcpt(t, recipient); r.Code != want {
					t.Errorf("%s, TLS %v: %s: %s", mta.name, secure, recipient, r)
				}
			}
			d.Close()
		}
		d := lab.MustDial(t, mta.addr)
		d.Must(t, 250, d.Mail(t, "someone@else.example"))
		for i, want := range []int{250, 250, 451, 451} {
			if r := d.Rcpt(t, fmt.Sprintf("many%d@own.example", i)); r.Code != want {
				t.Errorf("%s: recipient %d: %s", mta.name, i+1, r)
			}
		}
		d.Must(t, 250, d.Rset(t))
		d.Must(t, 250, d.Mail(t, "someone@else.example"))
		if r := d.Rcpt(t, "many9@own.example"); r.Code != 250 {
			t.Errorf("%s: the first recipient of the next message: %s", mta.name, r)
		}
		wants := map[string]int{"now@own.example": 550, "then@own.example": 250, "real@own.example": 550, "own@own.example": 550, "foreign@own.example": 250, "six@own.example": 250}
		if mta.name == "sendmail" {
			wants["name@virt.example"] = 550
		}
		for recipient, want := range wants {
			if r := d.Rcpt(t, recipient); r.Code != want {
				t.Errorf("%s: %s: %s", mta.name, recipient, r)
			}
		}
		d.Close()
	}
	ownProgram(t, sendmail)
	overIPv6(t, sendmail)
}

// overIPv6 is a client of this machine that comes over IPv6: "IPv6:::1", as Sendmail writes it.
func overIPv6(t *testing.T, sendmail *lab.Sendmail) {
	t.Helper()
	d, err := lab.DialFrom("tcp", sendmail.Addr6(), "::1")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	d.Must(t, 250, d.Do(t, "EHLO client.test"))
	d.Must(t, 250, d.Mail(t, "someone@else.example"))
	for recipient, want := range map[string]int{"six@own.example": 550, "own@own.example": 550, "foreign@own.example": 250, "then@own.example": 250} {
		if r := d.Rcpt(t, recipient); r.Code != want {
			t.Errorf("over IPv6: %s: %s", recipient, r)
		}
	}
}

// ownProgram is a program of this machine, which has no address: Sendmail names none for "sendmail -bs".
func ownProgram(t *testing.T, sendmail *lab.Sendmail) {
	t.Helper()
	d := sendmail.Session()
	d.Must(t, 220, d.Banner)
	d.Must(t, 250, d.Do(t, "EHLO prog.test"))
	d.Must(t, 250, d.Mail(t, "root@own.example"))
	for recipient, want := range map[string]int{"own@own.example": 550, "foreign@own.example": 250} {
		if r := d.Rcpt(t, recipient); r.Code != want {
			t.Errorf("of a program of this machine: %s: %s", recipient, r)
		}
	}
}
