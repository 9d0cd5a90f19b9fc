// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"rcptgate/front/dns"
	"rcptgate/front/socketmap"
	"rcptgate/test/lab"
	"rcptgate/unit"
	"rcptgate/unit/fronttest"
)

const (
	virusText = "You have sent us mail containing a virus and are blocked for an hour."
	// blogText is in the ruleset of the recipe.
	blogText = "You have sent us mail containing a virus and are blocked from our systems for an hour"
	// virusClient is where it comes from: not from this machine, which is never listed.
	virusClient = "198.51.100.9"
	// otherClient is innocent.
	otherClient = "198.51.100.10"
)

// recipe is the block of docs/virus-senders.md that has the words, with the test's socket and
// zone where the site's would be.
func recipe(t *testing.T, word, socket string) string {
	t.Helper()
	return strings.ReplaceAll(recipeOf(t, "virus-senders.md", word), "/run/rcptgate/map.sock", socket)
}

// recipeOf is the block of a document that has the words.
func recipeOf(t *testing.T, name, word string) string {
	t.Helper()
	doc, err := os.ReadFile("../../docs/" + name) //nolint:gosec // one of ours
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)```[a-z]*\n(.*?)```").FindAllStringSubmatch(string(doc), -1) {
		if strings.Contains(m[1], word) {
			return m[1]
		}
	}
	t.Fatalf("docs/%s has no block with %q", name, word)
	return ""
}

// mainCF reads a recipe's lines as settings of main.cf.
func mainCF(text string) map[string]string {
	settings, key := map[string]string{}, ""
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(line, "=")
		if ok && !strings.HasPrefix(line, " ") {
			key = strings.TrimSpace(name)
			settings[key] = strings.TrimSpace(value)
		} else if key != "" {
			settings[key] += " " + strings.TrimSpace(line)
		}
	}
	return settings
}

// listGate is a gate in this process with a list, its socket map, and its zone on port 53 of a
// network of its own.
type listGate struct {
	t      *testing.T
	net    *lab.Network
	list   *fronttest.List
	host   *unit.Host
	socket string
}

func startLists(t *testing.T) *listGate {
	t.Helper()
	g := &listGate{t: t, net: lab.NewNetwork(t, virusClient, otherClient), list: fronttest.NewList("virus")}
	g.list.Words = virusText
	g.socket = filepath.Join(lab.NewDir(t, "maps"), "map.sock")
	g.net.Do(func() {
		g.host, _ = fronttest.Start(t, `[listen]
socketmap = ["unix:`+g.socket+`"]
[socketmap]
socket_mode = "0666"
maps = [{ name = "virbl", list = "virus" }, { name = "left", list = "virus", form = "seconds" }]
[dns]
listen = ["127.0.0.1:53"]
zones = [{ name = "virbl.example.org", list = "virus" }]
`, fronttest.Lists(g.list), socketmap.Unit(), dns.Unit())
	})
	return g
}

func (g *listGate) add() {
	g.t.Helper()
	if err := g.list.Add(netip.MustParseAddr(virusClient), "Eicar-Test-Signature", "q1", 0); err != nil {
		g.t.Fatal(err)
	}
}

// end is what the time does: the listing is over.
func (g *listGate) end() { g.list.Remove(netip.MustParseAddr(virusClient)) }

// hears is what a client hears: at MAIL if that is refused, else at RCPT. Text is what has to
// be in it.
func (g *listGate) hears(what, addr, client, recipient string, code int, text string) {
	g.t.Helper()
	g.net.Do(func() {
		d, err := lab.DialFrom("tcp", addr, client)
		if err != nil {
			g.t.Fatalf("%s: %v", what, err)
		}
		defer d.Close()
		r := d.Banner
		for _, line := range []string{"EHLO client.test", "MAIL FROM:<a@client.test>", "RCPT TO:<" + recipient + ">"} {
			if r.Code/100 != 2 {
				break
			}
			r = d.Do(g.t, line)
		}
		if r.Code != code || !strings.Contains(r.Text(), text) {
			g.t.Errorf("%s: %s from %s heard %q, want %d %s", what, recipient, client, r, code, text)
		}
	})
}

func (g *listGate) sendmail(extra string) *lab.Sendmail {
	g.t.Helper()
	var s *lab.Sendmail
	g.net.Do(func() {
		s = lab.StartSendmail(g.t, lab.SendmailOptions{
			LocalDomains: []string{"here.test"}, Aliases: map[string]string{"postmaster": "root", "abuse": "root"}, Extra: extra,
		})
	})
	return s
}

// The ruleset that looks clients up when they connect, unchanged except for its K line.
func TestSendmailMap(t *testing.T) {
	g := startLists(t)
	s := g.sendmail(recipe(t, "SLocal_check_relay", g.socket))
	g.hears("not listed", s.Addr(), virusClient, "root@here.test", 250, "")
	g.add()
	g.hears("listed", s.Addr(), virusClient, "root@here.test", 550, blogText)
	g.hears("another client", s.Addr(), otherClient, "root@here.test", 250, "")
	if got := s.AddressTest("/map virbl "+virusClient, "/map virbl "+otherClient, "/map left "+virusClient, ".D{client_addr}IPv6:2001:db8::1", "Local_check_relay x"); !strings.Contains(got, "returns REJECT 5.7.1 "+virusText+".FOUND (0)") || !strings.Contains(got, "no match (68)") {
		t.Errorf("sendmail -bt:\n%s", got)
	}
	for _, words := range []string{"a (b", "a ) b \"c", "it's <d@e> \\", "semi; colon: 4.3.2 [x] {y} |z| =e= #hash $&{client_addr} $| %1", strings.Repeat("word ", 100)} {
		g.list.Words = words
		g.hears("with the text "+words, s.Addr(), virusClient, "root@here.test", 550, blogText)
	}
	g.end()
	g.hears("an hour later", s.Addr(), virusClient, "root@here.test", 250, "")
	g.host.Stop()
	g.hears("without the gate", s.Addr(), virusClient, "root@here.test", 250, "") // as docs/virus-senders.md says
}

// The ruleset that looks at RCPT leaves postmaster reachable, and puts mail off without the gate.
func TestSendmailMapAtRcpt(t *testing.T) {
	g := startLists(t)
	s := g.sendmail(recipe(t, "SLocal_check_rcpt", g.socket))
	g.hears("not listed", s.Addr(), virusClient, "root@here.test", 250, "")
	g.add()
	g.hears("listed", s.Addr(), virusClient, "root@here.test", 550, blogText)
	for _, open := range []string{"postmaster@here.test", "Postmaster", "abuse@here.test", "ABUSE@Here.Test"} {
		g.hears("listed", s.Addr(), virusClient, open, 250, "")
	}
	g.end()
	g.hears("an hour later", s.Addr(), virusClient, "root@here.test", 250, "")
	g.host.Stop()
	g.hears("without the gate", s.Addr(), virusClient, "root@here.test", 451, "try again later")
	g.hears("without the gate", s.Addr(), virusClient, "postmaster@here.test", 250, "")
}

func (g *listGate) postfix(o lab.PostfixOptions) *lab.Postfix {
	g.t.Helper()
	var p *lab.Postfix
	o.Mailboxes, o.Resolver = []string{"ann@here.test", "postmaster@here.test", "abuse@here.test"}, "127.0.0.1"
	g.net.Do(func() { p = lab.StartPostfix(g.t, o) })
	return p
}

// check_client_access, as the recipe has it: the list's own text, postmaster stays reachable.
func TestPostfixMap(t *testing.T) {
	g := startLists(t)
	p := g.postfix(lab.PostfixOptions{Main: mainCF(recipe(t, "check_client_access", g.socket))})
	g.hears("not listed", p.Addr(), virusClient, "ann@here.test", 250, "")
	g.add()
	g.hears("listed", p.Addr(), virusClient, "ann@here.test", 554, virusText)
	g.hears("listed", p.Addr(), virusClient, "postmaster@here.test", 250, "")
	g.hears("listed", p.Addr(), virusClient, "abuse@here.test", 250, "")
	g.hears("listed", p.Addr(), virusClient, "postmaster@elsewhere.test", 454, "Relay access denied")
	g.hears("another client", p.Addr(), otherClient, "ann@here.test", 250, "")
	g.end()
	g.hears("an hour later", p.Addr(), virusClient, "ann@here.test", 250, "")
	g.host.Stop()
	g.hears("without the gate", p.Addr(), virusClient, "ann@here.test", 451, "Server configuration error")
	g.hears("without the gate", p.Addr(), virusClient, "postmaster@here.test", 250, "")
}

// reject_rbl_client asks the zone over DNS.
func TestPostfixZone(t *testing.T) {
	g := startLists(t)
	main := mainCF(recipe(t, "reject_rbl_client", g.socket))
	main["max_use"] = "1" // an smtpd process remembers what the zone said
	p := g.postfix(lab.PostfixOptions{Main: main})
	g.hears("not listed", p.Addr(), virusClient, "ann@here.test", 250, "")
	g.add()
	g.hears("listed", p.Addr(), virusClient, "ann@here.test", 554, "virus: Eicar-Test-Signature, until ")
	g.hears("another client", p.Addr(), otherClient, "ann@here.test", 250, "")
	g.end()
	g.hears("an hour later", p.Addr(), virusClient, "ann@here.test", 250, "")
	g.host.Stop()
	g.hears("without the gate", p.Addr(), virusClient, "ann@here.test", 250, "")
}

// postscreen asks the zone before smtpd sees the client.
func TestPostscreenZone(t *testing.T) {
	g := startLists(t)
	main := mainCF(recipe(t, "postscreen_dnsbl_sites", g.socket))
	for key, value := range map[string]string{ // the lab's own tests of protocol would refuse every client first
		"postscreen_pipelining_enable": "no", "postscreen_non_smtp_command_enable": "no", "postscreen_bare_newline_enable": "no",
	} {
		main[key] = value
	}
	p := g.postfix(lab.PostfixOptions{Postscreen: true, Main: main})
	g.add()
	g.hears("listed", p.Addr(), virusClient, "ann@here.test", 550, "blocked using virbl.example.org")
	g.hears("another client", p.Addr(), otherClient, "ann@here.test", 250, "")
}

// dig asks as postmasters do: datagrams and TCP, with and without EDNS.
func TestDig(t *testing.T) {
	lab.Need(t, lab.DNSKit)
	g := startLists(t)
	g.add()
	dig := func(args ...string) (out string) {
		t.Helper()
		g.net.Do(func() {
			cmd := exec.Command(lab.DNSKit.Path("usr/bin/dig"), append([]string{"@127.0.0.1", "+tries=1", "+time=20"}, args...)...) //nolint:gosec // the lab's own program
			cmd.Env = lab.DNSKit.Environment()
			text, err := cmd.CombinedOutput()
			if out = string(text); err != nil {
				t.Errorf("dig %v: %v", args, err)
			}
		})
		return out
	}
	const name = "9.100.51.198.virbl.example.org"
	for _, options := range []string{"", "+tcp", "+noedns", "+dnssec", "+bufsize=4096", "+nocookie +norecurse"} {
		with := strings.Fields(options)
		if got := dig(append(with, "+short", name, "A")...); got != "127.0.0.2\n" {
			t.Errorf("dig %s: %q", options, got)
		}
		if got := dig(append(with, "+short", name, "TXT")...); !strings.HasPrefix(got, `"virus: Eicar-Test-Signature, until 20`) {
			t.Errorf("dig %s TXT: %q", options, got)
		}
		if got := dig(append(with, "10.100.51.198.virbl.example.org")...); !strings.Contains(got, "status: NXDOMAIN") || !strings.Contains(got, "hostmaster.virbl.example.org") || strings.Contains(got, "malformed") {
			t.Errorf("dig %s of a client that is not listed:\n%s", options, got)
		}
	}
	for args, want := range map[string]string{
		"virbl.example.org AXFR": "Transfer failed", "virbl.example.org ANY": "RFC8482", "example.org": "status: REFUSED", "51.198.virbl.example.org": "status: NOERROR",
		"+ednsopt=65001:00 " + name: "127.0.0.2", "+edns=1 +noednsneg " + name: "status: BADVERS", "-c CH version.bind TXT": "status: REFUSED",
	} {
		if got := dig(strings.Fields(args)...); !strings.Contains(got, want) || strings.Contains(got, "malformed") {
			t.Errorf("dig %s: no %q in\n%s", args, want, got)
		}
	}
}
