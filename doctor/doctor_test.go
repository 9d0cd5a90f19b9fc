// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"rcptgate/backend/sim"
	"rcptgate/doctor/zonetest"
	"rcptgate/kit/exit"
	"rcptgate/route"
)

// healthy is a zone in which nothing is wrong: mx1.example.org (192.0.2.80) takes mail for
// example.com and sends it.
const healthy = `
mx1.example.org. A 192.0.2.80
80.2.0.192.in-addr.arpa. PTR mx1.example.org.
example.com. MX 10 mx1.example.org.
example.com. TXT "v=spf1 ip4:192.0.2.80 -all"
_dmarc.example.com. TXT "v=DMARC1; p=none"
`

// place is an installation that a case changes.
type place struct {
	zone    string
	files   map[string]string // main.cf, sendmail.cf, exim.conf, lists, logs
	domains []route.DomainConfig
	gate    bool
	edit    func(*Doctor)
	backend *sim.Config
}

// run builds the installation and has the doctor look at it.
func (p place) run(t testing.TB, domains ...string) *Report {
	t.Helper()
	dir := t.TempDir()
	resolver, stop, err := zonetest.Start(p.zone)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	for name, text := range p.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := &Doctor{Hostname: "mx1.example.org", FromIP: netip.MustParseAddr("192.0.2.80"), Now: time.Now,
		DNS: &Resolver{Servers: []string{resolver}, Timeout: 2 * time.Second, Attempts: 1}}
	for name, read := range map[string]func(string) (*MTA, error){
		"main.cf":     func(path string) (*MTA, error) { return readPostfix(context.Background(), path) },
		"sendmail.cf": func(path string) (*MTA, error) { return readSendmail(context.Background(), path) }, "exim.conf": readExim,
	} {
		if p.files[name] != "" {
			m, err := read(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			d.MTAs = append(d.MTAs, m)
		}
	}
	if p.files["maillog"] != "" {
		d.Logs = []string{filepath.Join(dir, "maillog")}
	}
	if p.gate || p.domains != nil || p.backend != nil {
		d.Gate = &Gate{File: "rcptgate.toml", Deadline: 8 * time.Second, Enforce: true, Domains: p.domains, Sockets: []string{"inet:8890@127.0.0.1"}}
	}
	if p.backend != nil {
		server := sim.New(*p.backend)
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(server.Stop)
		d.Gate.Domains = []route.DomainConfig{{Name: "example.com", Backend: []string{server.Backend()}}}
	}
	if p.edit != nil {
		p.edit(d)
	}
	return d.Run(context.Background(), domains)
}

const (
	milters    = "smtpd_milters = inet:127.0.0.1:8890\n"
	hosted     = "example.com. MX 1 aspmx.l.google.com.\naspmx.l.google.com. A 198.51.100.1\n" + names + spfOK
	sendmailCf = "O MaxAliasRecursion=10\nO InputMailFilters=rcptgate\nMlocal, P=/usr/bin/procmail, F=l\nDjmx1.example.org\nFwDIR/local-host-names\nXrcptgate, S=inet:8890@127.0.0.1, F=T, T=S:10s;R:10s\n"
)

// cases are broken installations, and the finding that each must give.
var cases = []struct {
	name string
	id   string
	p    place
	says []string // in the finding, with its lines
}{
	{"the blog: mail at Google, the web server delivers it itself (Sendmail)", "mx-elsewhere",
		place{zone: "example.com. MX 1 aspmx.l.google.com.\naspmx.l.google.com. A 198.51.100.1\n" + names + spfOK, files: map[string]string{"sendmail.cf": sendmailCf, "local-host-names": "# ours\nwww.example.org\nexample.com\n"}},
		[]string{"Google Workspace", "local-host-names:3", "remove line 3"}},
	{"the same for Postfix", "mx-elsewhere",
		place{zone: "example.com. MX 1 aspmx.l.google.com.\naspmx.l.google.com. A 198.51.100.1\n" + names + spfOK, files: map[string]string{"main.cf": "myhostname = mx1.example.org\nmydestination = $myhostname, example.com\n" + milters}},
		[]string{"main.cf:2", "take example.com out of mydestination"}},
	{"the same for Exim on Debian", "mx-elsewhere",
		place{zone: "example.com. MX 1 mx.zoho.com.\nmx.zoho.com. A 198.51.100.1\n" + names + spfOK, files: map[string]string{"exim.conf": "dc_eximconfig_configtype='internet'\ndc_other_hostnames='localhost;example.com'\n"}},
		[]string{"Zoho", "exim.conf:2", "Exim: take example.com out of dc_other_hostnames", "update-exim4.conf", "dnslookup router"}},
	{"the same for Exim's own file, in a list of several lines", "mx-elsewhere",
		place{zone: hosted, files: map[string]string{"exim.conf": "domainlist local_domains = @ : \\\n  mx1.example.org : \\\n  # ours\n  example.com\nlocal_interfaces = <; ::1\n"}},
		[]string{"exim.conf:4", "Exim: take example.com out of the domain list local_domains"}},
	{"the same for Exim's list with another separator", "mx-elsewhere",
		place{zone: hosted, files: map[string]string{"exim.conf": "domainlist local_domains = <; @ ; example.com\n"}}, []string{"exim.conf:1"}},
	{"the same for a virtual domain of Sendmail", "mx-elsewhere",
		place{zone: hosted, files: map[string]string{"sendmail.cf": sendmailCf + "C{VirtHost}example.com\n", "local-host-names": ""}}, []string{"sendmail.cf:7", "VIRTUSER_DOMAIN"}},
	{"a domain in two classes of Postfix", "local-twice",
		place{zone: healthy, files: map[string]string{"main.cf": "mydestination = example.com\nvirtual_alias_domains = example.com\n" + milters}}, []string{"main.cf:1", "main.cf:2"}},
	{"a section, but no MX points here", "mx-not-us",
		place{zone: "example.com. MX 1 other.example.net.\nother.example.net. A 198.51.100.1\n" + names + spfOK, domains: section}, []string{"other.example.net"}},
	{"a section, but mail is hosted", "mx-not-us",
		place{zone: "example.com. MX 1 example-com.mail.protection.outlook.com.\nexample-com.mail.protection.outlook.com. A 198.51.100.1\n" + names + spfOK, domains: section}, []string{"Microsoft 365"}},
	{"a null MX for a domain that we take", "mx-null",
		place{zone: "example.com. MX 0 .\n" + names + spfOK, domains: section}, []string{"takes no mail"}},
	{"an MX without address", "mx-target",
		place{zone: healthy + "example.com. MX 20 gone.example.net.\n"}, []string{"gone.example.net has no address"}},
	{"an MX that is an alias", "mx-target",
		place{zone: healthy + "example.com. MX 20 alias.example.net.\nalias.example.net. CNAME mx1.example.org.\n"}, []string{"CNAME"}},
	{"an MX with a private address", "mx-target",
		place{zone: healthy + "example.com. MX 20 in.example.net.\nin.example.net. A 10.0.0.1\n"}, []string{"private address"}},
	{"an MX that is an address", "mx-target",
		place{zone: healthy + "example.com. MX 20 192.0.2.80.\n"}, []string{"must be a name"}},
	{"no SPF", "spf-none", place{zone: "example.com. MX 10 mx1.example.org.\n" + names}, []string{"v=spf1 mx ip4:192.0.2.80 ~all"}},
	{"two SPF records", "spf-many", place{zone: healthy + "example.com. TXT \"v=spf1 mx -all\"\n"}, []string{"2 SPF records"}},
	{"SPF with a word that means nothing", "spf-syntax", place{zone: strings.Replace(healthy, "-all", "ipv4:192.0.2.1 -all", 1)}, []string{"ipv4:192.0.2.1"}},
	{"SPF that includes nothing", "spf-syntax", place{zone: strings.Replace(healthy, "-all", "include:gone.example.net -all", 1)}, []string{"include:gone.example.net"}},
	{"SPF for everybody", "spf-plusall", place{zone: strings.Replace(healthy, "-all", "+all", 1)}, []string{"~all"}},
	{"SPF with ptr", "spf-ptr", place{zone: strings.Replace(healthy, "-all", "ptr -all", 1)}, []string{"ip4:"}},
	{"SPF that misses this host", "spf-missing-us",
		place{zone: strings.Replace(healthy, "ip4:192.0.2.80", "include:_spf.google.com", 1) + "_spf.google.com. TXT \"v=spf1 ip4:198.51.100.0/24 ~all\"\n"},
		[]string{"192.0.2.80", "fail", `"v=spf1 ip4:192.0.2.80 include:_spf.google.com -all"`, "1 of 10"}},
	{"SPF with too many look-ups", "spf-lookups", place{zone: strings.Replace(healthy, "-all", manyIncludes(11)+" -all", 1) + includes(11)}, []string{"11 of 10", "include:i3.example.net"}},
	{"SPF whose terms find nothing", "spf-void", place{zone: strings.Replace(healthy, "-all", "a:x1.example.net a:x2.example.net a:x3.example.net -all", 1)}, []string{"3 look-ups", "finds nothing"}},
	{"no name for the address", "ptr", place{zone: strings.Replace(healthy, "80.2.0.192.in-addr.arpa. PTR mx1.example.org.", "", 1)}, []string{"80.2.0.192.in-addr.arpa. PTR mx1.example.org."}},
	{"a name that does not lead back", "ptr", place{zone: strings.Replace(healthy, "PTR mx1.example.org.", "PTR other.example.net.", 1)}, []string{"does not lead back"}},
	{"half a name in EHLO", "helo", place{zone: healthy, edit: func(d *Doctor) { d.Hostname = "mx1" }}, []string{"not a full name"}},
	{"a name in EHLO without address", "helo", place{zone: healthy, edit: func(d *Doctor) { d.Hostname = "mx9.example.org" }}, []string{"has no address"}},
	{"a resolver that does not answer", "dns-slow", place{zone: healthy + ";* drop\n", edit: func(d *Doctor) { d.DNS.Timeout = 50 * time.Millisecond }}, []string{"did not answer"}},
	{"a slow resolver", "dns-slow", place{zone: healthy + ";example.com delay\n"}, []string{"took 1."}},
	{"a resolver that fails", "dns-slow", place{zone: healthy + ";_dmarc.example.com servfail\n"}, []string{"SERVFAIL"}},
	{"the blog: lost input channel", "lost-channel",
		place{zone: healthy, files: map[string]string{"maillog": "Nov 28 10:00:00 mx sm-mta[1]: 5A: lost input channel from pc7.example.net [198.51.100.7] to MTA after rcpt\n"}}, []string{"maillog:1", "pc7.example.net [198.51.100.7]", "nocanonify"}},
	{"the same in Postfix's words", "lost-channel",
		place{zone: healthy, files: map[string]string{"maillog": "Nov 28 10:00:00 mx postfix/smtpd[1]: lost connection after RCPT from pc7.example.net[198.51.100.7]\n"}}, []string{"pc7.example.net[198.51.100.7]"}},
	{"whose recipients they were (Sendmail)", "lost-channel",
		place{zone: healthy, files: map[string]string{"maillog": "Nov 28 10:00:00 mx sm-mta[1]: 5A1: ruleset=check_rcpt, arg1=<ann@example.com>, relay=pc7.example.net [198.51.100.7], reject=451 4.7.1 later\nNov 28 10:00:01 mx sm-mta[2]: 5A2: ruleset=check_rcpt, arg1=<x@other.example>, reject=550\n" +
			strings.Repeat("Nov 28 10:00:09 mx sm-mta[1]: 5A1: lost input channel from pc7.example.net [198.51.100.7] to MTA after rcpt\n", 2)}}, []string{"2 from pc7.example.net", "2 after a recipient in example.com"}},
	{"whose recipients they were (Postfix)", "lost-channel",
		place{zone: healthy, files: map[string]string{"maillog": "Nov 28 10:00:00 mx postfix/smtpd[7]: connect from a[192.0.2.1]\nNov 28 10:00:00 mx postfix/smtpd[7]: NOQUEUE: milter-reject: RCPT from a[192.0.2.1]: 451 4.4.1 later; from=<b@c.example> to=<Ann@Example.com> proto=ESMTP\nNov 28 10:00:09 mx postfix/smtpd[7]: lost connection after RCPT from a[192.0.2.1]\n" +
			"Nov 28 10:01:00 mx postfix/smtpd[7]: connect from b[192.0.2.2]\nNov 28 10:01:09 mx postfix/smtpd[7]: lost connection after RCPT from b[192.0.2.2]\n"}}, []string{"1 from a[192.0.2.1]", "1 after a recipient in example.com"}},
	{"a server that takes every name", "backend-accept-all", place{zone: healthy, backend: &sim.Config{Behaviour: sim.Behaviour{AcceptAll: true}}}, []string{"made-up name", "relay_recipient_maps"}},
	{"a server that does not know the domain (Postfix)", "backend-relay", refusing("454 4.7.1 <x@example.com>: Relay access denied"), []string{"does not take mail for the domain"}},
	{"a server that does not know the domain (Exim)", "backend-relay", refusing("550 relay not permitted"), []string{"does not take mail for the domain"}},
	{"a server that puts off unknown names", "backend-defers", refusing("450 4.1.1 try later"), []string{"deferred"}},
	{"a server that refuses the null sender", "backend-null", faulty(sim.Mail, sim.Fault{Kind: sim.Say, Reply: "550 5.7.1 no bounces"}), []string{"550 5.7.1 no bounces", "RFC 5321"}},
	{"a server that refuses both senders", "backend-fallback", faulty(sim.Mail, sim.Fault{Kind: sim.Say, Reply: "550 5.7.1 no bounces"}), []string{"MAIL FROM:<postmaster@mx1.example.org>", "fallback_sender"}},
	{"a server that ends the connection after a question", "backend-reset", place{zone: healthy, backend: &sim.Config{Behaviour: sim.Behaviour{DropAfterRset: true}}}, []string{"ends the connection", "connection of its own"}},
	{"a server without RSET", "backend-reset", place{zone: healthy, backend: &sim.Config{Behaviour: sim.Behaviour{NoRset: true}}}, []string{"502 5.5.1"}},
	{"a route by MX that leaves nobody", "mx-loop",
		place{zone: healthy + "example.com. MX 20 mx2.example.net.\nmx2.example.net. A 198.51.100.9\n", domains: []route.DomainConfig{{Name: "example.com", Backend: []string{"mx"}}}},
		[]string{"no MX is preferred", "example.com. MX 10 mx1.example.org.", `backend = ["smtp:[ADDRESS]:25"]`}},
	{"an MTA-STS policy that does not list an MX", "mta-sts", sts("version: STSv1\r\nmode: enforce\r\nmx: *.mx1.example.org\r\nmx: mail.example.com\r\nmax_age: 86400\r\n", nil), []string{"does not list mx1.example.org", "mail stops", "mx: mx1.example.org", "/.well-known/mta-sts.txt"}},
	{"the same while testing", "mta-sts", sts("version: STSv1\nmode: testing\nmx: mail.example.com\n", nil), []string{"does not list mx1.example.org", "once the mode is enforce"}},
	{"an MTA-STS policy that cannot be read", "mta-sts", sts("", errors.New("connection refused")), []string{"connection refused", "https://mta-sts.example.com/.well-known/mta-sts.txt"}},
	{"an MTA-STS policy without a mode", "mta-sts", sts("<html>", nil), []string{`the mode ""`}},
	{"two MTA-STS records", "mta-sts", place{zone: healthy + stsRecord + stsRecord[:len(stsRecord)-2] + " \"\n"}, []string{"2 MTA-STS records"}},
	{"an MTA-STS record that cannot be read", "mta-sts", place{zone: healthy + ";_mta-sts.example.com servfail\n"}, []string{"cannot be read"}},
	{"nobody who hears of failing TLS", "tlsrpt", place{zone: healthy + stsRecord}, []string{"_smtp._tls.example.com. TXT \"v=TLSRPTv1; rua=mailto:postmaster@example.com\""}},
	{"a TLSRPT record that cannot be read", "tlsrpt", place{zone: healthy + stsRecord + ";_smtp._tls.example.com servfail\n"}, []string{"cannot be read"}},
	{"TLSA records without DNSSEC", "dane", place{zone: healthy + tlsa}, []string{"_25._tcp.mx1.example.org. TLSA", "DNSSEC"}},
	{"a server that breaks off", "backend-smtp", faulty(sim.Hello, sim.Fault{Kind: sim.Drop}), []string{"broke off"}},
	{"a server whose TLS fails", "backend-tls", place{zone: healthy, backend: &sim.Config{Behaviour: sim.Behaviour{STARTTLS: sim.TLSDrop}}}, []string{"fails", "without TLS"}},
	{"a server that does not begin TLS", "backend-tls", place{zone: healthy, backend: &sim.Config{Behaviour: sim.Behaviour{STARTTLS: sim.TLSRefuse}}}, []string{"does not begin it (454)"}},
	{"a slow server", "backend-slow",
		place{zone: healthy, backend: &sim.Config{Behaviour: sim.Behaviour{Delays: map[sim.Stage]time.Duration{sim.Rcpt: 200 * time.Millisecond}}}, edit: func(d *Doctor) { d.slow = 100 * time.Millisecond }},
		[]string{"took ", " s for RCPT TO", "waits as long"}},
	{"a gate in rehearsal", "gate-rehearses", place{zone: healthy, gate: true, edit: func(d *Doctor) { d.Gate.Enforce = false }}, []string{"refuses nobody", "enforce = true"}},
	{"two DMARC records", "dmarc", place{zone: healthy + "_dmarc.example.com. TXT \"v=DMARC1; p=reject\"\n"}, []string{"2 DMARC records", "p=reject"}},
	{"no DMARC record", "dmarc", place{zone: strings.Replace(healthy, "_dmarc.example.com.", "_other.example.com.", 1)}, []string{"_dmarc.example.com. TXT"}},
	{"a DMARC record that cannot be read", "dmarc", place{zone: healthy + ";_dmarc.example.com servfail\n"}, []string{"cannot be read"}},
	{"an SPF record that cannot be read", "spf", place{zone: healthy + ";example.com servfail\n"}, []string{"cannot be read"}},
	{"a server that greets with a refusal", "backend-greeting", faulty(sim.Banner, sim.Fault{Kind: sim.Say, Reply: "554 5.3.2 go away"}), []string{"greets with 554 5.3.2 go away"}},
	{"a server that refuses EHLO", "backend-ehlo", faulty(sim.Hello, sim.Fault{Kind: sim.Say, Reply: "550 5.7.1 who are you"}), []string{"550 5.7.1 who are you", "EHLO mx1.example.org"}},
	{"a server without PIPELINING", "backend-pipelining", faulty(sim.Hello, sim.Fault{Kind: sim.Say, Reply: "250 sim.example"}), []string{"one round trip more"}},
	{"a certificate that has ended", "backend-cert",
		place{zone: healthy, backend: &sim.Config{Behaviour: sim.Behaviour{STARTTLS: sim.TLSGood}}, edit: func(d *Doctor) { d.Now = func() time.Time { return time.Now().AddDate(50, 0, 0) } }},
		[]string{"the certificate of", "ended on", "renew it"}},
	{"a certificate that ends soon", "backend-cert",
		place{zone: healthy, backend: &sim.Config{Behaviour: sim.Behaviour{STARTTLS: sim.TLSGood}}, edit: func(d *Doctor) { d.Now = func() time.Time { return time.Now().AddDate(0, 0, 360) } }},
		[]string{"the certificate of", "ends on", "renew it"}},
	{"a certificate for another name", "backend-cert",
		place{zone: healthy, backend: &sim.Config{Behaviour: sim.Behaviour{STARTTLS: sim.TLSGood}}, edit: func(d *Doctor) {
			d.Gate.Domains[0].Backend[0] = strings.Replace(d.Gate.Domains[0].Backend[0], "[127.0.0.1]", "[localhost]", 1)
		}}, []string{"[localhost]", "is for ", "does not mind"}},
	{"no MX record", "mx-none", place{zone: strings.Replace(healthy, "example.com. MX 10 mx1.example.org.", "example.com. A 192.0.2.80", 1)}, []string{"no MX record"}},
	{"no MX record and no address", "mx-none", place{zone: strings.Replace(healthy, "example.com. MX 10 mx1.example.org.", "", 1)},
		[]string{"neither an MX record nor an address record", "comes back to them", "publish  example.com. MX 10 HOST."}},
	{"MX records that cannot be read", "mx", place{zone: healthy + ";example.com servfail\n"}, []string{"cannot be read"}},
	{"a server that is down", "backend-down", place{zone: healthy, domains: section}, []string{"cannot be reached"}},
	{"a server that is ourselves", "backend-loop", place{zone: healthy, backend: &sim.Config{}, edit: func(d *Doctor) { d.Hostname = "sim.example" }}, []string{"is this machine"}},
	{"a list that cannot be read", "mta-files", place{zone: healthy, files: map[string]string{"main.cf": "mydestination = /nonexistent/list\n" + milters}}, []string{"/nonexistent/list"}},
	{"a deadline beyond the MTA's time-out", "gate-deadline",
		place{zone: healthy, gate: true, files: map[string]string{"sendmail.cf": sendmailCf, "local-host-names": ""}, edit: func(d *Doctor) { d.Gate.Deadline = 20 * time.Second }}, []string{"20s", "10s", `deadline = "8s"`}},
	{"an MTA that does not ask the gate", "gate-milter", place{zone: healthy, gate: true, files: map[string]string{"main.cf": "mydestination = \n"}}, []string{"smtpd_milters = { inet:127.0.0.1:8890, default_action=tempfail, command_timeout=10s } in"}},
	{"an MTA that asks other milters only", "gate-milter",
		place{zone: healthy, gate: true, files: map[string]string{"main.cf": "mydestination = \nsmtpd_milters = inet:127.0.0.1:11332, { unix:/opendkim/x.sock, default_action=accept }\n"}},
		[]string{"smtpd_milters = { inet:127.0.0.1:8890, default_action=tempfail, command_timeout=10s }, inet:127.0.0.1:11332, { unix:/opendkim/x.sock, default_action=accept } in"}},
	{"Sendmail that does not ask the gate", "gate-milter",
		place{zone: healthy, gate: true, files: map[string]string{"sendmail.cf": strings.Replace(sendmailCf, "Xrcptgate", "#X", 1), "local-host-names": ""}},
		[]string{"INPUT_MAIL_FILTER(`rcptgate', `S=inet:8890@127.0.0.1, F=T, T=S:10s;R:10s')dnl"}},
	{"MAIL_FILTER in place of INPUT_MAIL_FILTER", "gate-milter",
		place{zone: healthy, gate: true, files: map[string]string{"sendmail.cf": strings.Replace(sendmailCf, "InputMailFilters=rcptgate", "InputMailFilters=clamav", 1), "local-host-names": ""}},
		[]string{"InputMailFilters does not name rcptgate", "not MAIL_FILTER", "sendmail.cf:6"}},
	{"Sendmail that takes mail while the gate is down", "gate-default",
		place{zone: healthy, gate: true, files: map[string]string{"sendmail.cf": strings.Replace(sendmailCf, "F=T, ", "", 1), "local-host-names": ""}}, []string{"unchecked", "F=T"}},
	{"Postfix that takes mail while the gate is down", "gate-default",
		place{zone: healthy, gate: true, files: map[string]string{"main.cf": "mydestination = \nmilter_default_action = accept\n" + milters}}, []string{"unchecked", "{ inet:127.0.0.1:8890, default_action=tempfail,"}},
	{"the same for this milter alone", "gate-default",
		place{zone: healthy, gate: true, files: map[string]string{"main.cf": "mydestination = \nsmtpd_milters = { inet:127.0.0.1:8890, default_action=accept }\n"}}, []string{"unchecked"}},
	{"a deadline beyond this milter's time-out (Postfix)", "gate-deadline",
		place{zone: healthy, gate: true, files: map[string]string{"main.cf": "mydestination = \nsmtpd_milters = { inet:127.0.0.1:8890, command_timeout=5s }\n"}}, []string{"8s", "5s only", `deadline = "4s"`}},
	{"a deadline beyond this milter's time-out (Sendmail)", "gate-deadline",
		place{zone: healthy, gate: true, files: map[string]string{"sendmail.cf": strings.Replace(sendmailCf, "R:10s", "R:5s", 1), "local-host-names": ""}}, []string{"5s only"}},
	{"a socket in the chroot, by its path outside", "gate-chroot",
		place{zone: healthy, gate: true, files: map[string]string{"main.cf": "mydestination = \nsmtpd_milters = unix:/var/spool/postfix/rcptgate/milter.sock\n", "master.cf": "smtp inet n - y - - smtpd\n"},
			edit: func(d *Doctor) { d.Gate.Sockets = []string{"unix:/var/spool/postfix/rcptgate/milter.sock"} }}, []string{"at /var/spool/postfix/var/spool/postfix/rcptgate/milter.sock", "unix:rcptgate/milter.sock"}},
	{"a policy service outside of the chroot", "policy-chroot",
		place{zone: healthy, files: map[string]string{"main.cf": "mydestination = \nsmtpd_recipient_restrictions = reject_unauth_destination,\n check_policy_service { unix:/run/policy/sock, timeout=10s }\n", "master.cf": "smtp inet n - y - - smtpd\n"}},
		[]string{"/var/spool/postfix/run/policy/sock", "main.cf:2", "451 4.3.5"}},
	{"a table that is not there (Postfix)", "mta-files",
		place{zone: healthy, files: map[string]string{"main.cf": "mydestination = \nvirtual_alias_maps = proxy:hash:DIR/virtual\n"}}, []string{"main.cf:2", "virtual_alias_maps", "run postmap hash:"}},
	{"a map that is not there (Sendmail)", "mta-files",
		place{zone: healthy, files: map[string]string{"sendmail.cf": sendmailCf + "Kvirtuser hash DIR/virtusertable\n", "local-host-names": ""}}, []string{"sendmail.cf:7", "virtusertable.db", "makemap hash"}},
	{"a list of domains that is not there (Sendmail)", "mta-files",
		place{zone: healthy, files: map[string]string{"sendmail.cf": sendmailCf}}, []string{"sendmail.cf:5", "create ", "local-host-names"}},
	{"a socket outside of the chroot", "gate-chroot",
		place{zone: healthy, gate: true, files: map[string]string{"main.cf": "mydestination = \nsmtpd_milters = unix:/run/rcptgate/milter.sock\n", "master.cf": "smtp inet n - y - - smtpd\n"},
			edit: func(d *Doctor) { d.Gate.Sockets = []string{"unix:/run/rcptgate/milter.sock"} }}, []string{"chroot", "/var/spool/postfix"}},
	{"what config check warns of", "gate-config", place{zone: healthy, gate: true, edit: func(d *Doctor) { d.Gate.Warnings = []string{"table hash:/x cannot be read"} }}, []string{"hash:/x"}},
}

const (
	stsRecord = "_mta-sts.example.com. TXT \"v=STSv1; id=20261128\"\n"
	tlsrpt    = "_smtp._tls.example.com. TXT \"v=TLSRPTv1; rua=mailto:tls@example.com\"\n"
	tlsa      = "_25._tcp.mx1.example.org. TLSA 3 1 1 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971\n"
)

// sts is an installation whose domain has an MTA-STS policy.
func sts(policy string, err error) place {
	return place{zone: healthy + stsRecord + tlsrpt, edit: func(d *Doctor) {
		d.Fetch = func(context.Context, string) (string, error) { return policy, err }
	}}
}

// faulty is an installation whose server behind has a fault at a stage.
func faulty(stage sim.Stage, fault sim.Fault) place {
	return place{zone: healthy, backend: &sim.Config{Behaviour: sim.Behaviour{Faults: map[sim.Stage]sim.Fault{stage: fault}}}}
}

// allIDs gives the findings that the source text has.
func allIDs(t *testing.T) (ids []string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, m := range regexp.MustCompile(`ID: "([a-z0-9-]+)"`).FindAllStringSubmatch(string(text), -1) {
			ids = append(ids, m[1])
		}
	}
	if len(ids) < 40 {
		t.Fatalf("%d findings", len(ids))
	}
	return ids
}

// refusing is an installation whose server behind says the same of every recipient.
func refusing(reply string) place {
	return place{zone: healthy, backend: &sim.Config{Behaviour: sim.Behaviour{Decide: func(string) string { return reply }}}}
}

const names = "mx1.example.org. A 192.0.2.80\n80.2.0.192.in-addr.arpa. PTR mx1.example.org.\n_dmarc.example.com. TXT \"v=DMARC1; p=none\"\n"
const spfOK = "example.com. TXT \"v=spf1 ip4:192.0.2.80 -all\"\n"

var section = []route.DomainConfig{{Name: "example.com", Backend: []string{"smtp:[127.0.0.1]:9"}}}

func manyIncludes(n int) (s string) {
	for i := range n {
		s += fmt.Sprintf(" include:i%d.example.net", i)
	}
	return s
}

func includes(n int) (s string) {
	for i := range n {
		s += fmt.Sprintf("i%d.example.net. TXT \"v=spf1 ip4:198.51.100.%d -all\"\n", i, i)
	}
	return s
}

// TestBroken: each broken installation gives its finding, with where it is and what to write;
// the healthy one gives none of them.
func TestBroken(t *testing.T) {
	t.Parallel()
	ids := map[string]bool{}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			ids[tt.id] = true
			if tt.id == "dns-slow" {
				t.Parallel() // it mostly waits
			}
			report := tt.p.run(t, "example.com")
			var found []Finding
			for _, f := range report.Findings {
				if f.ID == tt.id && f.Level != OK {
					found = append(found, f)
				}
			}
			if len(found) == 0 {
				t.Fatalf("no %s among %+v", tt.id, report.Findings)
			}
			var out bytes.Buffer
			_ = (&Report{Findings: found}).Print(&out, false, true)
			for _, want := range tt.says {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%q is not in\n%s", want, out.String())
				}
			}
		})
	}
	for _, f := range (place{zone: healthy, gate: true}).run(t, "example.com").Findings {
		if f.Level != OK {
			t.Errorf("in the healthy installation: %+v", f)
		}
	}
	for _, id := range allIDs(t) {
		if !ids[id] {
			t.Errorf("no case has the finding %s", id)
		}
	}
}

// TestHealthy: an installation in order takes one line and exit code 0.
func TestHealthy(t *testing.T) {
	p := place{zone: healthy, gate: true, backend: &sim.Config{Behaviour: sim.Behaviour{Users: []string{"ann@example.com"}}},
		files: map[string]string{"main.cf": "myhostname = mx1.example.org\nmydestination = $myhostname\nrelay_domains = example.com\n" + milters, "maillog": "nothing\n"}}
	report := p.run(t)
	var out bytes.Buffer
	_ = report.Print(&out, false, false)
	if report.Exit(true) != exit.OK || strings.Count(out.String(), "\n") != 1 || !strings.Contains(out.String(), "everything is in order") {
		t.Errorf("exit code %d:\n%s", report.Exit(true), out.String())
	}
	out.Reset()
	_ = report.Print(&out, true, false)
	if out.Len() != 0 {
		t.Errorf("quiet: %s", out.String())
	}
	out.Reset()
	_ = report.Print(&out, false, true)
	if strings.Count(out.String(), "✓") < 10 {
		t.Errorf("verbose:\n%s", out.String())
	}
}

// TestFindingsForPrograms: each finding has the members that programs read, and each id is in the
// table of what is right.
func TestFindingsForPrograms(t *testing.T) {
	t.Parallel()
	p := place{zone: strings.Replace(healthy, "ip4:192.0.2.80", "include:_spf.google.com", 1) + "_spf.google.com. TXT \"v=spf1 ip4:198.51.100.0/24 ~all\"\n;example.com delay\n", gate: true}
	data, err := json.Marshal(p.run(t, "example.com"))
	if err != nil {
		t.Fatal(err)
	}
	var report struct{ Findings []map[string]any }
	if err := json.Unmarshal(data, &report); err != nil {
		t.Fatal(err)
	}
	slow := false
	for _, f := range report.Findings {
		slow = slow || f["ms"].(float64) >= 1000
		if f["id"] != "spf-missing-us" {
			continue
		}
		for _, member := range []string{"id", "level", "domain", "what", "seen", "expected", "matters", "remedy", "refs", "ms"} {
			if f[member] == nil {
				t.Errorf("%v has no %s", f, member)
			}
		}
		if f["expected"] != "pass for this host's outgoing address" || !strings.Contains(fmt.Sprint(f["refs"]), "RFC 7208") || !strings.Contains(fmt.Sprint(f["remedy"]), "v=spf1 ip4:192.0.2.80 include:_spf.google.com -all") {
			t.Errorf("%v", f)
		}
	}
	if !slow {
		t.Error("no finding took as long as its question")
	}
	known := kinds()
	for _, id := range allIDs(t) {
		if known[id].expected == "" {
			t.Errorf("%s is not in the table of findings", id)
		}
	}
}

// TestRouteByMX: with a server that is preferred to this machine there is somebody to ask.
func TestRouteByMX(t *testing.T) {
	p := place{zone: healthy + "example.com. MX 5 store.example.net.\nstore.example.net. A 198.51.100.9\n", domains: []route.DomainConfig{{Name: "example.com", Backend: []string{"mx"}}}}
	route := false
	for _, f := range p.run(t, "example.com").Findings {
		route = route || f.ID == "gate-route" && strings.Contains(f.What, `asks mx: [[domain]] "example.com" in rcptgate.toml`)
		if f.ID == "mx-loop" {
			t.Errorf("%+v", f)
		}
	}
	if !route {
		t.Error("where the gate asks is not said")
	}
}

func TestExit(t *testing.T) {
	for _, tt := range []struct {
		levels []Level
		strict bool
		want   int
	}{
		{[]Level{OK, Note}, true, 0}, {[]Level{Warn}, false, 0}, {[]Level{Warn}, true, 78}, {[]Level{Unknown, OK}, false, 75}, {[]Level{Unknown, Fail}, false, 78},
	} {
		r := &Report{}
		for _, l := range tt.levels {
			r.Findings = append(r.Findings, Finding{Level: l})
		}
		if got := r.Exit(tt.strict); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.levels, got, tt.want)
		}
	}
}

// TestNothingComesThrough: what DNS and logs hold cannot command a terminal.
func TestNothingComesThrough(t *testing.T) {
	p := place{zone: healthy + "example.com. TXT \"v=spf1 \\027[2Jx -all\"\n", files: map[string]string{"maillog": "x lost connection after RCPT from \x1b[2Jevil[192.0.2.1]\n"}}
	report := p.run(t, "example.com")
	var out bytes.Buffer
	_ = report.Print(&out, false, true)
	if strings.ContainsRune(out.String(), '\x1b') {
		t.Errorf("%q", out.String())
	}
	if data, err := json.Marshal(report); err != nil || bytes.ContainsRune(data, '\x1b') {
		t.Error(err)
	}
}

func TestTruncatedAnswersAreReadOverTCP(t *testing.T) {
	report := place{zone: healthy + ";example.com truncate\n"}.run(t, "example.com")
	for _, f := range report.Findings {
		if f.Level != OK {
			t.Errorf("%+v", f)
		}
	}
}

func TestQuoteTXT(t *testing.T) {
	long := "v=spf1 " + strings.Repeat("ip4:192.0.2.1 ", 40) + "-all"
	parts := strings.Split(strings.Trim(quoteTXT(long), `"`), `" "`)
	if strings.Join(parts, "") != long || len(parts) != 3 {
		t.Errorf("%q", parts)
	}
	for _, p := range parts {
		if len(p) > 255 {
			t.Errorf("%d octets", len(p))
		}
	}
	if got := quoteTXT(strings.Repeat("x", 600)); got != `"`+strings.Repeat("x", 255)+`" "`+strings.Repeat("x", 255)+`" "`+strings.Repeat("x", 90)+`"` {
		t.Errorf("one long word: %s", got)
	}
	if got := quoteTXT(strings.Repeat("x", 255)); strings.Count(got, `"`) != 2 {
		t.Errorf("255 octets: %s", got)
	}
}

func TestRepair(t *testing.T) {
	ip := netip.MustParseAddr("2001:db8::1")
	for in, want := range map[string]string{
		"v=spf1 -all":                         "v=spf1 ip6:2001:db8::1 -all",
		"v=spf1 include:x ~ALL":               "v=spf1 ip6:2001:db8::1 include:x ~ALL",
		"v=spf1 mx":                           "v=spf1 ip6:2001:db8::1 mx",
		"v=spf1 mx redirect=_spf.example.com": "v=spf1 ip6:2001:db8::1 mx redirect=_spf.example.com",
	} {
		if got := spfRepair(in, ip); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestParseDomains(t *testing.T) {
	out, err := parseDomains([]string{"Example.COM.", "bücher.example"})
	if err != nil || strings.Join(out, " ") != "example.com xn--bcher-kva.example" {
		t.Errorf("%q, %v", out, err)
	}
	for _, bad := range []string{"", "com", "a@b.example", "[192.0.2.1]", "a b.example", strings.Repeat("a.", 200), "../etc"} {
		if out, err := parseDomains([]string{bad}); err == nil {
			t.Errorf("%q: %q", bad, out)
		}
	}
}
