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
)

// TestSPF has every finding that a record gives, with its level, and some of what the findings say.
func TestSPF(t *testing.T) {
	const fine = "spf-syntax=ok spf-lookups=ok spf-missing-us=ok"
	const us = "us.example.net. TXT \"v=spf1 ip4:192.0.2.80 -all\"\n"
	for _, tt := range []struct {
		record, zone string
		want         string
		says         string
	}{
		{"v=spf1 ip4:192.0.2.80 -all", "", fine, "needs 0 of 10"},
		{"V=SPF1 IP4:192.0.2.0/24 -ALL", "", fine, ""},
		{"v=spf1 ip4:192.0.2.80 ip6:2001:db8::/32 ip6:2001:db8::1 ?exists:x.example.net foo=bar exp=why.example.net -all", "", fine, "needs 1 of 10"},
		{"v=spf1", "", "spf-syntax=ok spf-lookups=ok spf-missing-us=fail", "gets neutral"},
		{"v=spf10 ip4:192.0.2.80 -all", "", "spf-none=warn", "v=spf1 mx ip4:192.0.2.80 ~all"},
		{"v=spf1 ip4:192.0.2.300 -all", "", "spf-syntax=fail spf-lookups=ok", "circle: ip4:192.0.2.300"},
		{"v=spf1 ip4:192.0.2.0/33 -all", "", "spf-syntax=fail spf-lookups=ok", ""},
		{"v=spf1 ip4:192.0.2.80 nonsense -all", "", "spf-syntax=fail spf-lookups=ok spf-missing-us=ok", "circle: nonsense"},
		{"v=spf1 a -all", "example.com. A 192.0.2.80\n", fine, "needs 1 of 10"},
		{"v=spf1 +a/24 -all", "example.com. A 192.0.2.1\n", fine, "needs 1 of 10"},
		{"v=spf1 ~A:Host.Example.Net/24 mx:example.org -all", "host.example.net. A 192.0.2.1\nexample.org. MX 1 host.example.net.\n", "spf-syntax=ok spf-lookups=ok spf-missing-us=fail", "needs 2 of 10"},
		{"v=spf1 redirect=us.example.net", us, fine, "needs 1 of 10"},
		{"v=spf1 redirect=gone.example.net", "", "spf-syntax=fail spf-lookups=ok", "circle: redirect=gone.example.net"},
		{"v=spf1 include:us.example.net redirect=gone.example.net ~all", us, fine, "needs 1 of 10"},
		{"v=spf1 include:us.example.net. -all", us, fine, "needs 1 of 10"},
		{"v=spf1 include:two.example.net ip4:192.0.2.80 -all", "two.example.net. TXT \"v=spf1 -all\"\ntwo.example.net. TXT \"v=spf1 mx -all\"\n", "spf-syntax=fail spf-lookups=ok", "include:two.example.net"},
		{"v=spf1 ip4:192.0.2.80 include:bad.example.net -all", "bad.example.net. TXT \"v=spf1 ip4:x -all\"\n", "spf-syntax=fail spf-lookups=ok spf-missing-us=ok", "include:bad.example.net"},
		{"v=spf1 include:lost.example.net -all", ";lost.example.net servfail\n", "spf-syntax=ok spf-lookups=ok spf-missing-us=unknown", "cannot be found out"},
		{"v=spf1 include:%{d}.example.net a:%{d}.example.net mx:%{d}.example.net ip4:192.0.2.80 -all", "example.com.example.net. TXT \"v=spf1 -all\"\n", fine, "needs 3 of 10"},
		{"v=spf1 ip4:192.0.2.80" + manyIncludes(7) + " -all", includes(7), fine, ""},
		{"v=spf1 ip4:192.0.2.80" + manyIncludes(8) + " -all", includes(8), "spf-syntax=ok spf-lookups=warn spf-missing-us=ok", "needs 8 of 10"},
		{"v=spf1 ip4:192.0.2.80" + manyIncludes(10) + " -all", includes(10), "spf-syntax=ok spf-lookups=warn spf-missing-us=ok", "needs 10 of 10"},
		{"v=spf1 ip4:192.0.2.80 include:deep.example.net -all", "deep.example.net. TXT \"v=spf1" + manyIncludes(10) + " -all\"\n" + includes(10), "spf-syntax=ok spf-lookups=fail spf-missing-us=ok", "\n|include:deep.example.net  11|  include:i0.example.net  1|"},
		{"v=spf1 ip4:192.0.2.80" + manyIncludes(11) + " -all", includes(11), "spf-syntax=ok spf-lookups=fail spf-missing-us=ok", "|replace includes"},
		{"v=spf1 include:p.example.net include:q.example.net -all", "p.example.net. TXT \"v=spf1 include:us.example.net -all\"\nq.example.net. TXT \"v=spf1 include:us.example.net -all\"\n" + us, fine, "needs 4 of 10"},
		{"v=spf1 ip4:192.0.2.80 a:%{i}.x.example.net a:%{i}.y.example.net mx:%{i}.z.example.net mx:%{i}.example.net a:%{i}.example.net mx:%{i}.x.example.net -all", "", fine, ""},
		{"v=spf1 ip4:192.0.2.80 a:l1.example.net a:l2.example.net a:l3.example.net mx:l1.example.net mx:l2.example.net mx:l3.example.net -all", ";l1.example.net servfail\n;l2.example.net servfail\n;l3.example.net servfail\n", fine, ""},
		{"v=spf1 ip4:192.0.2.80 a a/24 a:example.com mx mx/24 mx:example.com -all", "example.com. A 192.0.2.1\nexample.com. MX 1 example.com.\n", fine, ""},
		{"v=spf1 mx -all", "example.com. MX 1 host.example.net.\nhost.example.net. A 192.0.2.80\n", fine, ""},
		{"v=spf1 ptr:example.org -all", names, "spf-ptr=warn spf-syntax=ok spf-lookups=ok spf-missing-us=ok", ""},
		{"v=spf1 mx:l1.example.net -all", ";l1.example.net servfail\n", "spf-syntax=ok spf-lookups=ok spf-missing-us=unknown", ""},
		{"v=spf1 a:l1.example.net -all", ";l1.example.net servfail\n", "spf-syntax=ok spf-lookups=ok spf-missing-us=unknown", ""},
		{"v=spf1 a:gone.example.net mx:gone.example.net exists:gone.example.net ~all", "", "spf-syntax=ok spf-lookups=ok spf-missing-us=fail", "gets softfail"},
		{"v=spf1 ip4:192.0.2.80 a:x1.example.net mx:x2.example.net -all", "", fine, ""},
		{"v=spf1 ip4:192.0.2.80 a mx:x2.example.net mx:x3.example.net -all", "example.com. MX 1 mx1.example.org.\n", "spf-syntax=ok spf-lookups=ok spf-void=fail spf-missing-us=ok", "|a  1 (finds nothing)|"},
		{"v=spf1 ip4:192.0.2.80 include:void.example.net a:x3.example.net -all", "void.example.net. TXT \"v=spf1 a:x1.example.net a:x2.example.net -all\"\n", "spf-syntax=ok spf-lookups=ok spf-void=fail spf-missing-us=ok", "|include:void.example.net  3|  a:x1.example.net  1 (finds nothing)|"},
		{"v=spf1 include:small.example.net all", "small.example.net. TXT \"v=spf1 -all\"\n", "spf-plusall=fail spf-syntax=ok spf-lookups=ok spf-missing-us=ok", `"v=spf1 include:small.example.net ~all"`},
		{"v=spf1 ip4:192.0.2.80 ?all", "", fine, ""},
		{"v=spf1 ip4:192.0.2.80 ?ptr:example.org -all", "", "spf-ptr=warn spf-syntax=ok spf-lookups=ok spf-missing-us=ok", "needs 1 of 10"},
	} {
		findings := spfOfZone(t, "example.com. TXT \""+tt.record+"\"\n"+tt.zone, netip.MustParseAddr("192.0.2.80"))
		var got, text []string
		for _, f := range findings {
			got = append(got, fmt.Sprintf("%s=%s", f.ID, f.Level))
			text = append(text, f.What, "|"+strings.Join(append(f.Seen, f.Do...), "|")+"|")
		}
		if strings.Join(got, " ") != tt.want || !strings.Contains(strings.Join(text, "\n"), tt.says) {
			t.Errorf("%s: %s, want %s with %q:\n%s", tt.record, got, tt.want, tt.says, strings.Join(text, "\n"))
		}
	}
}

// TestSPFOfThisHost: the record that is proposed has this host's address, if it is known and means
// something to others.
func TestSPFOfThisHost(t *testing.T) {
	for _, tt := range []struct{ zone, ip, want, says string }{
		{"", "", "spf-none=warn", `"v=spf1 mx ~all"`},
		{"", "2001:db8::1", "spf-none=warn", `"v=spf1 mx ip6:2001:db8::1 ~all"`},
		{spfOK, "", "spf-syntax=ok spf-lookups=ok", ""},
		{spfOK, "2001:db8::1", "spf-syntax=ok spf-lookups=ok spf-missing-us=fail", `"v=spf1 ip6:2001:db8::1 ip4:192.0.2.80 -all"`},
		{spfOK, "10.0.0.1", "spf-syntax=ok spf-lookups=ok spf-missing-us=warn", "name the one that others see with --from-ip"},
	} {
		ip, _ := netip.ParseAddr(tt.ip) // "" is none
		var got, text []string
		for _, f := range spfOfZone(t, tt.zone, ip) {
			got = append(got, fmt.Sprintf("%s=%s", f.ID, f.Level))
			text = append(text, f.What, strings.Join(f.Do, "\n"))
			if f.Level == Warn && f.ID == "spf-missing-us" && len(f.Do) > 0 {
				t.Errorf("a private address is to be published: %q", f.Do)
			}
		}
		if strings.Join(got, " ") != tt.want || !strings.Contains(strings.Join(text, "\n"), tt.says) {
			t.Errorf("%q from %q: %s, want %s with %q:\n%s", tt.zone, tt.ip, got, tt.want, tt.says, strings.Join(text, "\n"))
		}
	}
}

func spfOfZone(t *testing.T, zone string, ip netip.Addr) []Finding {
	t.Helper()
	server, stop, err := zonetest.Start(zone)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	d := &Doctor{Hostname: "mx1.example.org", FromIP: ip, Now: time.Now, DNS: &Resolver{Servers: []string{server}, Timeout: 2 * time.Second, Attempts: 1}}
	d.spf(context.Background(), "example.com")
	return d.report.Findings
}
