// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rcptgate/unit"
	"rcptgate/view"
)

// TestStatusIsExplained holds that the help of "rcptgate status" explains every table that
// status can print, and every column of it.
func TestStatusIsExplained(t *testing.T) {
	p, _ := testConfig(t, "")
	declared := map[string]view.Table{}
	for _, table := range unit.Tables(p.units) {
		if _, twice := declared[table.Name]; twice || table.Doc == "" || table.Title == "" {
			t.Errorf("table %q is declared twice, or says nothing of itself", table.Name)
		}
		declared[table.Name] = table
		for _, c := range table.Columns {
			if c.Doc == "" || c.Title == "" || c.Key == "" {
				t.Errorf("table %q: column %q is not explained", table.Name, c.Key)
			}
		}
	}
	for name, columns := range shownTables(t) {
		if table, ok := declared[name]; !ok || !slices.Equal(table.Columns, columns) {
			t.Errorf("status shows the table %q, which its unit does not declare (unit.Unit, Tables)", name)
		}
	}
	var help, errs strings.Builder
	if code := run(t.Context(), units(), []string{"status", "--help"}, &help, &errs); code != 0 {
		t.Fatalf("%d %s", code, errs.String())
	}
	for _, word := range []string{"Joined ", "Refreshed ", "Withdrawn ", "Held ", "Unproven refusals ", "Adapted to ", "Limit ", "Busy ", "Found by ", "Not believed "} {
		if !strings.Contains(help.String(), "    "+word) {
			t.Errorf("the help does not explain %q", word)
		}
	}
}

// shownTables are the columns of all tables that a gate shows which has every section that
// shows something.
func shownTables(t *testing.T) map[string][]view.Column {
	t.Helper()
	dir := t.TempDir()
	script, aliases, quotas := filepath.Join(dir, "filter.star"), filepath.Join(dir, "aliases"), filepath.Join(dir, "quotas")
	for path, text := range map[string]string{script: "SEEN = counter(\"seen\", window=\"1h\")\n", aliases: "ann: bob\n", quotas: "ann@example.org 0 1\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h, err := smallHost(t, unit.Options{}, smallText(dir, "", fmt.Sprintf(`socketmap = ["unix:%s/map.sock"]
[cache]
memcached = ["127.0.0.1:1"]
[aliases]
files = ["text:%s"]
publish = true
[script]
file = %q
[quota]
sources = ["file:%s"] # its tables are there once it was asked
[quota.ldap]
url = ["ldap://127.0.0.1:1"]
base = "dc=example"
schema = "qmail"
starttls = "off"
[antivirus]
clamd = ["unix:%s/clamd.sock"]
[dns]
listen = ["127.0.0.1:0"]
zones = [{ name = "bl.example", list = "bad" }]
[[blocklist]]
name = "bad"
[[rule]]
name = "one"
recipient = ["dave@*"]
`, dir, aliases, script, quotas, dir)))
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string][]view.Column{}
	for _, table := range h.Views() {
		shown[table.Name] = table.Columns
	}
	for _, name := range []string{"decisions", "backends", "memory", "memcached", "tables", "names", "milter", "socketmap", "dns", "refusals", "antivirus", "antivirus-found", "ldap", "ldap-memory",
		"blocklists", "listed", "rule", "existence", "script", "script-memory"} {
		if shown[name] == nil {
			t.Errorf("the table %q is not shown", name)
		}
	}
	return shown
}

// TestNoMemcachedNoTable: what is not configured is not shown.
func TestNoMemcachedNoTable(t *testing.T) {
	h, err := smallHost(t, unit.Options{}, smallText(t.TempDir(), "", ""))
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range h.Views() {
		if table.Name == "memcached" {
			t.Error("a table of memcached servers is shown where none is configured")
		}
	}
}
