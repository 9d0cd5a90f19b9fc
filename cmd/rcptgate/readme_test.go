// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"rcptgate/unit"
)

// TestConfigurationsInDocuments: what the documents tell people to write is read without an
// error.
func TestConfigurationsInDocuments(t *testing.T) {
	p, _ := testConfig(t, "")
	block := regexp.MustCompile("(?s)```toml\n(.*?)```")
	n := 0
	documents, _ := filepath.Glob("../../docs/*.md")
	for _, path := range append(documents, "../../README.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range block.FindAllStringSubmatch(string(text), -1) {
			n++
			if _, err := unit.Parse(p.schema, filepath.Base(path), m[1]); err != nil {
				t.Errorf("%v\nin:\n%s", err, m[1])
			}
		}
	}
	if n == 0 {
		t.Error("the documents have no configuration")
	}
}

// TestCommandsInTheReadme: the commands that the README names exist.
func TestCommandsInTheReadme(t *testing.T) {
	p, _ := testConfig(t, "")
	root := p.root()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, m := range regexp.MustCompile(`(?m)^    (?:sudo )?rcptgate ((?:[a-z]+ ?)+)`).FindAllStringSubmatch(string(text), -1) {
		n++
		words := strings.Fields(m[1])
		if cmd, _, err := root.Find(words[:1]); err != nil || cmd == root {
			t.Errorf("README names %q: %v", m[0], err)
		}
	}
	if n < 8 {
		t.Errorf("found %d commands", n)
	}
}

// TestMakeTargetsInDocuments: what the documents tell people to have made can be made, and the README
// says how to install, how to upgrade and how to take the gate out again.
func TestMakeTargetsInDocuments(t *testing.T) {
	targets := map[string]bool{}
	for _, name := range []string{"Makefile", "bench/bench.mk", "test/test.mk"} {
		text, err := os.ReadFile(filepath.Join("../..", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^([a-z][a-z -]*):`).FindAllStringSubmatch(string(text), -1) {
			for target := range strings.FieldsSeq(m[1]) {
				targets[target] = true
			}
		}
	}
	readme := ""
	documents, _ := filepath.Glob("../../docs/*.md")
	for _, path := range append(documents, "../../CONTRIBUTING.md", "../../README.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		readme = strings.Join(strings.Fields(string(text)), " ")
		for _, m := range regexp.MustCompile("(?m)(?:`|&& |sudo )make ([a-z-]+)|^    make ([a-z-]+) *(?:#.*)?$").FindAllStringSubmatch(string(text), -1) {
			if !targets[m[1]+m[2]] {
				t.Errorf("%s names %q, which the Makefile does not have", filepath.Base(path), m[0])
			}
		}
	}
	for _, want := range []string{" make sudo make install ", "**Upgrade**: `git pull && make && sudo make install", "**Take it out**: remove it from the MTA's configuration", "sudo make uninstall`"} {
		if !strings.Contains(readme, want) {
			t.Errorf("the README does not say %q", want)
		}
	}
}
