// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for _, tc := range []struct {
		in, out string
		want    Address
	}{
		{"smtp:[10.0.0.5]:25", "", Address{Host: "10.0.0.5", Port: 25}},
		{"smtp:[10.0.0.5]", "smtp:[10.0.0.5]:25", Address{Host: "10.0.0.5", Port: 25}},
		{"smtp:[2001:DB8::5]:2525", "smtp:[2001:db8::5]:2525", Address{Host: "2001:db8::5", Port: 2525}},
		{"smtp:[IPv6:2001:db8::5]", "smtp:[2001:db8::5]:25", Address{Host: "2001:db8::5", Port: 25}},
		{"smtp:[::ffff:10.0.0.5]", "smtp:[10.0.0.5]:25", Address{Host: "10.0.0.5", Port: 25}},
		{"smtp:[Mail.Example.]:25", "smtp:[mail.example]:25", Address{Host: "mail.example", Port: 25}},
		{"lmtp:[127.0.0.1]", "lmtp:[127.0.0.1]:24", Address{Protocol: LMTP, Host: "127.0.0.1", Port: 24}},
		{"lmtp:unix:/run/lmtp", "", Address{Protocol: LMTP, Path: "/run/lmtp"}},
		{"smtp:unix:/run/a:b", "", Address{Path: "/run/a:b"}},
		{"mx", "", Address{Port: 25, IsMX: true}},
		{"smtp:example.com", "smtp:example.com:25", Address{Host: "example.com", Port: 25, IsMX: true}},
		{"smtp:bücher.example:26", "smtp:xn--bcher-kva.example:26", Address{Host: "xn--bcher-kva.example", Port: 26, IsMX: true}},
	} {
		got, err := ParseAddress(tc.in)
		if err != nil || got != tc.want {
			t.Errorf("%q: %+v, %v", tc.in, got, err)
			continue
		}
		out := tc.out
		if out == "" {
			out = tc.in
		}
		if got.String() != out {
			t.Errorf("%q is written %q", tc.in, got.String())
		}
		if again, err := ParseAddress(got.String()); err != nil || again != got {
			t.Errorf("%q read again: %+v, %v", got.String(), again, err)
		}
	}
}

func TestBadAddressesAreNamed(t *testing.T) {
	for _, in := range []string{
		"", "smtp:", "smtp:[]", "smtp:[10.0.0.5", "smtp:[10.0.0.5]25", "smtp:[10.0.0.5]:", "smtp:[10.0.0.5]:0", "smtp:[10.0.0.5]:65536",
		"smtp:10.0.0.5:25", "smtp:2001:db8::5", "10.0.0.5", "[10.0.0.5]:25", "esmtp:[a]", "lmtp:unix:run", "lmtp:unix:", "lmtp:host.example",
		"smtp:[a b]", "smtp:[a..b]", "smtp:a:b", "lmtp:unix:/" + strings.Repeat("a", 107), "MX", "smtp:[a\r\nb]",
	} {
		a, err := ParseAddress(in)
		if err == nil {
			t.Errorf("%q: taken as %+v", in, a)
		} else if !strings.Contains(err.Error(), "smtp:[10.0.0.5]:25") {
			t.Errorf("%q: the error does not say what is allowed: %v", in, err)
		}
	}
}
