// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rcptgate/doctor/zonetest"
	"rcptgate/route"
)

func TestHostedAt(t *testing.T) {
	for host, want := range map[string]string{"aspmx.l.google.com.": "Google Workspace", "ASPMX.L.GOOGLE.COM": "Google Workspace", "google.com": "Google Workspace", "notgoogle.com": "", "google.com.example.org": "", "mx.example.org": ""} {
		if got := hostedAt(host); got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
}

func TestPrivateAddresses(t *testing.T) {
	for ip, want := range map[string]bool{"10.0.0.1": true, "192.168.1.1": true, "fd00::1": true, "127.0.0.1": true, "::1": true, "169.254.1.1": true, "fe80::1": true, "0.0.0.0": true, "192.0.2.1": false, "2001:db8::1": false} {
		if got := isPrivate(netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s: %v", ip, got)
		}
	}
}

// TestMX has every finding that a domain's MX records give, with its level.
func TestMX(t *testing.T) {
	const ours, other, google = "example.com. MX 10 mx1.example.org.\nmx1.example.org. A 192.0.2.80\n", "example.com. MX 10 mx.example.net.\nmx.example.net. A 198.51.100.1\n", "example.com. MX 1 aspmx.l.google.com.\naspmx.l.google.com. A 198.51.100.1\n"
	local := []*MTA{{Name: "Postfix", Places: []Place{{"example.com", "mydestination", "main.cf", 1}}}}
	relays := []*MTA{{Name: "Postfix", Places: []Place{{"example.com", "relay_domains", "main.cf", 1}}}}
	twice := func(name string, classes ...string) []*MTA {
		m := &MTA{Name: name}
		for i, class := range classes {
			m.Places = append(m.Places, Place{"example.com", class, "main.cf", i + 1})
		}
		return []*MTA{m}
	}
	gate := &Gate{Domains: []route.DomainConfig{{Name: "example.com", Backend: []string{"smtp:[127.0.0.1]:9"}}}}
	for _, tt := range []struct {
		name, zone string
		d          Doctor
		want, says string
	}{
		{"ours", ours, Doctor{}, "mx-target=ok mx-elsewhere=ok", "an MX points at this machine"},
		{"ours by its address", "example.com. MX 10 m.example.com.\nm.example.com. A 192.0.2.80\n", Doctor{MTAs: local}, "mx-target=ok mx-elsewhere=ok", "points at this machine"},
		{"ours by its name, behind NAT", "example.com. MX 10 mx1.example.org.\nmx1.example.org. A 198.51.100.7\n", Doctor{MTAs: local}, "mx-target=ok mx-elsewhere=ok", "points at this machine"},
		{"ours as the second", google + ours, Doctor{MTAs: local, Gate: gate}, "mx-target=ok mx-target=ok mx-elsewhere=ok", "points at this machine"},
		{"not ours", other, Doctor{}, "mx-target=ok mx-elsewhere=ok", "mail goes to mx.example.net, and nothing here takes it"},
		{"not ours, but local", other, Doctor{MTAs: local}, "mx-target=ok mx-elsewhere=fail", "MX is mx.example.net, but this machine delivers"},
		{"at a provider, but local", google, Doctor{MTAs: local}, "mx-target=ok mx-elsewhere=fail", "smtp:[aspmx.l.google.com]"},
		{"at a provider, behind NAT, but local", google, Doctor{MTAs: local, FromIP: netip.MustParseAddr("10.0.0.1")}, "mx-target=ok mx-elsewhere=fail", "Google Workspace"},
		{"not ours, behind NAT, but local", other, Doctor{MTAs: local, FromIP: netip.MustParseAddr("10.0.0.1")}, "mx-target=ok mx-elsewhere=warn", "unless the MX is this machine's own address outside"},
		{"not ours, and relayed", other, Doctor{MTAs: relays}, "mx-target=ok mx-elsewhere=ok", ""},
		{"not ours, with a section", other, Doctor{Gate: gate}, "mx-target=ok mx-not-us=warn", "another gateway may stand in front"},
		{"at a provider, with a section", google, Doctor{Gate: gate}, "mx-target=ok mx-not-us=fail", `remove the [[domain]] section "example.com"`},
		{"null", "example.com. MX 0 .\n", Doctor{}, "mx-null=note", "takes no mail"},
		{"null, but local", "example.com. MX 0 .\n", Doctor{MTAs: local}, "mx-null=fail", `main.cf:1 "example.com"`},
		{"null, with a section", "example.com. MX 0 .\n", Doctor{Gate: gate}, "mx-null=fail", "but this machine does"},
		{"null among others", "example.com. MX 0 .\n" + ours, Doctor{}, "mx-target=fail mx-target=ok mx-elsewhere=ok", ""},
		{"none, with an address", "example.com. A 192.0.2.80\n", Doctor{MTAs: local}, "mx-none=note mx-target=ok mx-elsewhere=ok", "points at this machine"},
		{"none at all", "", Doctor{MTAs: local}, "mx-none=fail", `main.cf:1 "example.com"`},
		{"addresses that cannot be read", "example.com. MX 10 mx.example.net.\n;mx.example.net servfail\n", Doctor{}, "mx-target=unknown mx-elsewhere=ok", "cannot be read"},
		{"loopback", "example.com. MX 10 mx.example.net.\nmx.example.net. A 127.0.0.1\n", Doctor{}, "mx-target=fail mx-elsewhere=ok", "private address"},
		{"two classes", ours, Doctor{MTAs: twice("Postfix", "mydestination", "virtual_mailbox_domains")}, "local-twice=fail mx-target=ok mx-elsewhere=ok", `main.cf:2 "example.com" (virtual_mailbox_domains)`},
		{"one class twice", ours, Doctor{MTAs: twice("Postfix", "mydestination", "mydestination")}, "mx-target=ok mx-elsewhere=ok", ""},
		{"the old default of relay_domains", ours, Doctor{MTAs: twice("Postfix", "mydestination", "relay_domains")}, "mx-target=ok mx-elsewhere=ok", ""},
		{"relayed, and virtual", ours, Doctor{MTAs: twice("Postfix", "virtual_mailbox_domains", "relay_domains")}, "local-twice=fail mx-target=ok mx-elsewhere=ok", ""},
		{"two classes of Sendmail", ours, Doctor{MTAs: twice("Sendmail", "class w", "class R")}, "mx-target=ok mx-elsewhere=ok", ""},
		{"more than are looked at", manyMX(25), Doctor{}, strings.Repeat("mx-target=fail ", 20) + "mx-elsewhere=ok", "m19.example.net"},
	} {
		server, stop, err := zonetest.Start(tt.zone)
		if err != nil {
			t.Fatal(err)
		}
		d := tt.d
		d.Hostname, d.Now, d.DNS = "mx1.example.org", time.Now, &Resolver{Servers: []string{server}, Timeout: 2 * time.Second, Attempts: 1}
		if !d.FromIP.IsValid() {
			d.FromIP = netip.MustParseAddr("192.0.2.80")
		}
		d.mx(context.Background(), "example.com")
		stop()
		var got, text []string
		for _, f := range d.report.Findings {
			if strings.HasPrefix(f.ID, "mx") || strings.HasPrefix(f.ID, "local") {
				got = append(got, fmt.Sprintf("%s=%s", f.ID, f.Level))
			}
			text = append(text, f.What, f.Matters, strings.Join(append(f.Seen, f.Do...), "\n"))
		}
		if strings.Join(got, " ") != tt.want || !strings.Contains(strings.Join(text, "\n"), tt.says) {
			t.Errorf("%s: %s, want %s with %q:\n%s", tt.name, got, tt.want, tt.says, strings.Join(text, "\n"))
		}
	}
}
