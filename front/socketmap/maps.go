// SPDX-License-Identifier: BSD-2-Clause

package socketmap

import (
	"bytes"
	"context"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"rcptgate"
	"rcptgate/unit"
)

// answers are the maps of one configuration.
type answers struct {
	maps     map[string]unit.Map
	lists    map[string]listMap
	deadline time.Duration // for a look-up in one of maps
}

// listMap is a blocklist as a map.
type listMap struct {
	list rcptgate.Blocklist
	form string
}

// The forms of a list's values.
const (
	formAccess  = "access"
	formSeconds = "seconds"
)

// newAnswers has each list and each of the units' maps under its own name, and lists under
// the further names that the configuration gives them.
func newAnswers(s *unit.Setup, further []MapConfig) *answers {
	a := &answers{maps: s.Maps, lists: map[string]listMap{}, deadline: s.Core().Deadline.Std()}
	for name, list := range s.Blocklists {
		a.lists[name] = listMap{list, formAccess}
	}
	for _, m := range further {
		a.lists[m.Name] = listMap{s.Blocklists[m.List], m.Form}
	}
	return a
}

// names are the maps there are.
func (a *answers) names() []string {
	return slices.Sorted(func(yield func(string) bool) {
		for name := range maps.Keys(a.lists) {
			if !yield(name) {
				return
			}
		}
		for name := range maps.Keys(a.maps) {
			if _, list := a.lists[name]; !list && !yield(name) {
				return
			}
		}
	})
}

// result is how a question was answered.
type result int

const (
	found result = iota
	absent
	failed
	unknownMap
	resultCount
)

// answer appends the answer to a question: a map's name, a space, a key.
func (a *answers) answer(ctx context.Context, out, question []byte) ([]byte, result) {
	name, key, _ := bytes.Cut(question, []byte(" "))
	if m, ok := a.lists[string(name)]; ok {
		value, listed := m.find(key, time.Now())
		if !listed {
			return appendReply(out, "NOTFOUND", ""), absent
		}
		return appendReply(out, "OK", value), found
	}
	m, ok := a.maps[string(name)]
	if !ok {
		// Not PERM, which lets mail through, and not NOTFOUND, which would hide the mistake.
		return appendReply(out, "TEMP", "unknown map "+strconv.Quote(string(name[:min(len(name), 64)]))), unknownMap
	}
	if len(key) == 0 || string(key) == `""` || string(key) == "<>" { // the null sender; no map has it
		return appendReply(out, "NOTFOUND", ""), absent
	}
	ctx, cancel := context.WithTimeout(ctx, a.deadline)
	defer cancel()
	value, ok, err := m(ctx, string(key))
	switch {
	case err != nil:
		return appendReply(out, "TEMP", clean(err.Error())), failed
	case !ok:
		return appendReply(out, "NOTFOUND", ""), absent
	case value == "": // the key itself will do: what matters is that it is there
		value = string(key)
	}
	return appendReply(out, "OK", clean(value)), found
}

// clean is a text without control characters, as long as a reply may be.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	return text[:min(len(text), maxValue)]
}

// find looks a client up. Keys that are not addresses, such as client names, are not on any
// list.
func (m listMap) find(key []byte, now time.Time) (value string, listed bool) {
	client, ok := parseClient(key)
	if !ok || !m.list.Enforced() {
		return "", false
	}
	l, listed := m.list.Listed(client)
	if !listed {
		return "", false
	}
	if m.form == formSeconds {
		left := l.Until.Sub(now)
		return strconv.FormatInt(max(int64(left/time.Second), 1), 10), true
	}
	return accessValue(m.list), true
}

// parseClient reads an address as Sendmail's ${client_addr} and Postfix write it:
// "192.0.2.1", "2001:db8::1", "IPv6:2001:db8:0:0:0:0:0:1", in any case and in brackets too.
func parseClient(key []byte) (netip.Addr, bool) {
	if n := len(key); n > 2 && key[0] == '[' && key[n-1] == ']' {
		key = key[1 : n-1]
	}
	const tag = "ipv6:"
	if len(key) > len(tag) && strings.EqualFold(string(key[:len(tag)]), tag) {
		key = key[len(tag):]
	}
	if len(key) == 0 || len(key) > maxClient {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(string(key))
	return addr.WithZone("").Unmap(), err == nil
}

// maxClient is the longest address in text, with the name of an interface.
const maxClient = 64

// maxText bounds the text of an access value: an SMTP line has room for it, and so has a
// rewriting rule of Sendmail's.
const maxText = 200

// accessValue is an action of access(5) that also passes through Sendmail's rewriting as it
// is: see docs/decisions/0507-socket-map-values.md.
func accessValue(list rcptgate.Blocklist) string {
	code, text := list.Refusal()
	if text = plain(text); text == "" {
		text = "Mail from your address is refused here for the time being"
	}
	if code/100 == 4 {
		return strconv.Itoa(code) + " 4.7.1 " + text
	}
	return "REJECT 5.7.1 " + text
}

// plain leaves of a text what neither MTA gives a meaning of its own: Sendmail takes
// parentheses as comments and pairs quotes, angle brackets and backslashes when it splits a
// value into tokens, and expands "$" and "%".
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r < ' ' || r >= 0x7f:
			return ' '
		case strings.ContainsRune(`()<>"\$%`, r):
			return ' '
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	return strings.TrimSpace(text[:min(len(text), maxText)])
}
