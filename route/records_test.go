// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestRecords holds what a script hears of DNS: each type of record in text, MX by preference,
// nothing for names without records, an error where it could not be found out. An answer is
// remembered, and what is too much is left out.
func TestRecords(t *testing.T) {
	many := make([]string, maxRecords+20)
	for i := range many {
		many[i] = fmt.Sprintf("192.0.2.%d", i)
	}
	long := strings.Repeat(`"`+strings.Repeat("x", 250)+`" `, 40)
	s := startDNS(t, map[string][]string{
		"h.example A": {"192.0.2.2", "192.0.2.1"}, "h.example AAAA": {"2001:db8::1"}, "h.example MX": {"20 B.example.", "10 a.example."},
		"h.example TXT": {`"v=spf1 " "-all"`, `"other"`}, "1.2.0.192.in-addr.arpa PTR": {"Host.example."},
		"none.example NXDOMAIN": {""}, "many.example TRUNCATED": {""}, "long.example TRUNCATED": {""}, "many.example A": many, "long.example TXT": {long},
	})
	r := newRouter(t, Options{Servers: []string{s.addr}, Hostname: "gw.example.org"})
	for _, tc := range []struct{ kind, name, want string }{
		{"a", "h.example", "192.0.2.2 192.0.2.1"}, {"aaaa", "h.example", "2001:db8::1"}, {"mx", "h.example", "a.example b.example"},
		{"txt", "h.example", "v=spf1 -all other"}, {"ptr", "1.2.0.192.in-addr.arpa", "host.example"},
		{"a", "none.example", ""}, {"ptr", "h.example", ""}, {"a", strings.Repeat("x", 64) + ".example", ""},
	} {
		for range 2 {
			got, err := r.Records(t.Context(), tc.kind, tc.name)
			if err != nil || strings.Join(got, " ") != tc.want {
				t.Errorf("%s of %s: %q, %v, want %q", tc.kind, tc.name, got, err, tc.want)
			}
		}
	}
	if n := s.count(); n != 7 {
		t.Errorf("%d questions for 7 answers", n)
	}
	if got, err := r.Records(t.Context(), "a", "many.example"); err != nil || len(got) != maxRecords || slices.Contains(got, "") {
		t.Errorf("%d of many, %v", len(got), err)
	}
	if got, err := r.Records(t.Context(), "txt", "long.example"); err != nil || len(got) != 1 || len(got[0]) != maxText {
		t.Errorf("a long one: %d, %v", len(got), err)
	}
	if _, err := r.Records(t.Context(), "soa", "h.example"); err == nil {
		t.Error("an unknown type is no error")
	}
	s.set(func() { s.broken = true })
	if got, err := r.Records(t.Context(), "a", "broken.example"); err == nil {
		t.Errorf("from a broken server: %q", got)
	}
	if got, err := r.Records(t.Context(), "a", "h.example"); err != nil || len(got) != 2 {
		t.Errorf("what is remembered, with a broken server: %q, %v", got, err)
	}
}
