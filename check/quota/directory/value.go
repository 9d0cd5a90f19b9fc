// SPDX-License-Identifier: BSD-2-Clause

package directory

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-ldap/ldap/v3"

	"rcptgate/config/setting"
)

// plan is what a configuration makes of entries: its preset and what overrides that.
type plan struct {
	preset
	filter       *filter
	unit         int64
	defaultLimit int64 // NotKnown: none
	wanted       []string
}

func newPlan(c *Config) (*plan, error) {
	p, ok := presets()[c.Schema]
	if !ok && c.Schema != "" {
		return nil, setting.Keyf("schema", "%q is not a known schema", c.Schema)
	}
	p.filter = cmp.Or(c.Filter, p.filter)
	p.limit, p.messages = cmp.Or(c.Attributes.Limit, p.limit), cmp.Or(c.Attributes.Messages, p.messages)
	p.user = cmp.Or(c.Attributes.User, p.user)
	if c.Attributes.Host != "" {
		p.host, p.hostIsDN = c.Attributes.Host, false
	}
	p.zero = cmp.Or(zero(c.Zero), p.zero, zeroUnlimited)
	out := &plan{preset: p, defaultLimit: NotKnown}
	if p.filter == "" {
		return nil, setting.Keyf("filter", "missing: set it, or a schema that has one")
	}
	if p.limit == "" && p.host == "" && p.user == "" {
		return nil, setting.Keyf("attributes", "nothing to look for: name limit, host or user, or set a schema")
	}
	for key, name := range map[string]string{"limit": p.limit, "messages": p.messages, "host": p.host, "user": p.user} {
		if strings.ContainsFunc(name, func(r rune) bool {
			return r >= 0x80 || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-;.", r)
		}) {
			return nil, setting.Keyf("attributes."+key, "%q is not the name of an attribute", name)
		}
	}
	var err error
	if out.filter, err = newFilter(p.filter); err != nil {
		return nil, setting.Keyf("filter", "%w", err)
	}
	if out.unit, err = parseSize(cmp.Or(c.Unit, p.unit, "1B")); err != nil {
		return nil, setting.Keyf("unit", "%w", err)
	}
	if c.DefaultLimit != "" {
		if out.defaultLimit, err = parseSize(c.DefaultLimit); err != nil {
			return nil, setting.Keyf("default_limit", "%w", err)
		}
	}
	for _, name := range []string{p.limit, p.messages, p.host, p.user, p.full.attribute, p.noLocal.attribute, p.inherited.attribute} {
		if name != "" && !slices.ContainsFunc(out.wanted, func(o string) bool { return strings.EqualFold(o, name) }) {
			out.wanted = append(out.wanted, name)
		}
	}
	return out, nil
}

// holds reports whether the entry meets a condition.
func (c condition) holds(e *ldap.Entry) bool {
	if c.attribute == "" {
		return false
	}
	has := slices.ContainsFunc(e.GetEqualFoldAttributeValues(c.attribute), func(v string) bool { return strings.EqualFold(strings.TrimSpace(v), c.value) })
	return has != c.negate
}

// read makes an Entry of what a server has sent. odd names attributes whose value was not
// usable; they count as absent.
func (p *plan) read(e *ldap.Entry) (out Entry, odd []string) {
	out = Entry{Found: 1, Limit: NotKnown, Messages: NotKnown, DN: cut(e.DN, maxValue)}
	one := func(name string) (string, bool) {
		if name == "" {
			return "", false
		}
		values := e.GetEqualFoldAttributeValues(name)
		if len(values) > 1 {
			odd = append(odd, name) // which of them holds is unknown
		}
		if len(values) != 1 {
			return "", false
		}
		return strings.TrimSpace(values[0]), true
	}
	if p.full.holds(e) {
		out.Flags |= OverQuota
	}
	if p.noLocal.holds(e) {
		out.Flags |= NoLocal
	}
	if !p.inherited.holds(e) {
		odd = append(odd, p.limits(&out, one)...)
	}
	if out.Limit == NotKnown {
		out.Limit = p.defaultLimit
	}
	if v, ok := one(p.host); ok {
		if out.Host = p.hostName(v); out.Host == "" {
			odd = append(odd, p.host)
		}
	}
	if v, ok := one(p.user); ok {
		if !usable(v) || strings.ContainsFunc(v, unicode.IsSpace) {
			odd = append(odd, p.user)
		} else {
			out.User = v
		}
	}
	return out, odd
}

// limits reads the two numbers.
func (p *plan) limits(out *Entry, one func(string) (string, bool)) (odd []string) {
	for _, n := range []struct {
		name string
		unit int64
		to   *int64
	}{{p.limit, p.unit, &out.Limit}, {p.messages, 1, &out.Messages}} {
		text, ok := one(n.name)
		if !ok {
			continue
		}
		v, full, err := p.number(text, n.unit)
		switch {
		case err != nil:
			odd = append(odd, n.name)
		case full:
			out.Flags |= OverQuota
		default:
			*n.to = v
		}
	}
	return odd
}

// number reads one limit: Unlimited, NotKnown, a number, or "full" for none at all.
func (p *plan) number(text string, unit int64) (n int64, full bool, err error) {
	if p.syntax == suffixed {
		for suffix, factor := range map[string]int64{"k": 1 << 10, "m": 1 << 20, "g": 1 << 30} {
			if rest, ok := strings.CutSuffix(strings.ToLower(text), suffix); ok {
				text, unit = rest, factor
			}
		}
	}
	n, err = strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil || n > math.MaxInt64/unit:
		return 0, false, fmt.Errorf("%q is not a limit", cut(text, 40))
	case n == -2 && p.syntax == suffixed:
		return NotKnown, false, nil // the server's default
	case n < 0:
		return Unlimited, false, nil
	case n > 0:
		return n * unit, false, nil
	case p.zero == zeroFull:
		return 0, true, nil
	case p.zero == zeroUnknown:
		return NotKnown, false, nil
	}
	return Unlimited, false, nil
}

// hostName gives a host name in lower case or an address; empty when it is neither.
func (p *plan) hostName(text string) string {
	if p.hostIsDN {
		text = text[strings.LastIndex(text, "/")+1:]
		if len(text) < 3 || !strings.EqualFold(text[:3], "cn=") {
			return ""
		}
		text = text[3:]
	}
	if addr, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil && addr.Zone() == "" {
		return addr.String()
	}
	text = strings.TrimSuffix(strings.ToLower(text), ".")
	if text == "" || len(text) > 253 || strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || strings.Contains(text, "..") || text[0] == '.' || text[0] == '-' {
		return ""
	}
	return text
}

// cut shortens a text to n octets.
func cut(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "")
	}
	return s
}
