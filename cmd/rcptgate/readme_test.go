// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"rcptgate/mta/mtaconf"
	"rcptgate/table"
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
	root, err := p.root()
	if err != nil {
		t.Fatal(err)
	}
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

// TestTablesThatAreNotRead: the manual names each kind of table and file that the gate does not
// read, what becomes of the names in it, and what to do instead; and the gate does as it says.
func TestTablesThatAreNotRead(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "### Tables that are not read\n")
	section, _, _ = strings.Cut(section, "\n## ")
	items := strings.Split(section, "\n- **")[1:]
	if !ok || len(items) != 3 {
		t.Fatalf("%d items:\n%s", len(items), section)
	}
	types := regexp.MustCompile("`([a-z]+):`").FindAllStringSubmatch(items[0][:strings.Index(items[0], "**")], -1)
	var named []string
	for _, m := range types {
		named = append(named, m[1])
		var s mtaconf.Source
		if _, err := table.ParseSpec(m[1] + ":/etc/aliases"); err == nil || !strings.Contains(err.Error(), "hash, btree, cdb, lmdb, text") {
			t.Errorf("%s: is read, or its error does not say what is: %v", m[1], err)
		}
		if list, all := s.Tables("alias_maps", []string{m[1] + ":/etc/aliases"}, "hash"); all || len(list) > 0 || len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], m[1]) {
			t.Errorf("%s in the MTA's configuration: %v, %v, %q", m[1], list, all, s.Warnings)
		}
	}
	for _, want := range []string{"regexp", "pcre", "ldap", "mysql", "pgsql", "cidr", "tcp", "socketmap", "nis"} {
		if !slices.Contains(named, want) {
			t.Errorf("%s: tables are not named", want)
		}
	}
	for i, want := range []string{"are not read", "~/.forward`** of a user on the gateway is not followed", "nsswitch.conf"} {
		item := strings.Join(strings.Fields(items[i]), " ")
		if !strings.Contains(item, want) || i < 2 && !strings.Contains(item, " Instead, ") || i == 2 && !strings.Contains(item, "write out only domains") {
			t.Errorf("not said: %q, or what to do instead, in\n%s", want, item)
		}
	}
}
