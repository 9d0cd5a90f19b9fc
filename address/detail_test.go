// SPDX-License-Identifier: BSD-2-Clause

package address

import "testing"

func TestSplitDetail(t *testing.T) {
	for _, tc := range []struct{ delimiters, local, user, sep, detail string }{
		{"+", "ann+news", "ann", "+", "news"},
		{"+", "ann+a+b", "ann", "+", "a+b"},
		{"+", "ann+", "ann", "+", ""},
		{"+", "+ann", "+ann", "", ""},
		{"", "ann+news", "ann+news", "", ""},
		{"-+", "ann+a-b", "ann", "+", "a-b"},
		{"-", "owner-list", "owner-list", "", ""},
		{"-", "list-request", "list-request", "", ""},
		{"-", "mailer-daemon", "mailer-daemon", "", ""},
		{"-", "owner-", "owner", "-", ""},
	} {
		user, sep, detail := SplitDetail(tc.local, tc.delimiters)
		if user != tc.user || sep != tc.sep || detail != tc.detail {
			t.Errorf("%q by %q: %q, %q, %q", tc.local, tc.delimiters, user, sep, detail)
		}
	}
	for s, want := range map[string]bool{"": true, "+-": true, "@": false, "\"": false, "\\": false, " ": false, "\x00": false, "ü": false, "+++++++++": false} {
		if IsDelimiters(s) != want {
			t.Errorf("IsDelimiters(%q): %v", s, !want)
		}
	}
}
