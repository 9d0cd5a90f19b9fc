// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcptgate/test/lab"
)

// listeningSocket is a unix socket that a gate gets as from systemd, for everybody.
func listeningSocket(t *testing.T, path string) *os.File {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if err := os.Chmod(path, 0o666); err != nil { //nolint:gosec // a test's own
		t.Fatal(err)
	}
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

// sends has a client send a message, and gives the reply to its end.
func (g *listGate) sends(addr, client, recipient, text string) (r lab.Reply) {
	g.t.Helper()
	return g.from(addr, client, "a@client.test", recipient, text)
}

// from is sends with a sender; the reply is that to RCPT, if the recipient is refused.
func (g *listGate) from(addr, client, sender, recipient, text string) (r lab.Reply) {
	g.t.Helper()
	g.net.Do(func() {
		d, err := lab.DialFrom("tcp", addr, client)
		if err != nil {
			g.t.Fatal(err)
		}
		defer d.Close()
		d.Must(g.t, 250, d.Do(g.t, "EHLO client.test"))
		d.Must(g.t, 250, d.Mail(g.t, sender))
		if r = d.Rcpt(g.t, recipient); r.Code == 250 {
			r = d.Data(g.t, text)
		}
	})
	return r
}

// TestVirusStory is docs/virus-senders.md from its beginning to its end, with the daemon, a real
// clamd, Sendmail and Postfix: an infected message is refused at its end; its sender at the
// next RCPT, but for the postmaster; an MTA without the milter refuses it by the socket map; and
// when the time is over it is taken again.
func TestVirusStory(t *testing.T) {
	lab.Need(t, lab.PostfixKit, lab.SendmailKit, lab.ClamavKit)
	scanner := lab.StartClamd(t, lab.ClamdOptions{})
	g := &listGate{t: t, net: lab.NewNetwork(t, virusClient, otherClient)}
	g.socket = filepath.Join(lab.NewDir(t, "maps"), "map.sock")
	gate := lab.NewGate(t)
	plain := recipe(t, "[antivirus]", "")
	for old, own := range map[string]string{"/run/clamav/clamd.ctl": scanner.Socket, `for = "1h"`: `for = "20s"`} {
		if !strings.Contains(plain, old) {
			t.Fatalf("the recipe lacks %s", old)
		}
		plain = strings.Replace(plain, old, own, 1)
	}
	gate.Configure(plain + "[socketmap]\nmaps = [{ name = \"virbl\", list = \"virus\" }]\n")
	gate.Sockets = map[string]*os.File{"socketmap": listeningSocket(t, g.socket)}
	gate.Run()
	gate.MustCommand(0, "antivirus", "test")

	byMap := map[string]string{
		"sendmail": g.sendmail(recipe(t, "SLocal_check_rcpt", g.socket)).Addr(),
		"postfix":  g.postfix(lab.PostfixOptions{Name: "map-postfix", Main: mainCF(recipe(t, "check_client_access", g.socket))}).Addr(),
	}
	byMilter := map[string]string{"postfix": g.postfix(lab.PostfixOptions{Milters: []string{"unix:" + gate.Unix}}).Addr()}
	g.net.Do(func() {
		byMilter["sendmail"] = lab.StartSendmail(t, lab.SendmailOptions{
			Name: "milter-sendmail", Milter: "unix:" + gate.Unix, LocalDomains: []string{"here.test"}, Aliases: map[string]string{"postmaster": "root", "abuse": "root"},
		}).Addr()
	})
	somebody := map[string]string{"sendmail": "root@here.test", "postfix": "ann@here.test"}
	refusing := map[string]int{"sendmail": 550, "postfix": 554}
	for _, mta := range []string{"postfix", "sendmail"} {
		t.Run(mta, func(t *testing.T) {
			g := *g
			g.t = t
			addr, to := byMilter[mta], somebody[mta]
			if r := g.sends(addr, virusClient, to, "clean"); r.Code != 250 {
				t.Fatalf("a clean message: %s", r)
			}
			if r := g.sends(addr, virusClient, to, lab.Eicar()); r.Code != 550 || r.Enhanced != "5.7.1" || !strings.Contains(r.Text(), lab.ClamdSignature) {
				t.Fatalf("an infected message: %s", r)
			}
			began := time.Now()
			g.hears("its sender's next message", addr, virusClient, to, 550, virusText)
			g.hears("its sender to the postmaster", addr, virusClient, "postmaster@here.test", 250, "")
			g.hears("another client", addr, otherClient, to, 250, "")
			for other, addr := range byMap {
				g.hears("its sender elsewhere", addr, virusClient, somebody[other], refusing[other], "You have sent us mail containing a virus")
				g.hears("its sender to the postmaster elsewhere", addr, virusClient, "postmaster@here.test", 250, "")
			}
			if !gate.Logged(`blocklist=virus client=` + virusClient + ` listed`) {
				t.Error("the log does not say that the client is listed")
			}
			time.Sleep(time.Until(began.Add(20 * time.Second))) // the time of the list
			for other, mapped := range byMap {
				g.hears("later, elsewhere", mapped, virusClient, somebody[other], 250, "")
			}
			if r := g.sends(addr, virusClient, to, "clean again"); r.Code != 250 {
				t.Errorf("later: %s", r)
			}
		})
	}
}
