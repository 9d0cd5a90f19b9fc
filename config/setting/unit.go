// SPDX-License-Identifier: BSD-2-Clause

// Package setting holds the values that configuration sections of every package use:
// durations ("8s", "15m", "31d"), networks and listening addresses in both MTAs'
// spellings. Each reads and writes itself as text; an error names the value and
// what is allowed.
package setting

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Duration is a time span written as numbers with the units s, m, h, d, w ("1d12h",
// "90s"; "ms" too). "0" is zero. The zero value is 0.
type Duration time.Duration

// MaxDuration is the longest duration a setting takes: ten years.
const MaxDuration = Duration(3653 * 24 * time.Hour)

var durationUnits = []struct {
	name string
	size time.Duration
}{
	{"w", 7 * 24 * time.Hour},
	{"d", 24 * time.Hour},
	{"h", time.Hour},
	{"ms", time.Millisecond},
	{"m", time.Minute},
	{"s", time.Second},
}

// Std gives d as the standard library has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String writes d in the largest units that lose nothing: "1d12h", weeks only when
// nothing is left over, since "31d" says more than "4w3d".
func (d Duration) String() string {
	if d == 0 {
		return "0s"
	}
	var b strings.Builder
	rest := time.Duration(d)
	for _, u := range []int{0, 1, 2, 4, 5, 3} { // w d h m s ms
		unit := durationUnits[u]
		if u == 0 && rest%unit.size != 0 {
			continue
		}
		if n := rest / unit.size; n > 0 {
			b.WriteString(strconv.FormatInt(int64(n), 10) + unit.name)
			rest -= n * unit.size
		}
	}
	return b.String()
}

// MarshalText writes d as String does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what String writes.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := ParseDuration(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

// ParseDuration reads a duration. Negative ones and those over MaxDuration are errors.
func ParseDuration(s string) (Duration, error) {
	bad := func() (Duration, error) {
		return 0, fmt.Errorf("%q is not a duration; expected a number with a unit s, m, h, d or w, as in \"15m\" or \"1d12h\", up to ten years", s)
	}
	if s == "0" {
		return 0, nil
	}
	rest, total := s, time.Duration(0)
	if rest == "" {
		return bad()
	}
	for rest != "" {
		digits := 0
		for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
			digits++
		}
		n, err := strconv.ParseInt(rest[:digits], 10, 64)
		if err != nil {
			return bad()
		}
		size, after := unitOf(rest[digits:])
		if size == 0 || n > int64(MaxDuration)/int64(size) {
			return bad()
		}
		total += time.Duration(n) * size
		if total > time.Duration(MaxDuration) {
			return bad()
		}
		rest = after
	}
	return Duration(total), nil
}

func unitOf(s string) (size time.Duration, rest string) {
	for _, u := range durationUnits {
		if after, ok := strings.CutPrefix(s, u.name); ok {
			return u.size, after
		}
	}
	return 0, s
}

// Network is a set of client addresses: "192.0.2.0/24", "2001:db8::/32", or one
// address. IPv4-mapped IPv6 addresses count as IPv4.
type Network struct{ netip.Prefix }

// ParseNetwork reads a network or a single address.
func ParseNetwork(s string) (Network, error) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return Network{netip.PrefixFrom(addr, addr.BitLen())}, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() { // a mapped prefix would match nothing: clients' addresses are unmapped
		return Network{}, fmt.Errorf("%q is not a network; expected an address or a prefix, as in \"192.0.2.0/24\" or \"2001:db8::/32\"", s)
	}
	if p != p.Masked() {
		return Network{}, fmt.Errorf("%q has bits set behind the prefix: did you mean %q?", s, p.Masked())
	}
	return Network{p}, nil
}

// Has reports whether the network contains addr.
func (n Network) Has(addr netip.Addr) bool { return n.Contains(addr.Unmap()) }

// UnmarshalText reads a network.
func (n *Network) UnmarshalText(text []byte) error {
	parsed, err := ParseNetwork(string(text))
	if err != nil {
		return err
	}
	*n = parsed
	return nil
}
