// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"net/netip"
	"testing"

	"rcptgate/kit/exit"
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
