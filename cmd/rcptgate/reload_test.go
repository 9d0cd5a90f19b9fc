// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"rcptgate/config/unit"
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
	now.Listen.HTTP, now.State, now.Cache.Entries = unit.Socket{}, "/elsewhere", 5000
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
		l.Listen.Milter = []unit.Socket{{Network: "unix", Address: filepath.Join(dir, "m.sock")}}
		l.Listen.HTTP = unit.Socket{}
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

// A daemon that was killed leaves its sockets; the next one takes their place.
func TestHTTPSocketOfADeadDaemon(t *testing.T) {
	socket := unit.Socket{Network: "unix", Address: filepath.Join(t.TempDir(), "http.sock")}
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket.Address, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	l, err := listenHTTP(context.Background(), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if info, err := os.Stat(socket.Address); err != nil || info.Mode().Perm() != httpMode {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}
