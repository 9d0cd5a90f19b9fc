// SPDX-License-Identifier: BSD-2-Clause

package trusted

import (
	"net/netip"
	"testing"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/config/setting"
)

func networks(t *testing.T, list ...string) (out []setting.Network) {
	t.Helper()
	for _, s := range list {
		n, err := setting.ParseNetwork(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, n)
	}
	return out
}

func TestTrusted(t *testing.T) {
	some := []string{"192.0.2.0/24", "2001:db8::/32", "127.0.0.1"}
	for _, tt := range []struct {
		name, to, client, auth string
		trusted                []string
		want                   rcptgate.Verdict
	}{
		{"stranger", "u@example.com", "198.51.100.1", "", some, rcptgate.Verdict{}},
		{"nobody is trusted by default", "u@example.com", "127.0.0.1", "", nil, rcptgate.Verdict{}},
		{"no client address", "u@example.com", "", "", some, rcptgate.Verdict{}},
		{"trusted", "u@example.com", "192.0.2.7", "", some, rcptgate.Verdict{Action: rcptgate.Accept, Reason: rcptgate.ReasonTrusted}},
		{"trusted, IPv4 in IPv6", "u@example.com", "::ffff:192.0.2.7", "", some, rcptgate.Verdict{Action: rcptgate.Accept, Reason: rcptgate.ReasonTrusted}},
		{"trusted, IPv6", "u@example.com", "2001:db8::7", "", some, rcptgate.Verdict{Action: rcptgate.Accept, Reason: rcptgate.ReasonTrusted}},
		{"trusted, one address", "u@example.com", "127.0.0.1", "", some, rcptgate.Verdict{Action: rcptgate.Accept, Reason: rcptgate.ReasonTrusted}},
		{"beside it", "u@example.com", "127.0.0.2", "", some, rcptgate.Verdict{}},
		{"authenticated", "u@example.com", "198.51.100.1", "joe", nil, rcptgate.Verdict{Action: rcptgate.Accept, Reason: rcptgate.ReasonAuthenticated}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := address.Parse(tt.to)
			q := &rcptgate.Query{Recipient: m, Target: m, AuthUser: tt.auth}
			if tt.client != "" {
				q.Client = netip.MustParseAddr(tt.client)
			}
			c := &Check{Trusted: networks(t, tt.trusted...)}
			v, err := c.Check(t.Context(), q)
			if err != nil || v.Action != tt.want.Action || v.Reason != tt.want.Reason {
				t.Errorf("verdict %+v, %v; want %+v", v, err, tt.want)
			}
			if n := testing.AllocsPerRun(10, func() { _, _ = c.Check(t.Context(), q) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}
