// SPDX-License-Identifier: BSD-2-Clause

package directory

import (
	"strings"
	"testing"

	"rcptgate"
)

func TestFilters(t *testing.T) {
	for text, want := range map[string]string{
		"(mail={address})": "", "(&(uid={local})(d={domain}))": "", "(mail=*{address}*)": "", "(mail>={local})": "", "(mail<={local})": "", "(mail~={local})": "", "(cn:2.5.13.2:={local})": "",
		"(&(xx=x)(mail={address}))": "",
		"(mail={address)":           "only", "(mail={})": "only", "(mail={user})": "only", "(mail={domain})": "does not name the mailbox", "(mail=x)": "does not name the mailbox",
		"({local}=x)": "only in the values", "({address}=*)": "only in the values", "(cn:{local}:=x)": "only in the values", "(&(mail={address})({local}=x))": "only in the values",
		"mail={address}": "not an LDAP filter", "(mail={address}": "not an LDAP filter",
	} {
		if _, err := newFilter(text); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestFilterOfAMailbox(t *testing.T) {
	for _, tt := range []struct{ filter, local, domain, want string }{
		{"(&(uid={local})(d={domain})(mail={address}))", "ann", "test", "(&(uid=ann)(d=test)(mail=ann@test))"},
		{"(mail={address})", "ann", "", "(mail=ann)"},
		{"(&(uid={local})(d={domain}))", "ann", "", ""},
		{"(uid={local})", "", "test", ""},
		{"(uid={local})", "a*)(uid=*", "test", `(uid=a\2a\29\28uid=\2a)`},
		{"(uid={local})", "a\x00", "test", ""},
		{"(uid={local})", "a\xff", "test", ""},
		{"(uid={local})", strings.Repeat("x", maxValue), "test", "(uid=" + strings.Repeat("x", maxValue) + ")"},
		{"(uid={local})", strings.Repeat("x", maxValue+1), "test", ""},
	} {
		f, err := newFilter(tt.filter)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := f.For(rcptgate.Mailbox{Local: tt.local, Domain: tt.domain}); ok != (tt.want != "") || ok && got != tt.want {
			t.Errorf("%s for %.20q, %q: %q, %v", tt.filter, tt.local, tt.domain, got, ok)
		}
	}
}
