// SPDX-License-Identifier: BSD-2-Clause

package pattern

import (
	"strings"
	"unsafe"

	"rcptgate"
	"rcptgate/address"
)

// Address is a mailbox made ready to be matched. The zero Address is the null reverse-path.
// It is for one goroutine, and can be set again and again without allocating.
type Address struct {
	full   string // local@domain in lower case, "local@" without a domain; "" is the null reverse-path
	base   string // full without the detail; "" when it has none
	at     int    // the "@" of full
	user   int    // the "@" of base
	hashed uint64 // of full; 0: not known
	own    []byte // what base lies in
	buf    []byte // what a key that is put together lies in
}

// Set makes a the address of a mailbox. Delimiters are what separates a detail; see
// [address.SplitDetail].
func (a *Address) Set(m *rcptgate.Mailbox, delimiters string) {
	if m.IsZero() {
		a.full, a.base, a.at, a.user, a.hashed = "", "", 0, 0, 0
		return
	}
	full := m.Key(true)
	a.set(full, len(full)-len(m.Domain)-1, delimiters)
}

// SetPath is Set for a path as SMTP has it, without brackets.
func (a *Address) SetPath(path, delimiters string) {
	if at := canonicalAt(path); at >= 0 {
		a.set(path, at, delimiters)
		return
	}
	m := address.Parse(path)
	a.Set(&m, delimiters)
}

// canonicalAt gives the place of the "@" of a path that is written as it is compared, as nearly
// every path is; -1 if that takes a closer look.
func canonicalAt(path string) int {
	if path == "" || !rcptgate.IsLower(path) || path[len(path)-1] == '.' {
		return -1
	}
	switch path[0] {
	case '<', '@': // brackets, a source route
		return -1
	}
	if strings.IndexByte(path, '"') >= 0 { // an "@" in quotes is not the one before the domain
		return -1
	}
	return strings.LastIndexByte(path, '@')
}

func (a *Address) set(full string, at int, delimiters string) {
	a.full, a.base, a.at, a.user, a.hashed = full, "", at, 0, 0
	user, sep, _ := address.SplitDetail(full[:at], delimiters)
	if sep == "" {
		return
	}
	a.own = append(append(a.own[:0], user...), full[at:]...)
	a.base, a.user = text(a.own), len(user)
}

// String is the canonical address: what regular expressions see.
func (a *Address) String() string {
	if a.full == "" {
		return "<>"
	}
	return strings.TrimSuffix(a.full, "@")
}

// domain is the domain in lower case, without "@"; "" for a bare name.
func (a *Address) domain() string {
	if a.full == "" {
		return ""
	}
	return a.full[a.at+1:]
}

// Form is a way in which an exact key names addresses.
type Form uint8

// The forms, the most exact first. Each has keys of its own shape.
const (
	FormAddress   Form = iota // user@dom
	FormUserBelow             // user@.dom
	FormUser                  // user@
	FormDomain                // @dom
	FormBelow                 // @.dom
	FormAny                   // *
	FormNull                  // <>
	formCount
)

// Forms is a set of forms.
type Forms uint8

// Has reports whether f is in the set.
func (s Forms) Has(f Form) bool { return s>>f&1 != 0 }

// Add puts f into the set.
func (s *Forms) Add(f Form) { *s |= 1 << f }

// Keys. They are pieces of an address wherever that is possible, so that looking one up
// does not mean making it: "user@dom", "user@", "@dom", ".dom" for everything below,
// "user@.dom"; "*" and "<>" have no "@" before anything, and are no pieces.
const (
	keyAny  = "*"
	keyNull = "<>"
)

// Keys calls f for every exact key of the forms that names the address, the most exact
// first, until it returns false. The key is valid during the call. Literal leaves details
// alone: "ann+x@dom" is not ann@dom.
func (a *Address) Keys(forms Forms, literal bool, f func(form Form, key string) bool) bool {
	if a.full == "" {
		return !forms.Has(FormNull) || f(FormNull, keyNull)
	}
	base := a.base
	if literal {
		base = ""
	}
	if forms.Has(FormAddress) && a.at+1 < len(a.full) {
		if !f(FormAddress, a.full) || base != "" && !f(FormAddress, base) {
			return false
		}
	}
	if forms.Has(FormUserBelow) && !a.userBelow(base, f) {
		return false
	}
	if forms.Has(FormUser) {
		if !f(FormUser, a.full[:a.at+1]) || base != "" && !f(FormUser, base[:a.user+1]) {
			return false
		}
	}
	if forms.Has(FormDomain) && a.at+1 < len(a.full) && !f(FormDomain, a.full[a.at:]) {
		return false
	}
	if forms.Has(FormBelow) && !a.parents(func(above string) bool { return f(FormBelow, above) }) {
		return false
	}
	return !forms.Has(FormAny) || f(FormAny, keyAny)
}

// parents calls f for ".example.org", ".org" of a.example.org.
func (a *Address) parents(f func(above string) bool) bool {
	domain := a.full[a.at+1:]
	if domain == "" || domain[0] == '[' {
		return true
	}
	for dot := strings.IndexByte(domain, '.'); dot >= 0; {
		if domain = domain[dot:]; !f(domain) {
			return false
		}
		if dot = strings.IndexByte(domain[1:], '.'); dot >= 0 {
			dot++
		}
	}
	return true
}

// hash is the hash of one of the address's keys. That of the whole address is kept: several
// tables may be asked for it.
func (a *Address) hash(key string) uint64 {
	if len(key) != len(a.full) || unsafe.StringData(key) != unsafe.StringData(a.full) {
		return hashOf(key)
	}
	if a.hashed == 0 {
		a.hashed = hashOf(key)
	}
	return a.hashed
}

func (a *Address) userBelow(base string, f func(Form, string) bool) bool {
	return a.parents(func(above string) bool {
		if !f(FormUserBelow, a.join(a.full[:a.at+1], above)) {
			return false
		}
		return base == "" || f(FormUserBelow, a.join(base[:a.user+1], above))
	})
}

func (a *Address) join(user, above string) string {
	a.buf = append(append(a.buf[:0], user...), above...)
	return text(a.buf)
}

// text is b as a string that is valid until b changes.
func text(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b)) // #nosec G103 -- no key is kept beyond the call that it is given to
}
