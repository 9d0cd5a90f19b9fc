// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"strings"
	"testing"
)

// TestSummaryNamesExceptions: a rehearsal in which one domain refuses is not one in which nothing is refused.
func TestSummaryNamesExceptions(t *testing.T) {
	yes, no := true, false
	section := func(enforce *bool) (d DomainConfig) {
		d.Enforce = enforce
		return d
	}
	for _, tc := range []struct {
		enforce bool
		domains []DomainConfig
		want    string
	}{
		{true, nil, ", enforcing"},
		{false, []DomainConfig{section(nil), section(&no)}, "rehearsal: nothing is refused"},
		{false, []DomainConfig{section(&yes), section(&no)}, "rehearsal, but enforcing in 1 section"},
		{true, []DomainConfig{section(&yes), section(&no), section(&no)}, "enforcing, but rehearsing in 2 sections"},
	} {
		c := Config{Enforce: tc.enforce, Domain: tc.domains}
		if got := c.summary(); !strings.HasSuffix(got, tc.want) {
			t.Errorf("%q, want %q at the end", got, tc.want)
		}
	}
}
