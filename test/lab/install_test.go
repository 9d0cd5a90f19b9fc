// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestKitsHoldWhatTheyName pretends that the system already has what the kits name, a program that depends on another
// mail server, and one of the libraries: kits are complete all the same, because tests look for programs in the kits.
func TestKitsHoldWhatTheyName(t *testing.T) {
	Need(t)
	if lists, _ := filepath.Glob("/var/lib/apt/lists/*Packages*"); len(lists) == 0 { // the pattern is well formed
		t.Skip("no package lists are here: the lab was prepared earlier")
	}
	status := ""
	for _, name := range strings.Fields("m4 memcached db5.3-util tinycdb lmdb-utils liblmdb0 postfix dovecot-core bsd-mailx") {
		status += fmt.Sprintf("Package: %s\nStatus: install ok installed\nMaintainer: a\nArchitecture: amd64\nVersion: 1\nDescription: a\n", name)
		if name == "bsd-mailx" {
			status += "Depends: exim4 | mail-transport-agent\n"
		}
		status += "\n"
	}
	dir := t.TempDir()
	write(t, dir, "status", status)
	for _, sub := range []string{"info", "updates"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("DPKG_ADMINDIR", dir)
	for kit, names := range map[Kit]string{
		SendmailKit: "sendmail-bin sendmail-base sendmail-cf m4", "memcached": "memcached", MapsKit: "postfix-cdb postfix-lmdb tinycdb lmdb-utils libcdb1",
	} {
		out, err := Installer("--plan", string(kit))
		if err != nil {
			t.Fatal(err)
		}
		plan := strings.Fields(out)
		for _, name := range strings.Fields(names) {
			if !slices.Contains(plan, name) {
				t.Errorf("%s lacks %s: it holds %v", kit, name, plan)
			}
		}
		if slices.Contains(plan, "liblmdb0") {
			t.Errorf("%s holds a library that the system has", kit)
		}
	}
}

// TestPrepared leaves install.sh out only when the lab is complete and the script is the one that completed it.
func TestPrepared(t *testing.T) {
	Need(t, ClamavKit)
	script, err := installer()
	if err != nil {
		t.Fatal(err)
	}
	if !prepared(script, Dir()) || !prepared(script, Dir(), string(ClamavKit)) {
		t.Error("a complete lab counts as incomplete")
	}
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "clamav"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what, ready, from string
		kits              []string
		want              bool
	}{
		{"another script", fmt.Sprintf("%x", sha256.Sum256(nil)), "", nil, false},
		{"this script", fmt.Sprintf("%x", sha256.Sum256(text)), "", nil, true},
		{"a kit that is not there", fmt.Sprintf("%x", sha256.Sum256(text)), "", []string{"dns"}, false},
		{"a kit from other packages", fmt.Sprintf("%x", sha256.Sum256(text)), "clamav-daemon", []string{"clamav"}, false},
		{"a kit", fmt.Sprintf("%x", sha256.Sum256(text)), "clamav-daemon clamav-base", []string{"clamav"}, true},
	} {
		write(t, dir, "ready", tt.ready+"\n")
		if tt.from != "" {
			write(t, dir, "clamav/made-from", tt.from+"\n")
		}
		if got := prepared(script, dir, tt.kits...); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.what, got, tt.want)
		}
	}
}
