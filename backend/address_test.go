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
		// As transport tables and mailertables have it.
		{"relay:[192.0.2.10]", "smtp:[192.0.2.10]:25", Address{Host: "192.0.2.10", Port: 25}},
		{"esmtp:[h.example]", "smtp:[h.example]:25", Address{Host: "h.example", Port: 25}},
		{":[h.example]:26", "smtp:[h.example]:26", Address{Host: "h.example", Port: 26}},
		{"smtp:[h.example]:smtp", "smtp:[h.example]:25", Address{Host: "h.example", Port: 25}},
		{"relay:[h.example]:Submission", "smtp:[h.example]:587", Address{Host: "h.example", Port: 587}},
		{"smtp-inside:h.example", "smtp:h.example:25", Address{Host: "h.example", Port: 25, IsMX: true}},
		{"lmtp:inet:h.example:24", "lmtp:[h.example]:24", Address{Protocol: LMTP, Host: "h.example", Port: 24}},
		{"lmtp:h.example:2424", "lmtp:[h.example]:2424", Address{Protocol: LMTP, Host: "h.example", Port: 2424}},
		{"lmtp:h.example", "lmtp:[h.example]:24", Address{Protocol: LMTP, Host: "h.example", Port: 24}},
		{"lmtp:inet:127.0.0.1:lmtp", "lmtp:[127.0.0.1]:24", Address{Protocol: LMTP, Host: "127.0.0.1", Port: 24}},
		{"dovecot-lmtp:inet:[::1]", "lmtp:[::1]:24", Address{Protocol: LMTP, Host: "::1", Port: 24}},
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
		"smtp:10.0.0.5:25", "smtp:2001:db8::5", "10.0.0.5", "[10.0.0.5]:25", "local:[a]", "smpt:[a]", ":", "smtp:inet:[a]:25", "smtp:[a]:http", "lmtp:inet:", "lmtp:::1:24", "lmtp:unix:run", "lmtp:unix:",
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

func TestRelativeSocketSaysWhereItIs(t *testing.T) {
	_, err := ParseAddress("lmtp:unix:private/dovecot-lmtp")
	if err == nil || !strings.Contains(err.Error(), "lmtp:unix:/var/spool/postfix/private/dovecot-lmtp") {
		t.Errorf("error: %v", err)
	}
}
