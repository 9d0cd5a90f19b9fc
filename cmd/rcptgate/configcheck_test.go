// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rcptgate/kit/exit"
	"rcptgate/kit/testkit"
	"rcptgate/unit"
)

// TestConfigCheckWarns: what the daemon accepts and a postmaster would hardly want is named;
// only --strict makes it an exit code.
func TestConfigCheckWarns(t *testing.T) {
	p, c := testConfig(t, `
deadline = "10s"
trusted = ["0.0.0.0/0"]
[listen]
milter = ["inet:8890@0.0.0.0"]
http = "0.0.0.0:8899"
admin_group = "no-such-group"
[milter]
socket_group = "none-either"
[cache]
memcached = ["10.0.0.1"]
[aliases]
files = ["hash:/no/such/aliases"]
`)
	h, err := p.offline(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Stop()
	text := strings.Join(h.Warnings(), "\n")
	for _, want := range []string{
		"deadline", "no recipient is checked", "milter = \"inet:0.0.0.0:8890\" in [listen] listens on every address", "http = \"inet:0.0.0.0:8899\"",
		"admin_group", "no-such-group", "socket_group", "none-either", "memcached_key_file", "table aliases hash:/no/such/aliases",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no warning of %s in:\n%s", want, text)
		}
	}
	_, good := testConfig(t, "")
	quiet, err := p.offline(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	defer quiet.Stop()
	if w := quiet.Warnings(); len(w) > 0 {
		t.Errorf("the defaults warn: %q", w)
	}
}

// TestConfigCheckAsTheUser: what only root can read is found by root's own check.
func TestConfigCheckAsTheUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir, err := os.MkdirTemp("/var/tmp", "rcptgate-check-") // open to other users, as t.TempDir is not
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	secret, file := filepath.Join(dir, "aliases"), filepath.Join(dir, "rcptgate.toml")
	program := filepath.Join(dir, "rcptgate")
	self, _ := os.Executable()
	copied, _ := os.ReadFile(self)
	for path, f := range map[string]struct {
		data []byte
		mode os.FileMode
	}{secret: {[]byte("a: b\n"), 0o600}, file: {[]byte("[aliases]\nfiles = [\"text:" + secret + "\"]\n"), 0o644}, program: {copied, 0o755}} {
		if err := os.WriteFile(path, f.data, f.mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil { // #nosec G302 -- that is the point
		t.Fatal(err)
	}
	for user, code := range map[string]int{"nobody": 1, "": 0} {
		out, _ := exec.Command(program, "config", "check", "--strict", "--user", user, "-c", file).CombinedOutput()
		if readable := !strings.Contains(string(out), "permission denied"); readable != (code == 0) {
			t.Errorf("as %q: %s", user, out)
		}
	}
}

// TestReloadThatNamesAnUnreadableTable keeps the old configuration: nobody is put off for a
// slip of the pen.
func TestReloadThatNamesAnUnreadableTable(t *testing.T) {
	dir := t.TempDir()
	p, _ := testConfig(t, "")
	next := smallText(dir, "", "[aliases]\nfiles = [\"text:/no/such/aliases\"]")
	h, err := smallHost(t, unit.Options{Reread: func() (*unit.Config, error) { return unit.Parse(p.schema, "next.toml", next) }}, smallText(dir, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Reload(); err == nil || !strings.Contains(err.Error(), "text:/no/such/aliases cannot be read") {
		t.Errorf("%v", err)
	}
	if list := h.Tables.States(); len(list) > 0 {
		t.Errorf("left open: %v", list)
	}
}

// TestServeOnAnothersState: a daemon that runs as another user than the state's owner, as
// root does once by mistake, ends and says what to do; systemd does not start it again.
func TestServeOnAnothersState(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	state, file := filepath.Join(dir, "state"), filepath.Join(dir, "rcptgate.toml")
	if err := os.Mkdir(state, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(state, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(smallText(dir, "", "")), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs locked
	if code := run(t.Context(), units(), []string{"serve", "-c", file}, &out, &errs); code != exit.Config || !strings.Contains(errs.String(), "belongs to") {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
	if list, _ := os.ReadDir(state); len(list) > 0 {
		t.Errorf("left in another's directory: %v", list)
	}
}

// TestStateThatIsAFile can never work, and no disk comes back to mend it: "config check" finds it,
// the daemon does not start, and a reload keeps the old configuration. The message names the key
// and its line.
func TestStateThatIsAFile(t *testing.T) {
	dir := testkit.Dir(t)
	plain, file := filepath.Join(dir, "plain"), filepath.Join(dir, "rcptgate.toml")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{plain, filepath.Join(plain, "below", "it")} {
		text := fmt.Sprintf("enforce = true\nstate = %q\n[listen]\nadmin = \"unix:%s\"\n", state, filepath.Join(dir, "a.sock"))
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		want := file + ":2:1: state: " + plain + " is not a directory"
		for _, command := range [][]string{{"config", "check", "--user", ""}, {"serve"}} {
			t.Run(command[0]+" "+filepath.Base(state), func(t *testing.T) {
				interruptLater(t)
				var out, errs locked
				if code := run(t.Context(), units(), append(command, "-c", file), &out, &errs); code != exit.Config || !strings.Contains(errs.String(), want) || strings.Contains(errs.String(), "level=") {
					t.Errorf("exit code %d: %s", code, errs.String())
				}
			})
		}
	}
	p, _ := testConfig(t, "")
	next := fmt.Sprintf("state = %q\n", plain)
	h, err := smallHost(t, unit.Options{Reread: func() (*unit.Config, error) { return unit.Parse(p.schema, "next.toml", next) }}, smallText(dir, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Reload(); err == nil || !strings.Contains(err.Error(), "next.toml:1:1: state: ") {
		t.Errorf("reload: %v", err)
	}
}
