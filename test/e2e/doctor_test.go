// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"rcptgate/backend/sim"
	"rcptgate/doctor"
	"rcptgate/doctor/zonetest"
	"rcptgate/test/lab"
)

// diagnose runs the doctor for a domain, behind another program if one is given.
func diagnose(t *testing.T, g *lab.Gate, program []string, args ...string) (r doctor.Report, code int) {
	t.Helper()
	out, errs, code := g.CommandAs(program, append([]string{"doctor", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("exit code %d, %v\n%s%s", code, err, out, errs)
	}
	return r, code
}

// The doctor looks at real servers behind: those that know their users, those that take everybody, and those that do not
// know the domain, each in the words of its make.
func TestDoctorLooksAtServersBehind(t *testing.T) {
	lab.Need(t, lab.PostfixKit, lab.SendmailKit, lab.EximKit, lab.DovecotKit)
	postfix := lab.StartPostfix(t, lab.PostfixOptions{
		Name: "behind", Hostname: "mail.behind.test", Mailboxes: []string{"good@postfix.test", "good@all.test"}, VirtualAliases: map[string]string{"@all.test": "good@all.test"},
	})
	sendmail := lab.StartSendmail(t, lab.SendmailOptions{Name: "behind-sendmail", Hostname: "mail.sendmail.test", LocalDomains: []string{"sendmail.test"}})
	exim := lab.StartExim(t, "good@exim.test")
	dovecot := lab.StartDovecot(t, lab.DovecotOptions{Users: []string{"good@dovecot.test"}})
	silent := sim.New(sim.Config{Behaviour: sim.Behaviour{Faults: map[sim.Stage]sim.Fault{sim.Banner: {Kind: sim.Say, Reply: "554 5.3.2 go away"}}}})
	if err := silent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(silent.Stop)
	at := func(address string) string {
		host, port, _ := strings.Cut(address, ":")
		return "[" + host + "]:" + port
	}
	servers := []struct{ domain, backend, finding string }{
		{"postfix.test", "smtp:" + at(postfix.Addr()), "backend-unknown"},
		{"all.test", "smtp:" + at(postfix.Addr()), "backend-accept-all"},
		{"not-postfix.test", "smtp:" + at(postfix.Addr()), "backend-relay"},
		{"sendmail.test", "smtp:" + at(sendmail.Addr()), "backend-unknown"},
		{"not-sendmail.test", "smtp:" + at(sendmail.Addr()), "backend-accept-all"}, // it relays for clients on its own machine
		{"exim.test", "smtp:" + at(exim.Addr()), "backend-unknown"},
		{"not-exim.test", "smtp:" + at(exim.Addr()), "backend-relay"},
		{"dovecot.test", "lmtp:unix:" + dovecot.Socket, "backend-unknown"},
		{"silent.test", "smtp:" + at(silent.Addr()), "backend-greeting"},
		{"gone.test", "smtp:[127.0.0.1]:1", "backend-down"},
	}
	zone, config := "mx.gate.test. A 192.0.2.80\n80.2.0.192.in-addr.arpa. PTR mx.gate.test.\n", ""
	for _, s := range servers {
		config += section(s.domain, s.backend)
		zone += s.domain + ". MX 10 mx.gate.test.\n" + s.domain + ". TXT \"v=spf1 ip4:192.0.2.80 -all\"\n_dmarc." + s.domain + ". TXT \"v=DMARC1; p=none\"\n"
	}
	resolver, stop, err := zonetest.Start(zone)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	g := lab.StartGate(t, config)
	for _, s := range servers {
		t.Run(s.domain, func(t *testing.T) {
			r, code := diagnose(t, g, nil, s.domain, "--verbose", "--resolver", resolver, "--helo", "mx.gate.test", "--from-ip", "192.0.2.80")
			var ids []string
			for _, f := range r.Findings {
				if strings.HasPrefix(f.ID, "backend-") && f.ID != "backend-ehlo" && f.ID != "backend-cert" && f.ID != "backend-pipelining" && (f.ID != "backend-reset" || f.Level != doctor.OK) {
					ids = append(ids, f.ID)
				}
			}
			wantCode := 78
			if s.finding == "backend-unknown" {
				wantCode = 0
			}
			if strings.Join(ids, " ") != s.finding || code != wantCode {
				t.Errorf("findings %v, exit code %d; want %s, %d\n%+v", ids, code, s.finding, wantCode, r.Findings)
			}
		})
	}
}

// A list that the person who runs the doctor may not read is named, with what to do about it; nothing else is said of it.
func TestDoctorMayNotRead(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be somebody else")
	}
	resolver, stop, err := zonetest.Start("mx.gate.test. A 192.0.2.80\n80.2.0.192.in-addr.arpa. PTR mx.gate.test.\n")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	dir, err := os.MkdirTemp("/tmp", "rcptgate-doctor")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for name, mode := range map[string]os.FileMode{"main.cf": 0o644, "domains": 0o600} {
		text := "myhostname = mx.gate.test\nmydestination = " + dir + "/domains\n"
		if name == "domains" {
			text = "example.com\n"
		}
		if err := os.WriteFile(dir+"/"+name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	g := lab.StartGate(t, "")
	for _, person := range []struct {
		program []string
		found   bool
	}{{nil, false}, {[]string{"setpriv", "--reuid=65534", "--clear-groups"}, true}} {
		out, errs, _ := g.CommandAs(person.program, "doctor", "--postfix", dir, "--resolver", resolver, "--helo", "mx.gate.test", "--from-ip", "192.0.2.80")
		if got := strings.Contains(out, dir+"/domains") && strings.Contains(out, "permission denied"); got != person.found {
			t.Errorf("%v: says that the list cannot be read: %v, want %v\n%s%s", person.program, got, person.found, out, errs)
		}
	}
}
