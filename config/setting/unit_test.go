// SPDX-License-Identifier: BSD-2-Clause

package setting

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "8s": 8 * time.Second, "1d12h": 36 * time.Hour, "2w": 14 * 24 * time.Hour, "31d": 31 * 24 * time.Hour,
		"90m": 90 * time.Minute, "1500ms": 1500 * time.Millisecond, "1m30s": 90 * time.Second,
	} {
		got, err := ParseDuration(in)
		if err != nil || got.Std() != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "8", "s", "-1s", "1.5h", "1y", "1h-1m", " 1s", "1s ", "9999999999w", "9223372036854775807s", "11000d", "3653d1ms"} {
		if got, err := ParseDuration(in); err == nil || !strings.Contains(err.Error(), "15m") {
			t.Errorf("%q gave %v, %v", in, got, err)
		}
	}
}

func TestDurationIsReadAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := Duration(rapid.Int64Range(0, int64(MaxDuration)/1e6).Draw(t, "d") * 1e6)
		got, err := ParseDuration(d.String())
		if err != nil || got != d {
			t.Fatalf("%d became %q, then %d, %v", d, d, got, err)
		}
	})
}

// TestSocket has the spellings of Sendmail's and of Postfix's manual.
func TestSocket(t *testing.T) {
	for in, want := range map[string]Socket{
		"":                          {},
		"unix:/run/rcptgate/m.sock": {"unix", "/run/rcptgate/m.sock"},
		"local:/run/m.sock":         {"unix", "/run/m.sock"},
		"/run/m.sock":               {"unix", "/run/m.sock"},
		"inet:8890@127.0.0.1":       {"tcp", "127.0.0.1:8890"},
		"inet:127.0.0.1:8890":       {"tcp", "127.0.0.1:8890"},
		"127.0.0.1:8890":            {"tcp", "127.0.0.1:8890"},
		"inet6:8890@::1":            {"tcp", "[::1]:8890"},
		"inet6:8890@[::1]":          {"tcp", "[::1]:8890"},
		"inet:[2001:DB8:0::1]:8890": {"tcp", "[2001:db8::1]:8890"},
		"inet:8890@localhost":       {"tcp", "localhost:8890"},
		"localhost:0":               {"tcp", "localhost:0"},
		"inet:0.0.0.0:8890":         {"tcp", "0.0.0.0:8890"},
	} {
		got, err := ParseSocket(in)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
		if again, err := ParseSocket(got.String()); err != nil || again != got {
			t.Errorf("%q is written %q and read as %+v, %v", in, got, again, err)
		}
		if got.IsZero() != (in == "") {
			t.Errorf("%q: off is %v", in, got.IsZero())
		}
	}
	for _, in := range []string{
		"unix:relative", "unix:", "local:", "unix:/a\x00b", "unix:/" + strings.Repeat("x", 107), "inet:8890", "inet:8890@", ":8890",
		"inet::8890", "inet:99999@127.0.0.1", "inet:x@127.0.0.1", "127.0.0.1:-1", "nonsense", "inet:1:2:3",
	} {
		if got, err := ParseSocket(in); err == nil || !strings.Contains(err.Error(), strings.Trim(strings.Split(in, "\x00")[0], ":")) {
			t.Errorf("%q gave %+v, %v", in, got, err)
		}
	}
}

func TestNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.0/24": "192.0.2.0/24", "192.0.2.1": "192.0.2.1/32", "2001:db8::/32": "2001:db8::/32", "::1": "::1/128",
		"::ffff:192.0.2.1": "192.0.2.1/32", "0.0.0.0/0": "0.0.0.0/0",
	} {
		var n Network
		if err := n.UnmarshalText([]byte(in)); err != nil || n.String() != want {
			t.Errorf("%q: %v, %v", in, n, err)
		}
		text, _ := n.MarshalText()
		if again, err := ParseNetwork(string(text)); err != nil || again != n {
			t.Errorf("%q is written %q and read as %v, %v", in, text, again, err)
		}
	}
	for _, in := range []string{"", "192.0.2.1/24", "192.0.2.0/33", "fe80::1%eth0", "localhost", "10", "::ffff:192.0.2.0/120"} {
		if n, err := ParseNetwork(in); err == nil {
			t.Errorf("%q gave %v", in, n)
		}
	}
	n, _ := ParseNetwork("192.0.2.0/24")
	if !n.Has(netip.MustParseAddr("::ffff:192.0.2.9")) || n.Has(netip.MustParseAddr("192.0.3.9")) || n.Has(netip.Addr{}) {
		t.Error("Has is wrong")
	}
}

func TestKeyError(t *testing.T) {
	err := errors.Join(Keyf("expire", "is %w", errors.ErrUnsupported))
	var key *KeyError
	if !errors.As(err, &key) || key.Key != "expire" || !errors.Is(err, errors.ErrUnsupported) || err.Error() != "expire: is unsupported operation" {
		t.Errorf("%v", err)
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"1d12h", "inet:8890@127.0.0.1", "192.0.2.0/24", "unix:/x", "inet6:1@[::1]", "9w9w"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := ParseDuration(s); err == nil {
			if again, err := ParseDuration(d.String()); err != nil || again != d || d < 0 || d > MaxDuration {
				t.Errorf("duration %q: %v, %v, %v", s, d, again, err)
			}
		}
		if k, err := ParseSocket(s); err == nil {
			if again, err := ParseSocket(k.String()); err != nil || again != k {
				t.Errorf("socket %q: %v, %v, %v", s, k, again, err)
			}
		}
		if n, err := ParseNetwork(s); err == nil {
			if again, err := ParseNetwork(n.String()); err != nil || again != n {
				t.Errorf("network %q: %v, %v, %v", s, n, again, err)
			}
		}
	})
}
