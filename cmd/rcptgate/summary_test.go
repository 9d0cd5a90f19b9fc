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
		enforce  bool
		sections []string // their enforce, "" is none
		want     string
	}{
		{true, nil, ", enforcing"},
		{false, []string{"", "false"}, "rehearsing: nothing is refused"},
		{false, []string{"true", "false"}, "rehearsing, but enforcing in 1 section"},
		{true, []string{"true", "false", "false"}, "enforcing, but rehearsing in 2 sections"},
	} {
		text := fmt.Sprintf("enforce = %v\n", tc.enforce)
		for i, e := range tc.sections {
			text += fmt.Sprintf("[[domain]]\nname = \"d%d.example\"\nbackend = [\"smtp:[192.0.2.1]\"]\n", i)
			if e != "" {
				text += "enforce = " + e + "\n"
			}
		}
		_, c := testConfig(t, text)
		if got := summary(c); !strings.HasSuffix(got, tc.want) {
			t.Errorf("%q, want %q at the end", got, tc.want)
		}
	}
}
