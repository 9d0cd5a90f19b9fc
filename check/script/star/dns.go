// SPDX-License-Identifier: BSD-2-Clause

package star

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	startime "go.starlark.net/lib/time"
	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"
)

// Resolver asks DNS. Kinds are "a", "aaaa", "mx" (hosts, the preferred first), "txt" and
// "ptr". No records is an empty list; an error means that it could not be found out.
type Resolver interface {
	Records(ctx context.Context, kind, name string) ([]string, error)
}

// dnsMax bounds the questions of one call.
const dnsMax = 10

func dnsWords() []word {
	kind := func(name, doc string) word {
		return word{name, "(name) -> list or None", doc, func(c *Call, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			var host string
			if err := starlark.UnpackArgs(b.Name(), args, kwargs, "name", &host); err != nil {
				return nil, err
			}
			return c.records(name, host)
		}, false}
	}
	return []word{
		kind("a", "IPv4 addresses"), kind("aaaa", "IPv6 addresses"), kind("mx", "mail servers, most preferred first"), kind("txt", "TXT records"),
		{"ptr", "(ip) -> list or None", "host names of an address", dnsPTR, false},
		{"listed", "(ip, zone) -> string or None", "the answer of a DNS blocklist for an address, such as \"127.0.0.2\", or \"\" if it is not listed", dnsListed, false},
	}
}

func dnsModule() *starlarkstruct.Module {
	m := &starlarkstruct.Module{Name: "dns", Members: starlark.StringDict{}}
	for _, w := range dnsWords() {
		m.Members[w.name] = w.value()
	}
	return m
}

// records asks DNS; None if it could not be found out.
func (c *Call) records(kind, name string) (starlark.Value, error) {
	list, err := c.lookUp(kind, name)
	if err != nil || list == nil {
		return starlark.None, err
	}
	out := make([]starlark.Value, len(list))
	for i, s := range list {
		out[i] = text(s)
	}
	return starlark.NewList(out), nil
}

// lookUp asks DNS; nil if it could not be found out.
func (c *Call) lookUp(kind, name string) ([]string, error) {
	switch {
	case c.Loading:
		return nil, fmt.Errorf("dns.%s: is for functions: nothing is asked while a file is read", kind)
	case c.Env.DNS == nil:
		return nil, errNotHere
	}
	if c.asked++; c.asked > dnsMax {
		return nil, fmt.Errorf("dns.%s: more than %d questions in one call", kind, dnsMax)
	}
	if name = strings.TrimSuffix(name, "."); name == "" || len(name) > 253 || strings.ContainsAny(name, " \t\r\n\x00/\\@") {
		return []string{}, nil // nothing can have that name
	}
	list, err := c.Env.DNS.Records(c.context(), kind, strings.ToLower(name))
	if err != nil {
		return nil, nil //nolint:nilerr // None says so
	}
	if list == nil {
		list = []string{}
	}
	return list, nil
}

func dnsPTR(c *Call, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var ip string
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "ip", &ip); err != nil {
		return nil, err
	}
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return starlark.NewList(nil), nil //nolint:nilerr // it has no name
	}
	suffix := ".in-addr.arpa"
	if a.Unmap().Is6() {
		suffix = ".ip6.arpa"
	}
	return c.records("ptr", reversed(a)+suffix)
}

func dnsListed(c *Call, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var ip, zone string
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "ip", &ip, "zone", &zone); err != nil {
		return nil, err
	}
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return text(""), nil //nolint:nilerr // a local client is not listed
	}
	list, err := c.lookUp("a", reversed(a)+"."+strings.Trim(zone, "."))
	if err != nil || list == nil {
		return starlark.None, err
	}
	for _, s := range list {
		if strings.HasPrefix(s, "127.") { // RFC 5782 section 2.1
			return text(s), nil
		}
	}
	return text(""), nil
}

// reversed writes an address as names in DNS begin: RFC 1035 section 3.5, RFC 3596 section
// 2.5.
func reversed(a netip.Addr) string {
	a = a.Unmap()
	var parts []string
	if a.Is4() {
		for _, b := range a.As4() {
			parts = append([]string{fmt.Sprint(b)}, parts...)
		}
		return strings.Join(parts, ".")
	}
	for _, b := range a.As16() {
		parts = append([]string{fmt.Sprintf("%x", b&15), fmt.Sprintf("%x", b>>4)}, parts...)
	}
	return strings.Join(parts, ".")
}

func timeValue(t time.Time) starlark.Value { return startime.Time(t) }

func cutDot(s string) (before, after string, found bool) { return strings.Cut(s, ".") }
