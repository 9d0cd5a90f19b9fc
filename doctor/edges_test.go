// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcptgate/backend/sim"
)

// TestPrint: what is left out when one wants less or more, and that each domain is named once.
func TestPrint(t *testing.T) {
	r := &Report{Checks: 4, Findings: []Finding{{ID: "a", Level: OK, What: "fine"}, {ID: "b", Level: Note, What: "noted"}, {ID: "c", Level: Warn, What: "odd"}, {ID: "d", Level: OK, Domain: "example.com", What: "good"}}}
	calm := &Report{Checks: 2, Findings: r.Findings[:2]}
	for _, tt := range []struct {
		r              *Report
		quiet, verbose bool
		want           string
	}{
		{r, false, false, "this machine|odd|noted|✓ 1 check in order|example.com|✓ 1 check in order"},
		{r, true, false, "this machine|odd"},
		{r, false, true, "this machine|odd|noted|fine|example.com|good"},
		{r, true, true, "this machine|odd|fine|example.com|good"},
		{calm, false, false, "✓ everything is in order: 2 checks (--verbose lists them)"},
		{calm, true, false, ""},
	} {
		var out bytes.Buffer
		if err := tt.r.Print(&out, tt.quiet, tt.verbose); err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(out.String()) {
			for _, word := range []string{"this machine", "example.com", "odd", "noted", "fine", "good", "✓ 1 check in order", "✓ everything is in order: 2 checks (--verbose lists them)"} {
				if strings.Contains(line, word) {
					got = append(got, word)
				}
			}
		}
		if strings.Join(got, "|") != tt.want {
			t.Errorf("quiet %v, verbose %v: %q, want %q", tt.quiet, tt.verbose, got, tt.want)
		}
	}
}

// TestSystemResolver reads resolv.conf(5).
func TestSystemResolver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if r := SystemResolver(path); fmt.Sprint(r.Servers, r.Timeout, r.Attempts) != "[127.0.0.1:53] 5s 2" {
		t.Errorf("without a file: %+v", r)
	}
	for text, want := range map[string]string{
		"": "[127.0.0.1:53] 5s 2 0", "nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch a.example b.example\noptions timeout:1 attempts:3\n": "[192.0.2.1:53 [2001:db8::1]:53] 1s 3 2",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := SystemResolver(path); fmt.Sprint(r.Servers, " ", r.Timeout, " ", r.Attempts, " ", r.Search) != want {
			t.Errorf("%q: %+v, want %s", text, r, want)
		}
	}
}

// TestQuestionsAreBounded: an answer is remembered, one that did not come because time was up is not,
// and beyond the bound nothing is asked.
func TestQuestionsAreBounded(t *testing.T) {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	r := &Resolver{Servers: []string{"192.0.2.1:53"}, Timeout: time.Second, Attempts: 3}
	if a := r.ask(gone, "a.example", 1); !errors.Is(a.err, context.Canceled) || len(r.answers) != 0 {
		t.Errorf("%+v, %d remembered", a, len(r.answers))
	}
	known := &answer{}
	r.answers[question{"a.example.", 1}] = known
	if a := r.ask(gone, "A.example", 1); a != known {
		t.Errorf("asked again: %+v", a)
	}
	for i := range maxQuestions {
		r.answers[question{fmt.Sprint(i), 1}] = known
	}
	if a := r.ask(gone, "b.example", 1); !errors.Is(a.err, errTooMany) {
		t.Errorf("beyond the bound: %v", a.err)
	}
	if a := r.ask(gone, "a.example", 1); a != known {
		t.Errorf("what is known is lost beyond the bound: %+v", a)
	}
}

// TestWhereSendmailWritesItsDomains: the line of a word in a class, and files that are missing.
func TestWhereSendmailWritesItsDomains(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sendmail.cf")
	text := sendmailCf + "Cwlocalhost Example.com\nCRrelay.example\nC{VirtHost}virt.example\nO AliasFile=" + dir + "/absent," + dir + "/there\n"
	text = strings.ReplaceAll(text, "FwDIR/local-host-names", "Fw"+dir+"/local-host-names")
	for name, content := range map[string]string{"sendmail.cf": text, "there": "a: b\n", "local-host-names": "listed.example\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m, err := readSendmail(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	for domain, want := range map[string]string{"example.com": "sendmail.cf:7", "relay.example": "sendmail.cf:8", "virt.example": "sendmail.cf:9", "listed.example": "local-host-names:1"} {
		found := ""
		for _, p := range m.Places {
			if p.Domain == domain {
				found += fmt.Sprintf("%s:%d", filepath.Base(p.File), p.Line)
			}
		}
		if found != want {
			t.Errorf("%s: %q, want %q", domain, found, want)
		}
	}
	if len(m.Bad) != 1 || !strings.Contains(m.Bad[0].What, "/absent does not exist") {
		t.Errorf("%+v", m.Bad)
	}
}

// TestWhomClientsHadNamed: the domain counted is that of the same session's recipient.
func TestWhomClientsHadNamed(t *testing.T) {
	for name, tt := range map[string]struct{ log, want string }{
		"Postfix":            {"h postfix/smtpd[7]: NOQUEUE: reject: RCPT from x[192.0.2.1]: 451 to=<Ann@Example.com> proto=ESMTP\nh postfix/smtpd[7]: lost connection after RCPT from x[192.0.2.1]\n", "map[example.com:1]"},
		"Sendmail":           {"h sm-mta[9]: 5AS80abc012345: ruleset=check_rcpt, arg1=<ann@example.com>, relay=x [192.0.2.1]\nh sm-mta[9]: 5AS80abc012345: lost input channel from x [192.0.2.1] to MTA after rcpt\n", "map[example.com:1]"},
		"another process":    {"h postfix/smtpd[7]: NOQUEUE: to=<ann@example.com> x\nh postfix/smtpd[8]: lost connection after RCPT from x[192.0.2.1]\n", "map[]"},
		"another client":     {"h postfix/smtpd[7]: NOQUEUE: to=<ann@example.com> x\nh postfix/smtpd[7]: connect from y[192.0.2.2]\nh postfix/smtpd[7]: lost connection after RCPT from y[192.0.2.2]\n", "map[]"},
		"no domain":          {"h postfix/smtpd[7]: NOQUEUE: to=<postmaster> x\nh postfix/smtpd[7]: lost connection after RCPT from x[192.0.2.1]\n", "map[]"},
		"no end":             {"h postfix/smtpd[7]: NOQUEUE: to=<ann@example.com\nh postfix/smtpd[7]: lost connection after RCPT from x[192.0.2.1]\n", "map[]"},
		"no session":         {"to=<ann@example.com>\nlost connection after RCPT from x[192.0.2.1]\n", "map[]"},
		"words, not an id":   {"h sm-mta[9]: no id here: to=<ann@example.com>\nh sm-mta[9]: no id here: lost input channel from x [192.0.2.1] to MTA after rcpt\n", "map[]"},
		"the last one named": {"h postfix/smtpd[7]: NOQUEUE: to=<a@one.example> x\nh postfix/smtpd[7]: NOQUEUE: to=<b@two.example> x\nh postfix/smtpd[7]: lost connection after RCPT from x[192.0.2.1]\n", "map[two.example:1]"},
	} {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(tt.log), 0o600); err != nil {
			t.Fatal(err)
		}
		d := &Doctor{Logs: []string{path}}
		if d.readLogs(); fmt.Sprint(d.lost.domains) != tt.want || d.lost.total != 1 {
			t.Errorf("%s: %v of %d, want %s", name, d.lost.domains, d.lost.total, tt.want)
		}
	}
	l := lost{named: map[string]string{}}
	for i := range maxClients + 10 {
		l.note(fmt.Sprint(i), " to=<a@b.example>")
	}
	if len(l.named) > maxClients {
		t.Errorf("%d sessions", len(l.named))
	}
}

// TestPatience: the shortest time that somebody waits counts.
func TestPatience(t *testing.T) {
	for _, tt := range []struct {
		d    Doctor
		want time.Duration
	}{
		{Doctor{}, 30 * time.Second}, {Doctor{Deadline: 8 * time.Second}, 8 * time.Second}, {Doctor{Deadline: 60 * time.Second}, 30 * time.Second},
		{Doctor{Deadline: 8 * time.Second, MTAs: []*MTA{{Timeout: 10}, {Timeout: 5}}}, 5 * time.Second},
	} {
		if got := tt.d.patience(); got != tt.want {
			t.Errorf("%v, want %v", got, tt.want)
		}
	}
}

// TestSlowServers: a resolver's server that never answers is a failure, one that sometimes does not
// a warning, and of one that was not asked nothing is said.
func TestSlowServers(t *testing.T) {
	for _, tt := range []struct {
		timing timing
		want   Level
	}{
		{timing{}, ""}, {timing{asked: 3, lost: 3}, Fail}, {timing{asked: 3, lost: 1}, Warn}, {timing{asked: 3, failed: 1}, Warn}, {timing{asked: 3, slowest: 2 * time.Second}, Warn}, {timing{asked: 3, slowest: time.Millisecond}, OK},
	} {
		d := &Doctor{DNS: &Resolver{timings: map[string]*timing{"192.0.2.1:53": &tt.timing}}}
		d.lost.total = 7
		d.slowServer("192.0.2.1:53", time.Minute)
		var got Level
		for _, f := range d.report.Findings {
			if got = f.Level; f.Level != OK && !strings.Contains(f.Matters, "7 clients") {
				t.Errorf("%+v", f)
			}
		}
		if got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.timing, got, tt.want)
		}
	}
}

// TestNameInEHLO compares the name with this machine's addresses.
func TestNameInEHLO(t *testing.T) {
	for want, p := range map[string]place{
		"is the address of another machine": {zone: "mx1.example.org. A 198.51.100.9\n"},
		"has no address":                    {zone: "other.example.org. A 198.51.100.9\n"},
		"is not a full name":                {zone: healthy, edit: func(d *Doctor) { d.Hostname = "mx1" }},
		"cannot be read":                    {zone: healthy, edit: func(d *Doctor) { d.DNS.Servers = []string{"127.0.0.1:1"}; d.DNS.Timeout = 50 * time.Millisecond }},
		"is this machine's":                 {zone: healthy, edit: func(d *Doctor) { d.FromIP, d.Self = netip.Addr{}, []netip.Addr{netip.MustParseAddr("192.0.2.80")} }},
	} {
		says := ""
		for _, f := range p.run(t, "example.com").Findings {
			if f.ID == "helo" {
				says += f.What + "; "
			}
		}
		if !strings.Contains(says, want) {
			t.Errorf("%q, want %q", says, want)
		}
	}
}

// TestWhoGaveUp: the client as the log writes it.
func TestWhoGaveUp(t *testing.T) {
	for line, want := range map[string]string{
		"h postfix/smtpd[7]: lost connection after RCPT from mx.example.net[192.0.2.1]":                  "mx.example.net[192.0.2.1]",
		"h postfix/smtpd[7]: timeout after RCPT from unknown[192.0.2.1]":                                 "unknown[192.0.2.1]",
		"h sm-mta[9]: 5AS80abc: lost input channel from mx.example.net [192.0.2.1] to MTA after rcpt":    "mx.example.net [192.0.2.1]",
		"h sm-mta[9]: 5AS80abc: lost input channel from [192.0.2.1] to MTA after rcpt":                   "[192.0.2.1]",
		"h sm-mta[9]: 5AS80abc: lost input channel from mx.example.net [192.0.2.1] to MTA after startup": "",
		"h postfix/smtpd[7]: lost connection after DATA from mx.example.net[192.0.2.1]":                  "",
		"h postfix/smtpd[7]: lost connection after RCPT from ":                                           "",
	} {
		if got := gaveUp(line); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

// TestEximLists: only names of domains are taken from a list, and only from lists of domains.
func TestEximLists(t *testing.T) {
	path := filepath.Join(t.TempDir(), "exim.conf")
	text := "domainlist local_domains = @ : one.example : !not.example : *.wild.example : ${lookup{x}} : +other : /etc/list : Two.example :: \\\n three.example\nhostlist relay = four.example\naddresslist x = five.example\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := readExim(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range m.Places {
		got = append(got, fmt.Sprintf("%s:%d", p.Domain, p.Line))
	}
	if strings.Join(got, " ") != "one.example:1 two.example:1 three.example:2" {
		t.Errorf("%q", got)
	}
}

// TestMilterThatIsNotAsked: why the gate is not asked, with each line once, and a socket that another
// entry asks well counts for one that is not asked.
func TestMilterThatIsNotAsked(t *testing.T) {
	listed := func(d *Doctor, id string) *Finding {
		for i := range d.report.Findings {
			if f := &d.report.Findings[i]; f.ID == id {
				return f
			}
		}
		return &Finding{}
	}
	gate := func(sockets ...string) *Doctor { return &Doctor{Gate: &Gate{File: "rcptgate.toml", Sockets: sockets}} }
	other := milter{line: "main.cf:3 smtpd_milters", socket: parseSocket("inet:127.0.0.1:9999")}
	unused := milter{line: "main.cf:4 x", socket: parseSocket("inet:127.0.0.1:8890"), unused: "it is switched off"}
	used := milter{line: "main.cf:5 y", socket: parseSocket("inet:127.0.0.1:8890")}

	d := gate("inet:8890@127.0.0.1")
	d.gateMilter(&MTA{Name: "Postfix", File: "main.cf", Milters: []milter{other, other}})
	if f := listed(d, "gate-milter"); f.Level != Fail || strings.Join(f.Seen, "|") != "main.cf|main.cf:3 smtpd_milters" || !strings.Contains(f.Do[0], "smtpd_milters = { inet:127.0.0.1:8890") {
		t.Errorf("%+v", f)
	}
	d = gate()
	d.gateMilter(&MTA{Name: "Postfix", File: "main.cf"})
	if f := listed(d, "gate-milter"); !strings.Contains(f.What, "listens on no milter socket") || !strings.Contains(f.Do[0], "[listen]") {
		t.Errorf("%+v", f)
	}
	d = gate("inet:8890@127.0.0.1")
	d.gateMilter(&MTA{Name: "Postfix", File: "main.cf", Milters: []milter{unused}})
	if f := listed(d, "gate-milter"); f.Level != Fail || !strings.Contains(f.What, "switched off") {
		t.Errorf("%+v", f)
	}
	for _, both := range [][]milter{{unused, used}, {used, unused}} {
		d = gate("inet:8890@127.0.0.1")
		d.gateMilter(&MTA{Name: "Postfix", File: "main.cf", Milters: both})
		if f := listed(d, "gate-milter"); f.Level != OK || !strings.Contains(f.What, "main.cf:5") {
			t.Errorf("%+v", f)
		}
	}
	for chroot, want := range map[bool]string{true: "smtpd runs in a chroot", false: "smtpd does not run in a chroot"} {
		d = gate("unix:/run/gate.sock")
		d.gateChroot(&MTA{Name: "Postfix", File: "main.cf", Chroot: chroot}, &milter{socket: parseSocket("unix:gate.sock")}, parseSocket("unix:/run/gate.sock"))
		if f := listed(d, "gate-chroot"); !strings.Contains(f.What, want) {
			t.Errorf("%+v", f)
		}
	}
}

// TestGateInWords: what is said of the gate's own file, and of a domain without a section.
func TestGateInWords(t *testing.T) {
	for _, tt := range []struct {
		gate Gate
		want string
	}{
		{Gate{Enforce: true}, "is in order|the gate does not ask about it"},
		{Gate{Enforce: true, FollowMTA: true}, "is in order|next hop is in brackets"},
		{Gate{Enforce: true, Warnings: []string{"odd setting"}}, "odd setting|the gate does not ask about it"},
		{Gate{}, "is in order|the gate rehearses|the gate does not ask about it"},
	} {
		d := &Doctor{Gate: &tt.gate}
		d.gate(context.Background())
		d.route("example.com")
		words := strings.Split(tt.want, "|")
		if len(d.report.Findings) != len(words) {
			t.Errorf("%+v", d.report.Findings)
			continue
		}
		for i, f := range d.report.Findings {
			if !strings.Contains(f.What, words[i]) {
				t.Errorf("%q, want %q", f.What, words[i])
			}
		}
	}
}

// TestServersBehind are reached over TCP and unix sockets, by SMTP and LMTP.
func TestServersBehind(t *testing.T) {
	for _, c := range []sim.Config{{}, {LMTP: true}, {Network: "unix", Address: filepath.Join(t.TempDir(), "s")}, {Network: "unix", Address: filepath.Join(t.TempDir(), "l"), LMTP: true}} {
		report := place{zone: healthy, backend: &c}.run(t, "example.com")
		talked := false
		for _, f := range report.Findings {
			if !strings.HasPrefix(f.ID, "backend") {
				continue
			}
			if talked = true; f.Level == Fail || f.Level == Unknown {
				t.Errorf("%s, LMTP %v: %+v", c.Network, c.LMTP, f)
			}
		}
		if !talked {
			t.Errorf("%s, LMTP %v: nothing is said of the server", c.Network, c.LMTP)
		}
	}
}
