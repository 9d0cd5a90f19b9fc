// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rcptgate/front/admin"
	"rcptgate/kit/exit"
	"rcptgate/unit"
)

// notices are what the daemon tells its service manager (sd_notify(3)).
type notices struct{ *net.UnixConn }

func listenNotices(t *testing.T, dir string) (n notices, variable string) {
	t.Helper()
	path := filepath.Join(dir, "notify.sock")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return notices{conn}, "NOTIFY_SOCKET=" + path
}

const signOfLife = "WATCHDOG=1"

// read waits for a notice.
func (n notices) read(t *testing.T) string {
	t.Helper()
	buf := make([]byte, 4096)
	if err := n.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	size, err := n.Read(buf)
	if err != nil {
		t.Fatalf("no notice came: %v", err)
	}
	return string(buf[:size])
}

// next gives the next notice that is no sign of life.
func (n notices) next(t *testing.T) string {
	t.Helper()
	for {
		if notice := n.read(t); notice != signOfLife {
			return notice
		}
	}
}

// alive waits for signs of life, before which there must be no other notice.
func (n notices) alive(t *testing.T, signs int) {
	t.Helper()
	for range signs {
		if notice := n.read(t); notice != signOfLife {
			t.Fatalf("notice %q, want a sign of life", notice)
		}
	}
}

// inherited opens a socket as a socket unit would and gives its file.
func inherited(t *testing.T, network, address string) (*os.File, net.Addr) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	defer func() { _ = l.Close() }()
	file, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file, l.Addr()
}

// TestSystemd is the life of a service with sockets of systemd's own: it serves on
// them and opens none of its configuration's, tells when it is ready, reloading and
// ending, shows that it lives, and leaves the sockets to whoever made them.
func TestSystemd(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	told, variable := listenNotices(t, dir)
	milterFile, _ := inherited(t, "unix", at("m.sock"))
	secondFile, _ := inherited(t, "unix", at("second.sock"))
	adminFile, _ := inherited(t, "unix", at("a.sock"))
	httpFile, httpAddr := inherited(t, "tcp", "127.0.0.1:0")
	config := fmt.Sprintf("[listen]\nmilter = [%q]\nadmin = %q\nhttp = %q", "unix:"+at("not-milter"), "unix:"+at("not-admin"), "unix:"+at("not-http"))
	p := startProcess(t, dir, config, []*os.File{milterFile, adminFile, httpFile, secondFile},
		variable, "LISTEN_FDS=4", "LISTEN_FDNAMES=milter:admin:http:rcptgate.socket", "WATCHDOG_USEC=100000")

	if notice := told.next(t); !strings.HasPrefix(notice, "READY=1\nSTATUS=enforcing, 1 [[domain]] section") {
		t.Fatalf("first notice %q", notice)
	}
	for _, socket := range []string{"m.sock", "second.sock"} {
		c, err := openMTA(at(socket))
		if err != nil {
			t.Fatal(err)
		}
		if err := wantCode(c, "nobody", 550); err != nil {
			t.Error(err)
		}
		_ = c.Close()
	}
	client := admin.NewClient(at("a.sock"))
	defer client.Close()
	if _, err := client.Version(context.Background()); err != nil {
		t.Error(err)
	}
	resp, err := http.Get("http://" + httpAddr.String() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("readyz: %s %s", resp.Status, body)
	}

	told.alive(t, 3)
	p.signal(t, syscall.SIGHUP)
	notice := told.next(t)
	if !strings.HasPrefix(notice, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("on a hang-up: %q", notice)
	}
	if notice = told.next(t); !strings.HasPrefix(notice, "READY=1\nSTATUS=enforcing, 1 [[domain]] section") {
		t.Errorf("after the reload: %q", notice)
	}
	p.signal(t, syscall.SIGTERM)
	if notice = told.next(t); notice != "STOPPING=1" {
		t.Errorf("at the end: %q", notice)
	}
	p.ended(t)
	for _, kept := range []string{"m.sock", "second.sock", "a.sock"} {
		if _, err := os.Lstat(at(kept)); err != nil {
			t.Errorf("a socket of systemd's is gone: %v", err)
		}
	}
	if left, _ := filepath.Glob(at("not-*")); len(left) > 0 {
		t.Errorf("opened beside systemd's sockets: %v", left)
	}
}

// TestSystemdSocketThatIsNone names what cannot be listened on, rather than opening
// something else in its place.
func TestSystemdSocketThatIsNone(t *testing.T) {
	dir := t.TempDir()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	file, err := conn.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	p := startProcess(t, dir, "[listen]\nmilter = []\nhttp = \"\"", []*os.File{file}, "LISTEN_FDS=1", "LISTEN_FDNAMES=milter")
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatal("the daemon runs")
	}
	if code := p.cmd.ProcessState.ExitCode(); code != exit.Unavailable || !strings.Contains(p.log.String(), `"milter"`) {
		t.Errorf("exit code %d", code)
	}
}

// A reload that takes longer than the watchdog waits is no sign of death, and hang-ups
// meanwhile are one more reload after it.
func TestSlowReloadIsAlive(t *testing.T) {
	dir := t.TempDir()
	told, variable := listenNotices(t, dir)
	t.Setenv("NOTIFY_SOCKET", strings.TrimPrefix(variable, "NOTIFY_SOCKET="))
	t.Setenv("WATCHDOG_USEC", "40000")
	p, c := testConfig(t, fmt.Sprintf("state = %q\n[cache]\ndisk_entries = 0\n[log]\nlevel = \"error\"\n[listen]\nmilter = [%q]\nhttp = \"\"\n", dir, "unix:"+filepath.Join(dir, "m.sock")))
	begun, release := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	served := make(chan error, 1)
	go func() {
		served <- p.run(ctx, c, func() (*unit.Config, error) { begun <- struct{}{}; <-release; return c, nil }, nil)
	}()
	hangUp := func() {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Error(err)
		}
	}
	if notice := told.next(t); !strings.HasPrefix(notice, "READY=1\n") {
		t.Fatalf("first notice %q", notice)
	}
	hangUp()
	if notice := told.next(t); !strings.HasPrefix(notice, "RELOADING=1") {
		t.Fatalf("on a hang-up: %q", notice)
	}
	<-begun
	hangUp()
	hangUp()
	told.alive(t, 5) // while it reads its configuration again
	release <- struct{}{}
	if notice := told.next(t); !strings.HasPrefix(notice, "READY=1\n") {
		t.Errorf("after the reload: %q", notice)
	}
	<-begun // the hang-ups meanwhile
	cancel()
	close(release)
	if err := <-served; err != nil {
		t.Error(err)
	}
}
