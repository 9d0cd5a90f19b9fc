// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"errors"
	"strings"
	"testing"

	"rcptgate/config/setting"
)

func TestSectionsFind(t *testing.T) {
	names := []string{"Example.COM.", ".example.com", "*", ".deep.example.com", "bücher.example", "[192.0.2.1]"}
	for _, tt := range []struct {
		domain string
		want   int
	}{
		{"example.com", 0},
		{"a.example.com", 1},
		{"a.b.example.com", 1},
		{"deep.example.com", 1},
		{"x.deep.example.com", 3},
		{"notexample.com", 2},
		{"com", 2},
		{"xn--bcher-kva.example", 4},
		{"[192.0.2.1]", 5},
		{"[192.0.2.2]", 2}, // an address literal has no suffixes
		{"", -1},           // a bare user name
	} {
		s, wrong := readSections(names)
		if len(wrong) > 0 {
			t.Fatal(wrong)
		}
		if got := s.Find(tt.domain); got != tt.want {
			t.Errorf("%q: section %d, want %d", tt.domain, got, tt.want)
		}
		if n := testing.AllocsPerRun(50, func() { s.Find(tt.domain) }); n != 0 {
			t.Errorf("%q: %v allocations", tt.domain, n)
		}
	}
	var none Sections
	if got := none.Find("example.com"); got != -1 {
		t.Errorf("no sections: %d", got)
	}
	few, wrong := readSections([]string{"example.com"})
	if len(wrong) > 0 || few.Find("a.example.com") != -1 {
		t.Errorf("without a star: %d, %v", few.Find("a.example.com"), wrong)
	}
}

func TestSectionsErrors(t *testing.T) {
	_, wrong := readSections([]string{"*", "a.example", "u@a.example", "A.example.", "*", ".b.example", ".b.example"})
	err := errors.Join(wrong...)
	for _, want := range []string{"domain[3].name", "domain[4].name", "section 2", "domain[5].name", "section 1", "domain[7].name", "section 6"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
	var key *setting.KeyError
	if !errors.As(err, &key) {
		t.Errorf("not a setting's error: %v", err)
	}
}
