// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"rcptgate/backend"
	"rcptgate/kit/exit"
	"rcptgate/mta/sendmailcf"
)

// TestNoFalseAlarms has installations in order that look odd.
func TestNoFalseAlarms(t *testing.T) {
	const head = "myhostname = mx1.example.org\n"
	for name, p := range map[string]place{
		"Debian's main.cf": {zone: healthy, gate: true, files: map[string]string{
			"main.cf": head + "mydomain = example.org\nmydestination = $myhostname, example.com, localhost.$mydomain, localhost.example.net, localhost\n" + milters}},
		"the default of relay_domains before Postfix 3.0": {zone: healthy, files: map[string]string{
			"main.cf": head + "mydestination = $myhostname, example.com\nrelay_domains = $mydestination\n" + milters}},
		"milters by way of a parameter": {zone: healthy, gate: true, files: map[string]string{
			"main.cf": head + "mydestination = example.com\nmilters = inet:127.0.0.1:11332, inet:127.0.0.1:8890\nsmtpd_milters = $milters\n"}},
		"Sendmail's own files that need not exist": {zone: healthy, gate: true, files: map[string]string{
			"sendmail.cf": sendmailCf + "FR-o DIR/relay-domains\nKmailertable hash -o DIR/mailertable\n", "local-host-names": "example.com\n"}},
		"a local domain that the recipe's rule sends to its MX (Sendmail)": {zone: hosted, files: map[string]string{
			"sendmail.cf": sendmailCf + "Kbestmx bestmx -T.TMP\nR$* < @ example.com. > $*\t$#esmtp $@ $(bestmx example.com. $) $: $1 < @ example.com. > $2\n", "local-host-names": "example.com\n"}},
		"a local domain that transport_maps sends to its MX (Postfix)": {zone: hosted, files: map[string]string{
			"main.cf": head + "mydestination = $myhostname, example.com\ntransport_maps = texthash:DIR/transport\n", "transport": "example.com smtp:[aspmx.l.google.com]\n"}},
		"the same for all below a domain": {zone: hosted, files: map[string]string{
			"main.cf": head + "mydestination = $myhostname, example.com\ntransport_maps = texthash:DIR/transport\n", "transport": ".com relay:[aspmx.l.google.com]\n"}},
		"README's line, before other milters": {zone: healthy, gate: true, files: map[string]string{
			"main.cf": head + "mydestination = example.com\nmilter_default_action = accept\nsmtpd_milters = { inet:127.0.0.1:8890, default_action=tempfail, command_timeout=10s }, unix:/opendkim/x.sock\n"}},
		"an MTA-STS policy that fits":             sts("version: STSv1\nmode: enforce\nmx: mx1.example.org\nmax_age: 86400\n", nil),
		"an MTA-STS policy with a pattern":        sts("version: STSv1\nmode: enforce\nmx: *.example.org\n", nil),
		"an MTA-STS policy that promises nothing": sts("version: STSv1\nmode: none\n", nil),
		"an MTA-STS record without --https":       {zone: healthy + stsRecord + tlsrpt},
		"TLSA records with DNSSEC":                {zone: healthy + tlsa + tlsrpt + ";_25._tcp.mx1.example.org signed\n"},
		"a policy service that the chroot holds": {zone: healthy, files: map[string]string{
			"main.cf": head + "mydestination = example.com\nsmtpd_recipient_restrictions = reject_unauth_destination, check_policy_service unix:private/policy\n", "master.cf": "smtp inet n - y - - smtpd\n"}},
		"redirect after all": {zone: names + "example.com. MX 10 mx1.example.org.\n" +
			"example.com. TXT \"v=spf1 ip4:192.0.2.80 -all redirect=gone.example.com\"\n"},
		"an MX on a second name of this host": {zone: healthy + "example.com. MX 20 mail.example.net.\nmail.example.net. A 192.0.2.81\n", files: map[string]string{
			"main.cf": head + "mydestination = example.com\n" + milters}, edit: func(d *Doctor) { d.Self = append(d.Self, netip.MustParseAddr("192.0.2.81")) }},
	} {
		var domains []string
		if p.files == nil {
			domains = []string{"example.com"}
		}
		if r := p.run(t, domains...); r.Exit(true) != exit.OK {
			for _, f := range r.Findings {
				if f.Level != OK && f.Level != Note {
					t.Errorf("%s: %+v", name, f)
				}
			}
		}
	}
}

// TestListed: a pattern stands for one label, no more (RFC 8461 section 4.1).
func TestListed(t *testing.T) {
	for host, want := range map[string]bool{"mx.example.com": true, "a.example.org": true, "a.b.example.org": false, "example.org": false, "other.example.com": false} {
		if got := listed(host, []string{"mx.example.com", "*.example.org"}); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
}

// TestFetch: the policy is what the server at the name says itself, with status 200, in short.
func TestFetch(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/here", http.StatusFound)
		case "/gone":
			http.NotFound(w, r)
		case "/long":
			_, _ = io.WriteString(w, strings.Repeat("x", 1<<20))
		default:
			_, _ = io.WriteString(w, "mode: enforce\n")
		}
	}))
	defer server.Close()
	client := server.Client()
	client.CheckRedirect = notFollowed
	for path, want := range map[string]string{"/here": "mode: enforce\n", "/moved": "302", "/gone": "404"} {
		text, err := get(context.Background(), client, server.URL+path)
		if err != nil {
			text = err.Error()
		}
		if !strings.Contains(text, want) {
			t.Errorf("%s: %q, want %q", path, text, want)
		}
	}
	if text, err := get(context.Background(), client, server.URL+"/long"); err != nil || len(text) != maxSTS {
		t.Errorf("%d octets, %v", len(text), err)
	}
	if _, err := fetchPolicy(context.Background(), server.URL+"/here"); err == nil {
		t.Error("a certificate that nobody signed is believed")
	}
}

// TestBehindNAT: the MX has the outside address, this machine a private one. That is no proof.
func TestBehindNAT(t *testing.T) {
	p := place{zone: "example.com. MX 10 mail.example.com.\nmail.example.com. A 198.51.100.1\n" + names + spfOK, files: map[string]string{
		"main.cf": "myhostname = mx1.example.org\nmydestination = example.com\n" + milters}, edit: func(d *Doctor) { d.FromIP = netip.MustParseAddr("10.0.0.5") }}
	for _, f := range p.run(t, "example.com").Findings {
		if f.ID == "mx-elsewhere" && f.Level != Warn {
			t.Errorf("%+v", f)
		}
	}
}

// TestSocketsAreCompared: a port is not part of another port, nor of a path or an address.
func TestSocketsAreCompared(t *testing.T) {
	for _, tt := range []struct {
		socket, line string
		asks         bool
	}{
		{"inet:8890@127.0.0.1", "main.cf:1 smtpd_milters = inet:127.0.0.1:8890", true},
		{"inet:127.0.0.1:8890", "sendmail.cf:9 Xrcptgate, S=inet:8890@127.0.0.1, F=T, T=S:10s;R:10s", true},
		{"inet:8890@127.0.0.1", "main.cf:1 smtpd_milters = { inet:localhost:8890, default_action=tempfail }, inet:127.0.0.1:11332", true},
		{"inet:8890", "main.cf:1 smtpd_milters = inet:192.0.2.7:8890", true},
		{"inet6:8890@::1", "main.cf:1 smtpd_milters = inet:[::1]:8890", true},
		{"unix:/run/rcptgate/milter.sock", "sendmail.cf:9 Xrcptgate, S=/run/rcptgate/milter.sock", true},
		{"unix:/run/rcptgate/milter.sock", "main.cf:1 smtpd_milters = unix:/run/rcptgate/milter.sock", true},
		{"unix:/var/spool/postfix/rcptgate/milter.sock", "main.cf:1 smtpd_milters = unix:rcptgate/milter.sock", true},
		{"unix:/var/spool/postfix/rcptgate/milter.sock", "main.cf:1 smtpd_milters = unix:/rcptgate/milter.sock", true},
		{"inet:8890@127.0.0.1", "main.cf:1 smtpd_milters = inet:127.0.0.1:18890", false},
		{"inet:889@127.0.0.1", "main.cf:889 smtpd_milters = inet:127.0.0.1:8890", false},
		{"inet:8890@127.0.0.1", "main.cf:8890 smtpd_milters = inet:127.0.0.1:11332", false},
		{"inet:8890@127.0.0.1", "main.cf:1 smtpd_milters = unix:/run/8890", false},
		{"inet:8890@127.0.0.1", "main.cf:1 smtpd_milters = inet:192.0.2.7:8890", false},
		{"unix:/run/gate", "main.cf:1 smtpd_milters = unix:/run/gate2", false},
		{"unix:/run/gate", "main.cf:1 smtpd_milters = inet:127.0.0.1:8890", false},
	} {
		own, m := parseSocket(tt.socket), MTA{}
		if _, line, _ := strings.Cut(tt.line, " "); strings.HasPrefix(line, "X") {
			m.Milters = []milter{sendmailMilter(&sendmailcf.Config{}, line, "")}
		} else {
			m.Milters = postfixMilters(strings.TrimPrefix(line, "smtpd_milters = "), "", 30, "")
		}
		if got := slices.ContainsFunc(m.Milters, func(f milter) bool { return own.isAskedAt(f.socket) }); got != tt.asks {
			t.Errorf("%s in %q: %v", tt.socket, tt.line, got)
		}
	}
}

// TestEndlessReplies: a server that never stops talking is given up after a short reply's worth.
func TestEndlessReplies(t *testing.T) {
	for name, piece := range map[string]string{"lines": "220-hello\r\n", "one line": strings.Repeat("x", 1024)} {
		for _, first := range []string{"", "220 ready\r\n"} {
			here, there := net.Pipe()
			said := make(chan int)
			go func() {
				n, _ := io.WriteString(there, first)
				if first != "" { // the EHLO
					_, _ = there.Read(make([]byte, 512))
				}
				for {
					m, err := io.WriteString(there, piece)
					if n += m; err != nil {
						said <- n
						return
					}
				}
			}()
			talk := &talk{}
			talk.use(here)
			d := &Doctor{Hostname: "mx1.example.org", Now: time.Now}
			if err := d.dialogue("example.com", backend.Address{}, talk); err == nil {
				t.Errorf("%s after %q: no error", name, first)
			}
			_ = here.Close()
			if n := <-said; n > maxReply+16<<10 {
				t.Errorf("%s after %q: %d octets were read", name, first, n)
			}
		}
	}
}

// TestLongRepliesAreBrief: what a server says does not fill the screen.
func TestLongRepliesAreBrief(t *testing.T) {
	if got := brief(strings.Repeat("é", 1000) + "\nb"); len(got) > 310 || !utf8.ValidString(got) {
		t.Errorf("%d octets", len(got))
	}
	if got := brief("a\nb"); got != "a / b" {
		t.Errorf("%q", got)
	}
	var out bytes.Buffer
	r := Report{Findings: []Finding{{Level: Fail, ID: "x", What: strings.Repeat("y", 70_000), Seen: slices.Repeat([]string{strings.Repeat("z", 70_000)}, 1000)}}}
	if err := r.Print(&out, false, false); err != nil || out.Len() > 60_000 || !strings.Contains(out.String(), "and 950 more") {
		t.Errorf("%d octets, %v", out.Len(), err)
	}
}

// TestHostileSPF: records that include themselves, each other or thousands of names end soon, and
// the finding says what is wrong.
func TestHostileSPF(t *testing.T) {
	many := strings.Repeat(" include:example.com", 20)
	wide := ""
	for i := range 12 {
		wide += fmt.Sprintf("w%d.example.net. TXT \"v=spf1%s -all\"\n", i, strings.Repeat(fmt.Sprintf(" include:w%d.example.net", i+1), 12))
	}
	chain := ""
	for i := range 30 {
		chain += fmt.Sprintf("c%d.example.net. TXT \"v=spf1 include:c%d.example.net -all\"\n", i, i+1)
	}
	for name, tt := range map[string]struct{ zone, id string }{
		"itself":             {names + "example.com. MX 10 mx1.example.org.\nexample.com. TXT \"v=spf1" + many + " -all\"\n", "spf-syntax"},
		"in a circle":        {strings.Replace(healthy, "-all", "include:b.example.net -all", 1) + "b.example.net. TXT \"v=spf1 redirect=example.com\"\n", "spf-syntax"},
		"twelve to the 12th": {strings.Replace(healthy, "-all", "include:w0.example.net -all", 1) + wide, "spf-lookups"},
		"a long chain":       {strings.Replace(healthy, "-all", "include:c0.example.net -all", 1) + chain, "spf-lookups"},
	} {
		found := false
		for _, f := range (place{zone: tt.zone}).run(t, "example.com").Findings {
			found = found || f.ID == tt.id && f.Level == Fail
			if f.ID == "spf-lookups" && len(f.Seen) > spfTerms {
				t.Errorf("%s: %d lines", name, len(f.Seen))
			}
		}
		if !found {
			t.Errorf("%s: no %s", name, tt.id)
		}
	}
}

// TestHostileDNS: answers that make no sense are findings, not more.
func TestHostileDNS(t *testing.T) {
	long := strings.Repeat(" \""+strings.Repeat("x", 250)+"\"", 200)
	for name, zone := range map[string]string{
		"a CNAME to itself":       names + spfOK + "example.com. MX 10 loop.example.net.\nloop.example.net. CNAME loop.example.net.\n",
		"CNAMEs in a circle":      names + spfOK + "example.com. MX 10 a.example.net.\na.example.net. CNAME b.example.net.\nb.example.net. CNAME a.example.net.\n",
		"a TXT of 50 KB":          healthy + "example.com. TXT" + long + "\n",
		"an SPF record of 50 KB":  names + "example.com. MX 10 mx1.example.org.\nexample.com. TXT \"v=spf1 ip4:192.0.2.80 \"" + strings.ReplaceAll(long, "\"x", "\" x") + "\n",
		"600 MX records":          names + spfOK + manyMX(600),
		"cut off on TCP as well":  healthy + ";example.com cut\n",
		"a name in place of data": healthy + "example.com. MX 5 xn--a\\000\\255.example.net.\n",
	} {
		report := place{zone: zone}.run(t, "example.com")
		var out bytes.Buffer
		if err := report.Print(&out, false, true); err != nil || out.Len() > 40_000 {
			t.Errorf("%s: %d octets, %v", name, out.Len(), err)
		}
		if name != "a TXT of 50 KB" && report.Exit(false) == exit.OK {
			t.Errorf("%s: nothing is wrong:\n%s", name, out.String())
		}
	}
}

func manyMX(n int) (s string) {
	for i := range n {
		s += fmt.Sprintf("example.com. MX %d m%d.example.net.\n", i, i)
	}
	return s
}

// TestLogsAreReadToTheirEnd has what matters behind what other files are read of, plain and
// compressed.
func TestLogsAreReadToTheirEnd(t *testing.T) {
	text := strings.Repeat("Nov 28 10:00:00 mx1 postfix/smtpd[1]: connect from unknown[192.0.2.1]\n", 130_000) +
		"Nov 28 11:00:00 mx1 postfix/smtpd[1]: lost connection after RCPT from a.example[192.0.2.2]\n"
	dir := t.TempDir()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = io.WriteString(z, text)
	_ = z.Close()
	for name, content := range map[string]string{"maillog": text, "maillog.1.gz": packed.String()} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		d := &Doctor{Logs: []string{path}}
		if d.readLogs(); d.lost.total != 1 || d.lost.where != path+":130001" || len(d.report.Findings) > 0 {
			t.Errorf("%s: %d clients gave up, the first at %q; %+v", name, d.lost.total, d.lost.where, d.report.Findings)
		}
	}
	broken := filepath.Join(dir, "broken.gz")
	if err := os.WriteFile(broken, packed.Bytes()[:packed.Len()/2], 0o600); err != nil {
		t.Fatal(err)
	}
	d := &Doctor{Logs: []string{broken}}
	if d.readLogs(); len(d.report.Findings) != 1 || d.report.Findings[0].Level != Unknown {
		t.Errorf("%+v", d.report.Findings)
	}
}
