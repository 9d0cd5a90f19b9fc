// SPDX-License-Identifier: BSD-2-Clause

package scope

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

func TestScope(t *testing.T) {
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
		{"LF", "u@example.com\nRSET", "198.51.100.1", "", nil, rcptgate.Verdict{Action: rcptgate.Reject, Reason: rcptgate.ReasonBadAddress}},
		{"CR", "u\r@example.com", "198.51.100.1", "", nil, rcptgate.Verdict{Action: rcptgate.Reject, Reason: rcptgate.ReasonBadAddress}},
		{"NUL", "u\x00@example.com", "192.0.2.7", "joe", some, rcptgate.Verdict{Action: rcptgate.Reject, Reason: rcptgate.ReasonBadAddress}},
		{"quoted LF", "\"u\n\"@example.com", "198.51.100.1", "", nil, rcptgate.Verdict{Action: rcptgate.Reject, Reason: rcptgate.ReasonBadAddress}},
		{"other control characters are the MTA's business", "u\t\x7f@example.com", "198.51.100.1", "", nil, rcptgate.Verdict{}},
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
			if v.Action == rcptgate.Reject && (v.Code != 501 || v.Enhanced != "5.1.3") {
				t.Errorf("refused with %d %s", v.Code, v.Enhanced)
			}
			if n := testing.AllocsPerRun(10, func() { _, _ = c.Check(t.Context(), q) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

// What an MTA's virtusertable made of the recipient goes into commands too.
func TestTargetWithControl(t *testing.T) {
	q := &rcptgate.Query{Recipient: address.Parse("u@example.com"), Target: address.Parse("v\r\n@example.com")}
	if v, _ := new(Check).Check(t.Context(), q); v.Code != 501 {
		t.Errorf("verdict %+v", v)
	}
}
