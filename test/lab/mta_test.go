// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// routeSymbols are the macros a recipient filter asks for.
const routeSymbols = "i {rcpt_mailer} {rcpt_host} {rcpt_addr}"

// recipients are put to both MTAs; what they make of each is golden (testdata) and described in README.md.
var recipients = []string{
	"good@pf.test", "nobody@pf.test", "Good+Detail@PF.Test", `"quo ted"@pf.test`, "u@[203.0.113.9]",
	"info@virt.test", "gone@virt.test", "x@elsewhere.test", "postmaster",
}

// gateway is what a test needs of either MTA.
type gateway struct {
	name  string
	start func(t *testing.T, milter, hop string) string
}

var gateways = []gateway{
	{"postfix", func(t *testing.T, milter, hop string) string {
		return StartPostfix(t, PostfixOptions{
			Milters: []string{milter}, Relay: map[string]string{"pf.test": "smtp:[" + hop + "]:25"},
			VirtualAliases: map[string]string{"virt.test": "here", "info@virt.test": "good@pf.test"},
			Main:           map[string]string{"virtual_alias_domains": "virt.test"},
		}).Addr()
	}},
	{"sendmail", func(t *testing.T, milter, hop string) string {
		return StartSendmail(t, SendmailOptions{
			Milter: milter, Relay: map[string]string{"pf.test": "esmtp:[" + hop + "]"},
			VirtualUsers: map[string]string{"info@virt.test": "good@pf.test", "@virt.test": "error:5.1.1:550 No such user here"},
		}).Addr()
	}},
}

// What each MTA tells a filter, on a unix and on an inet socket, is compared with the files in testdata: the
// negotiation, the macros at RCPT, and the replies a client gets. RCPTGATE_GOLDEN=1 writes them anew.
func TestWhatTheMTAsSend(t *testing.T) {
	Need(t, PostfixKit, SendmailKit)
	backend := StartPostfix(t, PostfixOptions{Name: "backend", Hostname: "mail.behind.test", Mailboxes: []string{"good@pf.test"}})
	for _, g := range gateways {
		for _, network := range []string{"unix", "inet"} {
			t.Run(g.name+"-"+network, func(t *testing.T) {
				tap := NewTap(t, "tcp", backend.Addr())
				dir := NewDir(t, "witness")
				sock := filepath.Join(dir, "sock")
				w, milter := (*witness)(nil), "unix:"+sock
				if network == "unix" {
					w = startWitness(t, "unix", sock, routeSymbols, false)
					if err := os.Chmod(sock, 0o666); err != nil {
						t.Fatal(err)
					}
				} else {
					w = startWitness(t, "tcp", "127.0.0.1:0", "", true)
					port := itoa(portOf(w.listener))
					milter = "inet:" + port + "@127.0.0.1"
					if g.name == "postfix" {
						milter = "inet:127.0.0.1:" + port
					}
				}
				replies := dialogue(t, g.start(t, milter, tap.Host))
				golden(t, g.name+"-"+network+".txt", "filter saw:\n"+lastSession(w.all())+"\n\nclient saw:\n"+replies, tap.Host)
			})
		}
	}
}

// dialogue puts the recipients and a small message, and returns the replies.
func dialogue(t *testing.T, addr string) string {
	var b strings.Builder
	d := MustDial(t, addr)
	d.Must(t, 250, d.Mail(t, "sender@client.test"))
	for _, r := range recipients {
		b.WriteString(r + " -> " + d.Rcpt(t, r).String() + "\n")
	}
	d.Must(t, 250, d.Rset(t))
	d.Must(t, 221, d.Do(t, "QUIT"))
	return b.String()
}

// lastSession returns what belongs to the last connection with recipients, up to the end of its transaction (which the
// witness may or may not have read by now); WaitFor's look at the banner comes before.
func lastSession(seen string) string {
	first := strings.Index(seen, "R [")
	if first < 0 {
		return seen
	}
	if end := strings.Index(seen[first:], "\nA"); end >= 0 {
		seen = seen[:first+end]
	}
	return seen[max(0, strings.LastIndex("\n"+seen[:first], "\nO ")):]
}
