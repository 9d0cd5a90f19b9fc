// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rcptgate/config/setting"
	"rcptgate/front/admin"
)

// A file that was there at the start and is gone at a reload is an error, whoever named
// it: the built-in defaults would enforce what is only rehearsed.
func TestReloadWithoutItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rcptgate.toml")
	if err := os.WriteFile(path, []byte("enforce = false\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := readConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	again := rereader("", l) // as if the default path had led there
	if now, err := again(); err != nil || now.Enforce {
		t.Fatalf("read again: %+v, %v", now, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if now, err := again(); err == nil {
		t.Errorf("without its file: enforce = %v from %s, want an error", now.Enforce, now.source())
	}
}

// What needs a restart is named at every reload until it has had one.
func TestNeedRestart(t *testing.T) {
	begun, now := defaults(), defaults()
	if got := needRestart(&begun, &now); got != nil {
		t.Errorf("nothing changed: %v", got)
	}
	now.Listen.HideAddresses = true // takes effect at once
	if got := needRestart(&begun, &now); got != nil {
		t.Errorf("hide_addresses: %v", got)
	}
	now.Listen.HTTP, now.State, now.Cache.Entries = setting.Socket{}, "/elsewhere", 5000
	if got, want := needRestart(&begun, &now), []string{"state", "listen", "cache.entries"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestRestartIsStillNeededAtTheNextReload reloads twice.
func TestRestartIsStillNeededAtTheNextReload(t *testing.T) {
	dir := t.TempDir()
	make := func(entries int) *loaded {
		l := &loaded{Config: defaults()}
		l.State, l.Cache.Entries, l.Cache.DiskEntries = dir, entries, 0
		l.Listen.Milter = []setting.Socket{{Network: "unix", Address: filepath.Join(dir, "m.sock")}}
		l.Listen.HTTP = setting.Socket{}
		return l
	}
	d, err := startDaemon(context.Background(), make(5000), daemonOptions{
		stderr: new(locked), reread: func() (*loaded, error) { return make(6000), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer d.stop()
	for round := range 2 {
		if restart, err := d.reload(); err != nil || !slices.Equal(restart, []string{"cache.entries"}) {
			t.Errorf("reload %d: needs a restart: %v, %v", round, restart, err)
		}
	}
}

// smallDaemon runs a daemon in dir without a status page.
func smallDaemon(t *testing.T, dir string, o daemonOptions, change func(*loaded)) (*daemon, error) {
	t.Helper()
	l := &loaded{Config: defaults()}
	l.State, l.Cache.Entries, l.Cache.DiskEntries = filepath.Join(dir, "state"), 1000, 1000
	l.Listen.Milter = []setting.Socket{{Network: "unix", Address: filepath.Join(dir, "m.sock")}}
	l.Listen.HTTP = setting.Socket{}
	if change != nil {
		change(l)
	}
	if o.stderr == nil {
		o.stderr = new(locked)
	}
	d, err := startDaemon(context.Background(), l, o)
	if err == nil {
		t.Cleanup(d.stop)
	}
	return d, err
}

// A reload that waits for somebody keeps no other command waiting.
func TestSlowReloadKeepsNobodyWaiting(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	d, err := smallDaemon(t, t.TempDir(), daemonOptions{reread: func() (*loaded, error) {
		close(begun)
		<-release
		return nil, errors.New("enough")
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	reloaded := make(chan struct{})
	go func() { _, _ = d.reload(); close(reloaded) }()
	<-begun
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		_, _, _ = d.show(), d.foldCase("example.com"), d.hostname()
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

// A new host name reaches whatever shows it.
func TestReloadOfTheHostname(t *testing.T) {
	dir := t.TempDir()
	d, err := smallDaemon(t, dir, daemonOptions{reread: func() (*loaded, error) {
		l := &loaded{Config: defaults()}
		l.Hostname = "renamed.example"
		return l, nil
	}}, func(l *loaded) { l.Hostname = "first.example" })
	if err != nil {
		t.Fatal(err)
	}
	client := admin.NewClient(d.current().adminSocket().Address)
	defer client.Close()
	shown := func(name string) {
		t.Helper()
		page := httptest.NewRecorder()
		d.web.Handler(false).ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/", nil))
		if !strings.Contains(page.Body.String(), name) {
			t.Errorf("the status page does not name %s", name)
		}
		var export bytes.Buffer
		if _, err := client.Export(context.Background(), "", &export, nil); err != nil || !strings.Contains(export.String(), name) {
			t.Errorf("the export does not name %s: %v", name, err)
		}
	}
	shown("first.example")
	if _, err := d.reload(); err != nil {
		t.Fatal(err)
	}
	shown("renamed.example")
}

// A state directory, and a folder for sockets, that are removed and made again under a
// running daemon are its own again, admin socket and lock included.
func TestStateDirectoryMadeAgain(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	log := new(locked)
	d, err := smallDaemon(t, dir, daemonOptions{stderr: log, look: 10 * time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(state), os.Mkdir(state, 0o700), os.Remove(filepath.Join(dir, "m.sock"))); err != nil {
		t.Fatal(err)
	}
	until(t, "the admin socket", func() bool {
		client := admin.NewClient(d.current().adminSocket().Address)
		defer client.Close()
		_, err := client.Version(context.Background())
		return err == nil
	})
	until(t, "the milter socket", func() bool { c, err := openMTA(filepath.Join(dir, "m.sock")); return err == nil && c.Close() == nil })
	until(t, "the lock", func() bool { _, err := os.Stat(filepath.Join(state, "lock")); return err == nil })
	second := new(locked)
	if _, err := smallDaemon(t, dir, daemonOptions{stderr: second}, nil); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second daemon: %v", err)
	}
	if text := second.String(); text != "" {
		t.Errorf("the second daemon's log: %s", text)
	}
	for _, want := range []string{"somebody has removed or replaced a socket", "listening again", "state directory was removed or replaced"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in the log: %s", want, log)
		}
	}
}

// A daemon that was killed leaves its sockets; the next one takes their place.
func TestHTTPSocketOfADeadDaemon(t *testing.T) {
	socket := setting.Socket{Network: "unix", Address: filepath.Join(t.TempDir(), "http.sock")}
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket.Address, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	ls := listeners{every: time.Hour, log: slog.New(slog.DiscardHandler)}
	l, err := ls.open(context.Background(), "http", socket, httpMode, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if info, err := os.Stat(socket.Address); err != nil || info.Mode().Perm() != httpMode {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}
