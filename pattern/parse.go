// SPDX-License-Identifier: BSD-2-Clause

package pattern

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"rcptgate"
	"rcptgate/address"
)

// maxPattern bounds a pattern, in octets.
const maxPattern = 1024

// Kind is what a pattern names.
type Kind uint8

// The kinds.
const (
	Addresses Kind = iota
	Clients
	Hosts
	Names // of users and mailers
)

// String is the kind's plural, for people.
func (k Kind) String() string {
	return [...]string{"addresses", "clients", "host names", "names"}[k]
}

// parsed is one pattern without its "!".
type parsed struct {
	key  string // an exact key; "" if the pattern has none
	form Form
	glob *glob
	expr *regexp.Regexp
	word string // "local" for $local
	user string // of user@$local, in lower case; "" is everybody
	list string // "good" for list:good
}

// common reads what all kinds have: "list:NAME" and "/RE2/".
func common(s string) (p parsed, done bool, err error) {
	switch {
	case s == "":
		return p, true, errors.New("an empty pattern")
	case len(s) > maxPattern:
		return p, true, fmt.Errorf("a pattern of %d octets; at most %d are allowed", len(s), maxPattern)
	case strings.HasPrefix(s, "!"):
		return p, true, fmt.Errorf("%q: expected one \"!\" at most, at the beginning, and none in a list", s)
	case strings.HasPrefix(s, "list:"):
		if p.list = s[len("list:"):]; p.list == "" {
			return p, true, fmt.Errorf("%q: expected a name, as in \"list:good\"", s)
		}
		return p, true, nil
	case s[0] == '/':
		if len(s) < 3 || s[len(s)-1] != '/' {
			return p, true, fmt.Errorf("%q: a regular expression has a slash at both ends, as in %q", s, "/^[0-9]+@/")
		}
		p.expr, err = regexp.Compile("(?i:" + s[1:len(s)-1] + ")")
		if err != nil {
			err = fmt.Errorf("%q: %w", s, err)
		}
		return p, true, err
	}
	return p, false, nil
}

// addressForms ends errors about addresses.
const addressForms = `expected "user@domain", "@domain", "@.domain", "user@", "<>", a glob, "/RE/", "$local" or "list:NAME"`

// parseAddress reads a pattern of an address.
func parseAddress(s string) (p parsed, err error) {
	if p, done, err := common(s); done {
		return p, err
	}
	if word, ok := strings.CutPrefix(s, "$"); ok {
		return parsed{word: word}, localOnly(s, word)
	}
	switch s {
	case keyNull:
		return parsed{key: keyNull, form: FormNull}, nil
	case keyAny:
		return parsed{key: keyAny, form: FormAny}, nil
	}
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return p, fmt.Errorf("%q has no \"@\"; %s", s, addressForms)
	}
	local, domain := fold(unquoted(s[:at])), s[at+1:]
	if word, ok := strings.CutPrefix(domain, "$"); ok {
		if strings.ContainsAny(local, "*?") && local != keyAny {
			return p, fmt.Errorf("%q: no glob before \"@$\"", s)
		}
		return parsed{word: word, user: strings.TrimSuffix(local, keyAny)}, localOnly(s, word)
	}
	return addressKey(s, local, domain)
}

func localOnly(s, word string) error {
	if word != "local" {
		return fmt.Errorf("%q: of addresses, only \"$local\" is known", s)
	}
	return nil
}

// addressKey reads what stands around the "@".
func addressKey(s, local, domain string) (parsed, error) {
	if strings.ContainsAny(s, " \t\r\n\x00") && !strings.HasPrefix(s, `"`) {
		return parsed{}, fmt.Errorf("%q: blanks; %s", s, addressForms)
	}
	below := strings.HasPrefix(domain, ".")
	name := strings.TrimPrefix(domain, ".")
	switch {
	case below && name == "", strings.Contains(name, ".."), strings.HasPrefix(name, "."):
		return parsed{}, fmt.Errorf("%q: %q is not a domain; %s", s, domain, addressForms)
	case local == "" && domain == "":
		return parsed{}, fmt.Errorf("%q: nothing but \"@\"; %s", s, addressForms)
	}
	if local == keyAny {
		local = ""
	}
	if domain == keyAny {
		domain, name = "", ""
	}
	if strings.ContainsAny(local, "*?") || strings.ContainsAny(name, "*?") {
		g, err := newGlob(s, local, domain)
		return parsed{glob: g}, err
	}
	name = address.Domain(name)
	switch {
	case local == "" && name == "":
		return parsed{key: keyAny, form: FormAny}, nil
	case local == "" && below:
		return parsed{key: "." + name, form: FormBelow}, nil
	case local == "":
		return parsed{key: "@" + name, form: FormDomain}, nil
	case name == "":
		return parsed{key: local + "@", form: FormUser}, nil
	case below:
		return parsed{key: local + "@." + name, form: FormUserBelow}, nil
	}
	return parsed{key: local + "@" + name, form: FormAddress}, nil
}

// unquoted takes the quotes off a local part.
func unquoted(local string) string {
	if strings.HasPrefix(local, `"`) {
		return address.Parse(local + "@x").Local
	}
	return local
}

func fold(s string) string { return rcptgate.FoldCase(s) }

// glob is a pattern with "*" or "?" around an "@", or, of host names and words, without one.
type glob struct {
	local, domain string // "" is anything
	below         bool   // domain is what stands behind a dot
}

func newGlob(s, local, domain string) (*glob, error) {
	domain, err := globDomain(s, domain)
	if err != nil {
		return nil, err
	}
	g := &glob{local: local, domain: strings.TrimSuffix(fold(domain), ".")}
	if rest, ok := strings.CutPrefix(g.domain, "."); ok {
		g.domain, g.below = rest, true
	}
	return g, nil
}

// globDomain writes the labels of a glob of domains that are whole as DNS has them, in A-labels. Of a
// label with "*" or "?" no A-label can be made. The error names the pattern s.
func globDomain(s, domain string) (string, error) {
	labels := strings.Split(domain, ".")
	for i, label := range labels {
		wild := strings.ContainsAny(label, "*?")
		switch {
		case label == "" || strings.HasPrefix(label, "["):
		case !wild:
			labels[i] = address.Domain(label)
		case strings.ContainsFunc(label, func(r rune) bool { return r >= 0x80 }):
			return "", fmt.Errorf("%q: DNS has %q as an A-label (\"xn--...\"), in which no part can be replaced by \"*\" or \"?\"", s, label)
		}
	}
	return strings.Join(labels, "."), nil
}

// matches reports whether the glob names the address.
func (g *glob) matches(a *Address) bool {
	if a.full == "" {
		return false
	}
	if g.local != "" && !wild(g.local, a.full[:a.at]) && (a.base == "" || !wild(g.local, a.base[:a.user])) {
		return false
	}
	domain := a.full[a.at+1:]
	switch {
	case g.domain == "":
		return true
	case !g.below:
		return domain != "" && wild(g.domain, domain)
	}
	return !a.parents(func(above string) bool { return !wild(g.domain, above[1:]) })
}

// wild matches "*" and "?" (one octet). It takes at most len(pattern) x len(s) steps.
func wild(pattern, s string) bool {
	star, mark := -1, 0
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
