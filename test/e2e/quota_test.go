// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/test/lab"
)

// quotaSite is a Dovecot with a mailbox of 2 MiB, and a gate that asks it.
type quotaSite struct {
	testing.TB
	dovecot *lab.Dovecot
	gate    *lab.Gate
}

// Mailboxes of 2 MiB: one for each front, as the fronts are played at once.
const fullBox, otherBox = "box@dc.test", "other@dc.test"

func newQuotaSite(t testing.TB, source func(lab.DovecotQuota) string) *quotaSite {
	t.Helper()
	s := &quotaSite{TB: t, dovecot: lab.StartDovecot(t, lab.DovecotOptions{Users: []string{"roomy@dc.test"}, Quota: true})}
	s.dovecot.SetLimit(fullBox, 2<<20)
	s.dovecot.SetLimit(otherBox, 2<<20)
	s.gate = lab.NewGate(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"aliases": "sales: " + fullBox + "\nservice: " + otherBox + "\n", "key": s.dovecot.Quota.Key + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.gate.Configure(fmt.Sprintf(`
[aliases]
files = ["text:%[1]s/aliases"]
domains = ["loc.test"]
passwd = ""
[quota]
sources = [%[2]q]
doveadm_key_file = "%[1]s/key"
timeout = "5s"
[[domain]]
name = "dc.test"
backend = ["lmtp:[127.0.0.1]:%[3]d"]
`, dir, source(s.dovecot.Quota), s.dovecot.Port))
	s.gate.Run()
	return s
}

// rcpt is the reply to a recipient of a message of size octets.
func (s *quotaSite) rcpt(front, recipient string, size int) lab.Reply {
	s.Helper()
	d := lab.MustDial(s, front)
	defer d.Close()
	if r := d.Do(s, fmt.Sprintf("MAIL FROM:<ann@sender.test> SIZE=%d", size)); r.Code != 250 {
		s.Fatalf("MAIL: %v", r)
	}
	return d.Rcpt(s, recipient)
}

func (s *quotaSite) want(front, recipient string, size, code int) {
	s.Helper()
	r := s.rcpt(front, recipient, size)
	if r.Code != code {
		s.Errorf("%s, %d octets: %v, want %d", recipient, size, r, code)
	}
	if code == 452 && (r.Enhanced != "4.2.2" || !strings.Contains(r.Text(), "Mailbox is full") || strings.Contains(r.Text(), "dc.test") || strings.Contains(r.Text(), "2097152")) {
		s.Errorf("%s: %v", recipient, r)
	}
}

// TestQuotaOfAnAlias: an alias of a full mailbox is refused while the sender waits, by a real
// Postfix and a real Sendmail, and taken within 30 s when the mailbox is emptied, with the usual
// lives of answers. The size counts.
func TestQuotaOfAnAlias(t *testing.T) {
	t.Parallel()
	s := newQuotaSite(t, func(q lab.DovecotQuota) string { return fmt.Sprintf("doveadm:http://127.0.0.1:%d", q.HTTPPort) })
	postfix := lab.StartPostfix(t, lab.PostfixOptions{Milters: []string{s.gate.PostfixMilter()}, Mailboxes: []string{"sales@loc.test"}})
	sendmail := lab.StartSendmail(t, lab.SendmailOptions{Milter: s.gate.SendmailMilter(), LocalDomains: []string{"loc.test"}, Aliases: map[string]string{"service": otherBox}})
	for _, f := range []struct{ name, front, alias, box string }{
		{"postfix", postfix.Addr(), "sales@loc.test", fullBox}, {"sendmail", sendmail.Addr(), "service@loc.test", otherBox},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			(&quotaSite{t, s.dovecot, s.gate}).fillAndEmpty(f.front, f.alias, f.box)
		})
	}
}

// fillAndEmpty has messages to an alias of a mailbox refused by size, then because the mailbox is
// full, and taken when it is emptied.
func (s *quotaSite) fillAndEmpty(front, alias, box string) {
	s.Helper()
	s.dovecot.Fill(box, 2<<20-100_000) // 100 kB are left
	s.want(front, alias, 50_000, 250)
	s.want(front, alias, 200_000, 452)
	s.want(front, alias, 50_000, 250)
	s.want(front, alias, 5<<20, 552)
	s.dovecot.Fill(box, 100_000)
	testkit.Eventually(s, "the full mailbox is refused", func() bool { return s.rcpt(front, alias, 1000).Code == 452 })
	s.want(front, alias, 1000, 452)
	if out, _, _ := s.gate.Command("check", "--size", "50K", alias); !strings.Contains(out, "limit 2097152") {
		s.Errorf("check does not show the numbers:\n%s", out)
	}
	begun := time.Now()
	s.dovecot.Empty(box)
	for s.rcpt(front, alias, 1000).Code != 250 && time.Since(begun) < time.Minute {
		time.Sleep(100 * time.Millisecond)
	}
	took := time.Since(begun)
	s.Logf("taken %v after it was emptied", took.Round(100*time.Millisecond))
	if took > 30*time.Second {
		s.Errorf("mail is refused for %v after the mailbox was emptied", took)
	}
}

// TestQuotaStatus: Dovecot's policy service says yes or no; it knows no aliases, and refuses
// those of others, which is not believed. When it dies, mail flows.
func TestQuotaStatus(t *testing.T) {
	t.Parallel()
	s := newQuotaSite(t, func(q lab.DovecotQuota) string { return "policy:" + q.PolicyAddr() })
	check := func(recipient string, size string) (out string, code int) {
		t.Helper()
		out, _, code = s.gate.Command("check", "--size", size, recipient)
		return out, code
	}
	s.dovecot.Fill(fullBox, 2<<20-100_000)
	for _, c := range []struct {
		recipient, size string
		code            int
	}{{"sales@loc.test", "50K", 0}, {"sales@loc.test", "200K", 77}, {"sales@loc.test", "50K", 0}, {fullBox, "200K", 77}, {"roomy@dc.test", "50K", 0}} {
		if out, code := check(c.recipient, c.size); code != c.code && !(c.code == 77 && code == 75) {
			t.Errorf("%s, %s: %d\n%s", c.recipient, c.size, code, out)
		}
	}
	s.dovecot.Kill()
	for range 20 {
		if out, code := check(fullBox, "10K"); code != 0 {
			t.Fatalf("Dovecot is down: %d\n%s", code, out)
		}
	}
}
