// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestSummaryNamesExceptions: a rehearsal in which one domain refuses is not one in which
// nothing is refused.
func TestSummaryNamesExceptions(t *testing.T) {
	for _, tc := range []struct {
		enforce  string   // "": left out
		sections []string // their enforce
		want     string
	}{
		{"", []string{""}, "rehearsing: nothing is refused"}, // refusing is what one switches on
		{"true", nil, ", enforcing"},
		{"false", []string{"", "false"}, "rehearsing: nothing is refused"},
		{"false", []string{"true", "false"}, "rehearsing, but enforcing in 1 section"},
		{"true", []string{"true", "false", "false"}, "enforcing, but rehearsing in 2 sections"},
	} {
		set := func(enforce string) string {
			if enforce == "" {
				return ""
			}
			return "enforce = " + enforce + "\n"
		}
		text := set(tc.enforce)
		for i, e := range tc.sections {
			text += fmt.Sprintf("[[domain]]\nname = \"d%d.example\"\nbackend = [\"smtp:[192.0.2.1]\"]\n", i) + set(e)
		}
		_, c := testConfig(t, text)
		if got := summary(c); !strings.HasSuffix(got, tc.want) {
			t.Errorf("%q, want %q at the end", got, tc.want)
		}
	}
}
