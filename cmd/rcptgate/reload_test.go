// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rcptgate/front/admin"
	"rcptgate/kit/exit"
	"rcptgate/kit/testkit"
	"rcptgate/unit"
)

// A file that was there at the start and is gone at a reload is an error, whoever named
// it: the built-in defaults are not what was configured.
func TestReloadWithoutItsFile(t *testing.T) {
	p, _ := testConfig(t, "")
	path := filepath.Join(t.TempDir(), "rcptgate.toml")
	if err := os.WriteFile(path, []byte("enforce = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := unit.Load(p.schema, path)
	if err != nil {
		t.Fatal(err)
	}
	again := p.rereader("", c) // as if the default path had led there
	if now, err := again(); err != nil || !now.Core().Enforce {
		t.Fatalf("read again: %+v, %v", now, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if now, err := again(); err == nil {
		t.Errorf("without its file: %s, want an error", now.Source())
	}
}

// TestServeWithoutItsFile: a configuration file that is named and missing ends the daemon
// with 78; it does not run with defaults.
func TestServeWithoutItsFile(t *testing.T) {
	var out, errs locked
	interruptLater(t)
	if code := run(t.Context(), units(), []string{"serve", "-c", filepath.Join(t.TempDir(), "none.toml")}, &out, &errs); code != exit.Config || !strings.Contains(errs.String(), "none.toml") {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
}

// interruptLater ends a daemon that a test expects not to start.
func interruptLater(t *testing.T) {
	timer := time.AfterFunc(10*time.Second, func() {
		self, _ := os.FindProcess(os.Getpid())
		_ = self.Signal(os.Interrupt)
	})
	t.Cleanup(func() { timer.Stop() })
}

// What needs a restart is named at every reload until it has had one; what takes effect at
// once is not.
func TestNeedsRestart(t *testing.T) {
	dir := t.TempDir()
	p, _ := testConfig(t, "")
	next := ""
	h, err := smallHost(t, unit.Options{Reread: func() (*unit.Config, error) {
		return unit.Parse(p.schema, "next.toml", next)
	}}, smallText(dir, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	next = smallText(dir, "", "[dashboard]\nhide_addresses = true")
	if done, err := h.Reload(); err != nil || done.Restart != nil {
		t.Errorf("hide_addresses: %v, %v", done, err)
	}
	for round := range 2 {
		next = smallText(dir+"elsewhere", "", "[cache]\nentries = 5000\n[milter]\nidle = \"1h\"\nspool = \"2MB\"")
		want := []string{"state", "listen.milter", "cache.entries", "milter.idle", "milter.spool"}
		if done, err := h.Reload(); err != nil || !slices.Equal(done.Restart, want) {
			t.Errorf("reload %d: %v, %v", round, done, err)
		}
	}
	if st := h.Status(); len(st.Restart) != 5 {
		t.Errorf("status: %+v", st)
	}
}

// A reload that waits keeps no other command waiting.
func TestSlowReload(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	h, err := smallHost(t, unit.Options{Reread: func() (*unit.Config, error) {
		close(begun)
		<-release
		return nil, errors.New("enough")
	}}, smallText(t.TempDir(), "", ""))
	if err != nil {
		t.Fatal(err)
	}
	reloaded := make(chan struct{})
	go func() { _, _ = h.Reload(); close(reloaded) }()
	<-begun
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		_, _, _, _ = h.Show(), h.FoldCase("example.com"), h.Hostname(), h.Status()
	}()
	select {
	case <-answered:
	case <-time.After(patience):
		t.Error("a command waits for the reload")
	}
	close(release)
	<-reloaded
	<-answered
}

// TestFailedReload: the old configuration stays, and status, page and metric say so until a
// reload succeeds.
func TestFailedReload(t *testing.T) {
	dir := t.TempDir()
	p, _ := testConfig(t, "")
	next := smallText(dir, "colour = \"blue\"", "[[domain]]\nname = \"x\"\nbackend = [\"nonsense:\"]")
	h, err := smallHost(t, unit.Options{Reread: func() (*unit.Config, error) { return unit.Parse(p.schema, "next.toml", next) }}, smallText(dir, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Reload(); err == nil || !strings.Contains(err.Error(), "next.toml:3:1: colour") {
		t.Errorf("%v", err)
	}
	next = smallText(dir, "", "[[domain]]\nname = \"x\"\nbackend = [\"nonsense:\"]")
	if _, err := h.Reload(); err == nil || !strings.Contains(err.Error(), "next.toml:9:1: domain[1].backend") {
		t.Errorf("a unit that refuses the configuration: %v", err)
	}
	if st := h.Status(); st.ReloadError == "" || st.Mode != "enforcing" || st.Domains != 0 || len(st.Attention) == 0 {
		t.Errorf("status: %+v", st)
	}
	shows := func(lines ...string) {
		t.Helper()
		text := page(h, "/metrics")
		for _, line := range lines {
			if !strings.Contains(text, "\nrcptgate_"+line+"\n") {
				t.Errorf("the metrics lack %s", line)
			}
		}
	}
	shows("config_last_reload_successful 0", `mode{mode="enforcing"} 1`, `mode{mode="rehearsing"} 0`, `mode{mode="mixed"} 0`)
	for _, path := range []string{"/", "/readyz"} {
		if text := page(h, path); !strings.Contains(text, "last reload failed") {
			t.Errorf("%s does not say so: %s", path, text)
		}
	}
	next = smallText(dir, "", "[[domain]]\nname = \"x\"\nbackend = [\"smtp:[192.0.2.1]\"]\nenforce = false")
	if _, err := h.Reload(); err != nil {
		t.Fatal(err)
	}
	if st := h.Status(); st.ReloadError != "" || st.Mode != "mixed" || st.Domains != 1 || len(st.Attention) != 0 {
		t.Errorf("status: %+v", st)
	}
	shows("config_last_reload_successful 1", `mode{mode="enforcing"} 0`, `mode{mode="rehearsing"} 0`, `mode{mode="mixed"} 1`)
}

// A new host name reaches whatever shows it.
func TestReloadOfTheHostname(t *testing.T) {
	dir := t.TempDir()
	p, _ := testConfig(t, "")
	h, err := smallHost(t, unit.Options{Reread: func() (*unit.Config, error) {
		return unit.Parse(p.schema, "next.toml", smallText(dir, "hostname = \"renamed.example\"", ""))
	}}, smallText(dir, "hostname = \"first.example\"", ""))
	if err != nil {
		t.Fatal(err)
	}
	client := admin.NewClient(admin.SocketOf(h.Config()).Address)
	defer client.Close()
	shown := func(name string) {
		t.Helper()
		if !strings.Contains(page(h, "/"), name) {
			t.Errorf("the status page does not name %s", name)
		}
		var export locked
		if _, err := client.Export(context.Background(), "", &export, nil); err != nil || !strings.Contains(export.String(), name) {
			t.Errorf("the export does not name %s: %v", name, err)
		}
	}
	shown("first.example")
	if _, err := h.Reload(); err != nil {
		t.Fatal(err)
	}
	shown("renamed.example")
}

// Mail does not wait for a status page: a port that is taken is reported and tried again.
func TestHTTPPortThatIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text := strings.Replace(smallText(dir, "", ""), `http = ""`, `http = "`+taken.Addr().String()+`"`, 1)
	h, err := smallHost(t, unit.Options{Look: 20 * time.Millisecond}, text)
	if err != nil {
		t.Fatal(err)
	}
	if st := h.Status(); len(st.NotReady) > 0 || len(st.Attention) != 1 || !strings.Contains(st.Attention[0], "no status page") {
		t.Errorf("%+v", st)
	}
	c, err := openMTA(filepath.Join(dir, "m.sock"))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	_ = taken.Close()
	testkit.Eventually(t, "the page", func() bool { return h.Address("dashboard") != "" && len(h.Status().Attention) == 0 })
}

// A second daemon on the same state is refused, and says nothing in the log.
func TestSecondDaemon(t *testing.T) {
	dir := t.TempDir()
	if _, err := smallHost(t, unit.Options{}, smallText(dir, "", "")); err != nil {
		t.Fatal(err)
	}
	second := new(locked)
	if _, err := smallHost(t, unit.Options{Stderr: second}, smallText(dir, "", "")); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second daemon: %v", err)
	}
	if text := second.String(); text != "" {
		t.Errorf("the second daemon's log: %s", text)
	}
}
