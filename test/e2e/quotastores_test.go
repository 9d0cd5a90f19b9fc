// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/test/lab"
)

// mailStores are two mail stores with an agent each, which know how much is used and no limits,
// a directory of the qmail kind that knows store and limit of each mailbox, and a gate.
type mailStores struct {
	testing.TB
	slapd  *lab.Slapd
	agents map[string]*lab.Process // by address
	gate   *lab.Gate
	root   string
}

// limitOf is the quota of each mailbox in octets.
const limitOf = 2_000_000

func startMailStores(t testing.TB, hosts map[string]string) *mailStores {
	t.Helper()
	s := &mailStores{TB: t, root: t.TempDir(), agents: map[string]*lab.Process{}, gate: lab.NewGate(t)}
	entries, aliases := "", ""
	for user, host := range hosts {
		entries += fmt.Sprintf("dn: uid=%[1]s,dc=lab,dc=test\nobjectClass: inetOrgPerson\nobjectClass: qmailUser\ncn: x\nsn: x\nuid: %[1]s\nmail: %[1]s@dc.test\nmailHost: %[2]s\nmailQuotaSize: %[3]d\n\n", user, host, limitOf)
		aliases += fmt.Sprintf("to-%[1]s: %[1]s@dc.test\n", user)
	}
	s.slapd = lab.StartSlapd(t, lab.SlapdOptions{Entries: entries})
	key := filepath.Join(s.root, "key")
	for name, text := range map[string]string{"key": "g1 000102030405060708090a0b0c0d0e0f\n", "password": s.slapd.Password + "\n", "aliases": aliases} {
		if err := os.WriteFile(filepath.Join(s.root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	port := lab.FreePort(t)
	for user, host := range hosts {
		if err := os.MkdirAll(filepath.Join(s.root, host), 0o755); err != nil {
			t.Fatal(err)
		}
		s.fill(host, user, 0)
		if s.agents[host] != nil {
			continue
		}
		config := filepath.Join(s.root, host+".toml")
		text := fmt.Sprintf("[listen]\nudp = [\"%[1]s:%[2]d\"]\ntcp = []\nhttp = \"\"\nkey_file = %[3]q\n[[store]]\ntype = \"mbox\"\nroot = %[4]q\npath = \"{local}\"\n", host, port, key, filepath.Join(s.root, host))
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.agents[host] = s.gate.StartProgram("agent-"+host, "agent", "quota", "-c", config)
	}
	sim := lab.StartScripted(t)
	s.gate.Configure(fmt.Sprintf(`
[aliases]
files = ["text:%[1]s/aliases"]
domains = ["loc.test"]
passwd = ""
[quota]
sources = ["udp:{mailhost}:%[2]d"]
hosts = ["127.0.0.0/8"]
key_file = %[3]q
timeout = "2s"
[quota.ldap]
url = [%[4]q]
starttls = "off"
base = %[5]q
bind = %[6]q
password_file = "%[1]s/password"
schema = "qmail"
timeout = "10s"
[[domain]]
name = "dc.test"
backend = ["smtp:%[7]s"]
`, s.root, port, key, s.slapd.URL, s.slapd.Base, s.slapd.Bind, sim.Hop()))
	s.gate.Run()
	for user := range hosts { // agents are ready, and entries known
		testkit.Eventually(t, "the agent answers about "+user, func() bool {
			out, _, _ := s.gate.Command("check", user+"@dc.test")
			return strings.Contains(out, fmt.Sprintf("limit %d", limitOf))
		})
	}
	return s
}

// fill makes the mailbox so large.
func (s *mailStores) fill(host, user string, octets int64) {
	s.Helper()
	name := filepath.Join(s.root, host, user)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		err = f.Truncate(octets)
		_ = f.Close()
	}
	if err != nil {
		s.Fatal(err)
	}
}

// forget has the gate ask again.
func (s *mailStores) forget(user string) {
	s.Helper()
	s.gate.MustCommand(0, "cache", "forget", user+"@dc.test")
}

func (s *mailStores) rcpt(front, user string, size int) lab.Reply {
	q := quotaSite{TB: s.TB, gate: s.gate}
	return q.rcpt(front, "to-"+user+"@loc.test", size)
}

func (s *mailStores) want(front, user string, size, code int) {
	s.Helper()
	if r := s.rcpt(front, user, size); r.Code != code || code == 452 && (r.Enhanced != "4.2.2" || strings.Contains(r.Text(), "dc.test")) {
		s.Errorf("%s, %d octets: %v, want %d", user, size, r, code)
	}
}

// TestQuotaOfStores: a directory says which of two stores has a mailbox and how large it may
// be, agents say how full it is, through a real Postfix and a real Sendmail, with the usual
// lives of answers. Then agents hang and are killed, then the directory, and mail flows.
func TestQuotaOfStores(t *testing.T) {
	t.Parallel()
	const one, two = "127.0.0.1", "127.0.0.2"
	hosts := map[string]string{"ann": one, "bob": two, "carl": one, "dora": two}
	for i := range 8 {
		hosts[fmt.Sprint("user", i)] = two
	}
	s := startMailStores(t, hosts)
	var mailboxes []string
	aliases := map[string]string{}
	for user := range hosts {
		mailboxes, aliases["to-"+user] = append(mailboxes, "to-"+user+"@loc.test"), user+"@dc.test"
	}
	postfix := lab.StartPostfix(t, lab.PostfixOptions{Milters: []string{s.gate.PostfixMilter()}, Mailboxes: mailboxes}).Addr()
	sendmail := lab.StartSendmail(t, lab.SendmailOptions{Milter: s.gate.SendmailMilter(), LocalDomains: []string{"loc.test"}, Aliases: aliases}).Addr()
	fronts := map[string]string{"ann": postfix, "bob": sendmail} // a mailbox each, on a store each

	for user, front := range fronts {
		s.fill(hosts[user], user, limitOf-100_000) // 100 kB are left
		s.forget(user)
		s.want(front, user, 50_000, 250)
		s.want(front, user, 200_000, 452)
		s.want(front, user, 50_000, 250)
		s.want(front, user, 2*limitOf, 552)
		s.fill(hosts[user], user, limitOf)
	}
	for user, front := range fronts {
		testkit.Eventually(t, "the full mailbox is refused", func() bool { return s.rcpt(front, user, 1000).Code == 452 })
	}
	emptied := time.Now()
	for user := range fronts {
		s.fill(hosts[user], user, 0)
	}
	var waiting sync.WaitGroup
	for user, front := range fronts {
		waiting.Go(func() {
			for s.rcpt(front, user, 1000).Code != 250 {
				if time.Since(emptied) > time.Minute {
					t.Errorf("%s is refused after it was emptied", user)
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
			took := time.Since(emptied)
			t.Logf("%s: mail is taken %v after the mailbox was emptied", user, took.Round(100*time.Millisecond))
			if took > 30*time.Second {
				t.Errorf("%s: %v", user, took)
			}
		})
	}
	waiting.Wait()

	// An agent that hangs, then one that is dead: five questions open the breaker, and later ones
	// wait for nothing. The other store's full mailboxes are refused meanwhile.
	s.fill(one, "ann", limitOf)
	s.forget("ann")
	for i := range 8 {
		s.forget(fmt.Sprint("user", i))
	}
	if err := s.agents[two].Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		waiting.Go(func() { s.gate.Command("check", fmt.Sprintf("user%d@dc.test", i)) })
	}
	waiting.Wait()
	s.downAsks(two, postfix, sendmail)
	s.agents[two].Kill()
	s.downAsks(two, postfix, sendmail)
	s.want(postfix, "ann", 1000, 452)
	s.want(sendmail, "ann", 1000, 452)

	// Without the directory its stores are known still; mailboxes it was not asked about are taken.
	s.slapd.Kill()
	s.fill(one, "carl", limitOf)
	s.want(postfix, "carl", limitOf-50_000, 452) // larger than what is remembered: its agent is asked
	s.want(sendmail, "carl", 1000, 452)
	s.want(postfix, "dora", 1000, 250)
	s.want(sendmail, "dora", 1000, 250)
}

// downAsks: mail for mailboxes of a store whose agent is down is taken, and the agent is not
// waited for.
func (s *mailStores) downAsks(store string, fronts ...string) {
	s.Helper()
	for i, front := range fronts {
		s.want(front, fmt.Sprint("user", 5+i), 1000, 250)
	}
	out, _, code := s.gate.Command("check", "user7@dc.test")
	if code != 0 || !strings.Contains(out, "has not answered recently") {
		s.Errorf("%s is asked: exit code %d\n%s", store, code, out)
	}
	if out, _, _ := s.gate.Command("status", "quota"); !regexp.MustCompile(`udp:` + regexp.QuoteMeta(store) + `:\d+ +no `).MatchString(out) {
		s.Errorf("status says nothing of it:\n%s", out)
	}
}
