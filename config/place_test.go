// SPDX-License-Identifier: BSD-2-Clause

package config

import (
	"errors"
	"fmt"
	"testing"

	"rcptgate/config/setting"
)

// What is found wrong only when the units are built gets its line like everything else.
func TestPlace(t *testing.T) {
	type part struct {
		Name string `toml:"name" doc:"name"`
		Life int    `toml:"life" doc:"life"`
	}
	var cfg struct {
		Part []part `toml:"part" doc:"parts"`
	}
	f, err := Parse("a.toml", []byte("[[part]]\nname = \"one\"\n\n[[part]]\nname = \"two\"\nlife = 7\n"), &cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		file *File
		err  error
		want string
	}{
		{f, setting.Keyf("part[2].life", "too long"), "a.toml:6:1: part[2].life: too long"},
		{f, setting.Keyf("part[1].life", "missing"), "a.toml:1:3: part[1].life: missing"}, // the section's line
		{f, setting.Keyf("other", "missing"), "a.toml: other: missing"},
		{
			f, fmt.Errorf("build: %w", errors.Join(setting.Keyf("part[2].name", "no"), setting.Keyf("part[1].name", "no"))),
			"a.toml:2:1: part[1].name: no\na.toml:5:1: part[2].name: no",
		},
		{f, errors.Join(setting.Keyf("part[2].name", "no"), errors.New("and this")), "a.toml: part[2].name: no\nand this"},
		{nil, setting.Keyf("part[2].life", "too long"), "built-in defaults: part[2].life: too long"},
	} {
		if got := tc.file.Place(tc.err); got == nil || got.Error() != tc.want {
			t.Errorf("got  %v\nwant %s", got, tc.want)
		}
	}
	if err := f.Place(nil); err != nil {
		t.Errorf("nothing is wrong: %v", err)
	}
}
