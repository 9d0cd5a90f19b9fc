// SPDX-License-Identifier: BSD-2-Clause

package backend

import "testing"

// What is written between brackets must be one path for us and for the backend.
func TestWritable(t *testing.T) {
	for _, tc := range []struct {
		path string
		ok   bool
	}{
		{``, true},
		{`u@x.example`, true},
		{`"a b"@x.example`, true},
		{`"a>b <c"@x.example`, true},
		{`"a@b"@x.example`, true},
		{`"a\"b"@x.example`, true},
		{`"a\\"@x.example`, true},
		{`a." b".c@x.example`, true}, // RFC 5322 obs-local-part
		{`a\"b@x.example`, true},     // RFC 821: a quote that quotes nothing
		{`ü@x.example`, true},
		{`u@[IPv6:2001:db8::1]`, true},
		{`postmaster`, true},

		{`a b@x.example`, false},
		{`a>@x.example`, false},
		{`"a@x.example`, false},
		{`"a\"@x.example`, false}, // the quote is escaped: it does not close
		{`a\"> SIZE=1 \"b@x.example`, false},
		{`a\" <b> \"@x.example`, false},
		{`a\ b@x.example`, false},
		{`a@x.example\`, false}, // it would escape the bracket
		{`a\`, false},
		{`u@"x> SIZE=1 <y"`, false}, // quotes are a matter of the local part
		{`u@x"y"`, false},
		{"u@x\r\nRSET", false},
		{"\"a\\\r\nRSET\"@x", false},
		{"a\\\x00@x", false},
		{"u\x7f@x", false},
	} {
		if err := writable(tc.path); (err == nil) != tc.ok {
			t.Errorf("%q: %v", tc.path, err)
		}
	}
}
