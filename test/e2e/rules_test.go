// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"rcptgate"
	mail "rcptgate/address"
	"rcptgate/check/rules"
	"rcptgate/check/trusted"
	"rcptgate/config/setting"
	"rcptgate/front/milter"
	"rcptgate/front/milter/mta"
	"rcptgate/front/milter/wire"
	"rcptgate/test/lab"
	"rcptgate/unit"
)

// ruleGate is a gate in this process that has rules and a milter, and shows what it decided.
type ruleGate struct {
	port   int
	socket string // the same milter, in all networks
	host   *unit.Host

	mu   sync.Mutex
	text string
	last rcptgate.Verdict
}

// Observe notes the last decision about a recipient.
func (g *ruleGate) Observe(q *rcptgate.Query, v *rcptgate.Verdict) {
	if q.Stage == rcptgate.StageRcpt {
		g.mu.Lock()
		g.last = *v
		g.mu.Unlock()
	}
}

func startRules(t *testing.T) *ruleGate {
	t.Helper()
	g := &ruleGate{port: lab.FreePort(t), socket: filepath.Join(lab.NewDir(t, "rules"), "milter")}
	units := []unit.Unit{rules.Unit(), trusted.Unit(), milter.Unit(), {Name: "watch", Open: func(*unit.Env) (unit.Live, error) { return unit.Live{Observer: g}, nil }}}
	schema, err := unit.Compose(units)
	if err != nil {
		t.Fatal(err)
	}
	state := t.TempDir()
	read := func() (*unit.Config, error) {
		g.mu.Lock()
		defer g.mu.Unlock()
		text := fmt.Sprintf("hostname = \"mx.example.org\"\nenforce = true\nstate = %q\ntrusted = [\"192.0.2.0/24\"]\n[listen]\nmilter = [\"inet:%d@127.0.0.1\", \"unix:%s\"]\n%s", state, g.port, g.socket, g.text)
		return unit.Parse(schema, "test.toml", text)
	}
	c, err := read()
	if err != nil {
		t.Fatal(err)
	}
	if g.host, err = unit.Open(t.Context(), units, c, unit.Options{Stderr: io.Discard, Reread: read, Disk: openDisk}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.host.Stop)
	if err := g.host.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return g
}

// configure makes further lines of configuration active.
func (g *ruleGate) configure(t *testing.T, text string) {
	t.Helper()
	g.mu.Lock()
	g.text = text
	g.mu.Unlock()
	if _, err := g.host.Reload(); err != nil {
		t.Fatal(err)
	}
}

func (g *ruleGate) decided() rcptgate.Verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last
}

// wish is one expectation of the cookbook, as a client plays it.
type wish struct {
	line, sender, recipient, outcome, code string
	with                                   map[string]string // circumstances
}

// docBlocks are the blocks of TOML in docs/rules.md, each with its expectations. The first
// is the site.
func docBlocks(t *testing.T) (site string, blocks []string) {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "rules.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(string(doc), -1) {
		blocks = append(blocks, m[1])
	}
	_, site, _ = strings.Cut(blocks[0], "trusted = [\"192.0.2.0/24\"]\n")
	return site, blocks[1:]
}

var expectLine = regexp.MustCompile(`"(\S+)([^"]*) -> ([^"]+): (\w+)(?: (\d+))?"`)

func wishesOf(block string) (list []wish) {
	for _, m := range expectLine.FindAllStringSubmatch(block, -1) {
		w := wish{line: m[0], sender: strings.Trim(m[1], "<>"), recipient: m[3], outcome: m[4], code: m[5], with: map[string]string{}}
		for _, word := range strings.Fields(m[2]) {
			name, value, _ := strings.Cut(word, "=")
			w.with[name] = value
		}
		list = append(list, w)
	}
	return list
}

// needs reports whether a wish has only circumstances of a list.
func (w *wish) needs(list string) bool {
	for name := range w.with {
		if !strings.Contains(" "+list+" ", " "+name+" ") {
			return false
		}
	}
	return true
}

// ruleFront plays a wish and gives the reply to RCPT; ok is false if it cannot.
type ruleFront struct {
	name string
	play func(t *testing.T, w *wish) (code int, ok bool)
}

// TestRuleWishes plays every recipe of docs/rules.md through a real Sendmail, a real Postfix and
// the bare protocol, and wants what its expect lines say.
func TestRuleWishes(t *testing.T) {
	lab.Need(t, lab.PostfixKit, lab.SendmailKit)
	g := startRules(t)
	site, blocks := docBlocks(t)
	fronts := []ruleFront{{"bare", g.bare}, {"postfix", playPostfix(t, g)}, {"sendmail", playSendmail(t, g, wishesOf(strings.Join(blocks, "\n")))}}
	played := make(map[string]int)
	for _, block := range blocks {
		g.configure(t, site+block)
		for _, w := range wishesOf(block) {
			for _, f := range fronts {
				code, ok := f.play(t, &w)
				if !ok {
					continue
				}
				played[f.name]++
				v := g.decided()
				if v.Action == rcptgate.Accept { // by a rule, or because the client is trusted
					v.Action = rcptgate.Continue
				}
				want := w.outcome
				if want == "pass" || want == "accept" {
					want = "continue"
				}
				class := map[string]int{"reject": 5, "tempfail": 4}[want]
				if class == 0 {
					class = 2
				}
				if v.Action.String() != want || code/100 != class || w.code != "" && w.code != fmt.Sprint(code) {
					t.Errorf("%s: %s: %d, decided %s, %s", f.name, w.line, code, v.Action, v.Reason)
				}
			}
		}
	}
	for name, least := range map[string]int{"bare": 80, "postfix": 80, "sendmail": 80} {
		if played[name] < least {
			t.Errorf("%s has played only %d wishes", name, played[name])
		}
	}
	t.Logf("played: %v", played)
}

// bare plays a wish in the milter protocol.
func (g *ruleGate) bare(t *testing.T, w *wish) (int, bool) {
	if !w.needs("client auth helo name size") {
		return 0, false
	}
	c, err := mta.Dial(context.Background(), setting.Socket{Network: "tcp", Address: fmt.Sprintf("127.0.0.1:%d", g.port)}, mta.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // a test's
	client := netip.MustParseAddr("127.0.0.1")
	if text := w.with["client"]; text != "" {
		client = netip.MustParseAddr(text)
	}
	if _, err := c.Connect(orUnknown(w.with["name"]), netip.AddrPortFrom(client, 1025)); err != nil {
		t.Fatal(err)
	}
	_, _ = c.Helo(orUnknown(w.with["helo"]))
	var args []string
	if size := w.with["size"]; size != "" {
		args = append(args, "SIZE="+size)
	}
	if _, err := c.Mail(w.sender, args, wire.Macro{Name: "{auth_authen}", Value: w.with["auth"]}); err != nil {
		t.Fatal(err)
	}
	r, err := c.Rcpt(w.recipient)
	if err != nil {
		t.Fatal(err)
	}
	if r.Code == 0 {
		r.Code = 250
	}
	return r.Code, true
}

func orUnknown(s string) string {
	if s == "" {
		return "client.test"
	}
	return s
}

// converse plays the SMTP part of a wish.
func converse(t *testing.T, d *lab.Dialogue, w *wish) int {
	t.Helper()
	d.Must(t, 250, d.Do(t, "EHLO "+orUnknown(w.with["helo"])))
	line := "MAIL FROM:<" + w.sender + ">"
	if size := w.with["size"]; size != "" {
		line += " SIZE=" + size
	}
	d.Must(t, 250, d.Do(t, line))
	return d.Rcpt(t, w.recipient).Code
}

// authServer offers a mechanism in Dovecot's authentication protocol, and no more: Postfix has to
// have SASL switched on to believe XCLIENT's LOGIN.
func authServer(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t00112233445566778899aabbccddeeff\nDONE\n")
			t.Cleanup(func() { _ = c.Close() })
		}
	}()
	return l.Addr().String()
}

// playPostfix plays a client of any IPv4 address, and of any user.
func playPostfix(t *testing.T, g *ruleGate) func(*testing.T, *wish) (int, bool) {
	p := lab.StartPostfix(t, lab.PostfixOptions{
		Milters: []string{fmt.Sprintf("inet:127.0.0.1:%d", g.port)},
		Main: map[string]string{
			"smtpd_authorized_xclient_hosts": "127.0.0.0/8", "mynetworks": "0.0.0.0/0, [::]/0", "message_size_limit": "0",
			"smtpd_reject_unlisted_recipient": "no", "smtpd_sasl_auth_enable": "yes", "smtpd_sasl_type": "dovecot", "smtpd_sasl_path": "inet:" + authServer(t), "default_transport": "discard:",
		},
	})
	return func(t *testing.T, w *wish) (int, bool) {
		if !w.needs("client auth helo name size") || strings.Contains(w.with["client"], ":") { // the lab has IPv4 alone
			return 0, false
		}
		d := lab.MustDial(t, p.Addr())
		defer d.Close()
		pretend(t, d, w)
		return converse(t, d, w), true
	}
}

// pretend has Postfix believe a client's circumstances, by XCLIENT (XCLIENT_README).
func pretend(t *testing.T, d *lab.Dialogue, w *wish) {
	t.Helper()
	attributes := ""
	for name, attribute := range map[string]string{"client": "ADDR", "name": "NAME", "auth": "LOGIN"} {
		if value := w.with[name]; value != "" {
			attributes += " " + attribute + "=" + value
		}
	}
	if attributes != "" {
		d.Must(t, 220, d.Do(t, "XCLIENT"+attributes))
	}
}

// logIn authenticates a client to Sendmail.
func logIn(t *testing.T, d *lab.Dialogue, user, password string) {
	t.Helper()
	d.Must(t, 235, d.Do(t, "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password))))
}

// playSendmail plays a client of any address, from a network of its own, and of any user, who
// authenticates with a password. TestRuleHours has the wishes of other times and of many recipients;
// Sendmail looks up a client's name itself, and there is no DNS.
func playSendmail(t *testing.T, g *ruleGate, wishes []wish) func(*testing.T, *wish) (int, bool) {
	var addresses []string
	users := map[string]string{}
	for _, w := range wishes {
		if ip, err := netip.ParseAddr(w.with["client"]); err == nil && !ip.IsLoopback() && !slices.Contains(addresses, ip.String()) {
			addresses = append(addresses, ip.String())
		}
		if user := w.with["auth"]; user != "" {
			users[user] = "secret of " + user
		}
	}
	network := lab.NewNetwork(t, addresses...)
	s := lab.StartSendmail(t, lab.SendmailOptions{
		Milter: "unix:" + g.socket, Aliases: map[string]string{"postmaster": "root"}, RelayDomains: []string{"example", "example.org", "example.net", "example.com"},
		Users: users, Network: network, IPv6: true,
	})
	return func(t *testing.T, w *wish) (int, bool) {
		if !w.needs("client auth helo size") {
			return 0, false
		}
		client, addr := cmp.Or(w.with["client"], lab.ClientHost), s.Addr()
		if strings.Contains(client, ":") {
			addr = s.Addr6()
		}
		var d *lab.Dialogue
		var err error
		network.Do(func() { d, err = lab.DialFrom("tcp", addr, client) })
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		d.Must(t, 220, d.Banner)
		if user := w.with["auth"]; user != "" {
			d.Must(t, 250, d.Do(t, "EHLO "+orUnknown(w.with["helo"])))
			logIn(t, d, user, users[user])
		}
		return converse(t, d, w), true
	}
}

// TestCompatIsSendmails gives one access map to a real Sendmail with FEATURE(compat_check) and to
// the rules, and puts 2,000 random pairs to both.
func TestCompatIsSendmails(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	names := []string{"ann", "bob", "ann+x", "b.c", "Dora", "x_y", "n123"}
	domains := []string{"in.test", "Sub.in.test", "out.example", "a-b.example"}
	pick := func(list []string) string { return list[r.IntN(len(list))] }
	address := func() string { return pick(names) + "@" + pick(domains) }
	sender := func() string {
		if r.IntN(8) == 0 {
			return ""
		}
		return address()
	}
	values := []string{
		"DISCARD", "DISCARD:gone", "discard", "DISCARD silently", "TEMP:450 Not now", "TEMP:451 4.7.1 Later", "TEMP:Not now", "ERROR:550 Go away", "ERROR:551 5.7.1 No", "error:550 lower", "OK", "ok", "RELAY", "ERROR", "TEMP", "FRIEND", "DISCARDED",
	}
	entries := map[string]string{"Connect:192.0.2.1": "REJECT", "To:ann@in.test": "REJECT", "Compat:@in.example<@>ann@out.test": "DISCARD"}
	for range 250 {
		from := sender()
		if from == "" {
			from = "<>"
		}
		entries[strings.ToLower("Compat:"+from+"<@>"+address())] = pick(values)
	}
	s := lab.StartSendmail(t, lab.SendmailOptions{Access: entries, Extra: "FEATURE(`compat_check')\nLOCAL_RULESETS\nSTranslate\nR$* $$| $*\t$: $1 $| $2\n"})
	type pair struct{ from, to string }
	var pairs []pair
	var lines []string
	for range 2000 {
		p := pair{sender(), address()}
		pairs = append(pairs, p)
		from, to := p.from, p.to
		if from == "" || r.IntN(3) == 0 {
			from = "<" + from + ">"
		}
		if r.IntN(3) == 0 {
			to = "<" + to + ">"
		}
		lines = append(lines, "Translate,check_compat "+from+" $| "+to)
	}
	said := regexp.MustCompile(`(?m)^check_compat\s+returns: (.*)$`).FindAllStringSubmatch(s.AddressTest(lines...), -1)
	if len(said) != len(pairs) {
		t.Fatalf("%d answers to %d questions", len(said), len(pairs))
	}
	check := ruleCheck(t, fmt.Sprintf("[rules]\naccess = [%q]\n", s.Table("hash", "access")))
	count := map[string]int{}
	for i, p := range pairs {
		q := &rcptgate.Query{Sender: p.from, Recipient: mail.Parse(p.to)}
		q.Target = q.Recipient
		v, err := check.Check(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		want := compatFate(said[i][1])
		count[want]++
		if v.Action.String() != want {
			t.Errorf("%s (%q): we say %s, Sendmail %s", lines[i], entries[strings.ToLower("Compat:"+p.from+"<@>"+p.to)], v.Action, said[i][1])
		}
	}
	for _, fate := range []string{"continue", "discard", "tempfail", "reject"} {
		if count[fate] < 20 {
			t.Errorf("only %d pairs are %s: %v", count[fate], fate, count)
		}
	}
	t.Logf("%v", count)
}

// compatFate is what a result of ruleset check_compat means.
func compatFate(result string) string {
	tokens := strings.Join(strings.Fields(result), " ")
	switch {
	case strings.HasPrefix(tokens, "$# discard"):
		return "discard"
	case strings.HasPrefix(tokens, "$# error $@ TEMPFAIL"):
		return "tempfail"
	case strings.HasPrefix(tokens, "$# error $@ UNAVAILABLE"):
		return "reject"
	}
	return "continue"
}

// ruleCheck gives the rules of a configuration.
func ruleCheck(t *testing.T, text string) rcptgate.Check {
	t.Helper()
	units := []unit.Unit{rules.Unit(), trusted.Unit()}
	schema, err := unit.Compose(units)
	if err != nil {
		t.Fatal(err)
	}
	c, err := unit.Parse(schema, "test.toml", fmt.Sprintf("state = %q\n%s", t.TempDir(), text))
	if err != nil {
		t.Fatal(err)
	}
	h, err := unit.Open(t.Context(), units, c, unit.Options{Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Stop)
	return h.Step(rcptgate.StageRcpt, "rules")
}
