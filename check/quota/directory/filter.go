// SPDX-License-Identifier: BSD-2-Clause

package directory

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"rcptgate"
)

// maxValue is the longest value put into a filter, in octets: more than any mailbox has
// (RFC 5321 section 4.5.3.1.3 allows 256 for a path).
const maxValue = 512

// filter is a search filter (RFC 4515) with places for parts of an address. Values are
// escaped, so that an address changes nothing but assertion values.
type filter struct {
	texts []string // between the places, one more than there are places
	names []string // "address", "local", "domain"
}

// placeNames are what may stand in braces.
const placeNames = "{address}, {local} and {domain}"

// newFilter reads a filter and makes sure that every place is inside an assertion value.
func newFilter(text string) (*filter, error) {
	f := &filter{}
	rest := text
	for {
		at := strings.IndexByte(rest, '{')
		if at < 0 {
			f.texts = append(f.texts, rest)
			break
		}
		end := strings.IndexByte(rest[at:], '}')
		name := ""
		if end > 0 {
			name = rest[at+1 : at+end]
		}
		if !slices.Contains([]string{"address", "local", "domain"}, name) {
			return nil, fmt.Errorf("%q: only %s may stand in braces; write a brace in a value as \\7b or \\7d", text, placeNames)
		}
		f.texts, f.names = append(f.texts, rest[:at]), append(f.names, name)
		rest = rest[at+end+1:]
	}
	if !slices.Contains(f.names, "address") && !slices.Contains(f.names, "local") {
		return nil, fmt.Errorf("%q does not name the mailbox: {address} or {local} is missing", text)
	}
	return f, f.check(text)
}

// check compiles the filter with a word that occurs nowhere else, and looks where it is.
func (f *filter) check(text string) error {
	word := "x"
	for strings.Contains(text, word) {
		word += "x"
	}
	packet, err := ldap.CompileFilter(f.fill(func(string) string { return word }))
	if err != nil {
		return fmt.Errorf("%q is not an LDAP filter: %w", text, err)
	}
	in, all := count(packet, word, false)
	if in != all || in < len(f.names) {
		return fmt.Errorf("%q: %s may stand only in the values that attributes are compared with", text, placeNames)
	}
	return nil
}

// count finds word in the values of a compiled filter (in) and anywhere (all). The choices
// are those of RFC 4511 section 4.5.1.7.
func count(p *ber.Packet, word string, value bool) (in, all int) {
	if len(p.Children) == 0 {
		n := strings.Count(leaf(p), word)
		if value {
			return n, n
		}
		return 0, n
	}
	for i, c := range p.Children {
		isValue := value
		switch p.Tag {
		case ldap.FilterEqualityMatch, ldap.FilterGreaterOrEqual, ldap.FilterLessOrEqual, ldap.FilterApproxMatch, ldap.FilterSubstrings:
			isValue = value || p.ClassType == ber.ClassContext && i == 1
		case ldap.FilterExtensibleMatch:
			isValue = value || p.ClassType == ber.ClassContext && c.Tag == ldap.MatchingRuleAssertionMatchValue
		}
		a, b := count(c, word, isValue)
		in, all = in+a, all+b
	}
	return in, all
}

// leaf is the text of a primitive element.
func leaf(p *ber.Packet) string {
	if s, ok := p.Value.(string); ok {
		return s
	}
	return p.Data.String()
}

func (f *filter) fill(value func(name string) string) string {
	var b strings.Builder
	for i, name := range f.names {
		b.WriteString(f.texts[i])
		b.WriteString(value(name))
	}
	b.WriteString(f.texts[len(f.names)])
	return b.String()
}

// For gives the filter for one mailbox. It reports false for an address that no entry can
// have: one with an empty part that the filter uses, control characters, octets that are not
// UTF-8, or more than 512 octets.
func (f *filter) For(m rcptgate.Mailbox) (string, bool) {
	good := true
	text := f.fill(func(name string) string {
		v := part(m, name)
		good = good && usable(v)
		return ldap.EscapeFilter(v)
	})
	return text, good
}

func part(m rcptgate.Mailbox, name string) string {
	switch {
	case name == "local":
		return m.Local
	case name == "domain":
		return m.Domain
	case m.Domain == "":
		return m.Local
	}
	return m.Local + "@" + m.Domain
}

// usable reports whether a value can be part of an address or a user's name.
func usable(v string) bool {
	return v != "" && len(v) <= maxValue && utf8.ValidString(v) && !strings.ContainsFunc(v, unicode.IsControl)
}
