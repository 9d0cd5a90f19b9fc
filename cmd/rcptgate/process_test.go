// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rcptgate/backend/sim"
	"rcptgate/config/setting"
	"rcptgate/front/milter/mta"
	"rcptgate/kit/testkit"
)

// testDomain is whose mail a test's gate relays.
const testDomain = "demo.example"

// testUsers are those of the server behind: carl's mailbox is full.
func testUsers() sim.Behaviour {
	return sim.Behaviour{Users: []string{"ann@" + testDomain, "bob@" + testDomain}, Full: []string{"carl@" + testDomain}}
}

// patience bounds every wait of these tests.
const patience = time.Minute

// process is "rcptgate serve" as a process of its own, with signals and inherited
// sockets, and a mail server behind it that knows ann and bob.
type process struct {
	dir  string
	cmd  *exec.Cmd
	log  locked
	done chan struct{} // closed when it has ended
}

// locked is a buffer that the process writes while the test reads.
type locked struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// startProcess runs the daemon in dir. Files become its file descriptors from 3 on,
// and LISTEN_PID is its own, as sd_listen_fds(3) wants it.
func startProcess(t *testing.T, dir, config string, files []*os.File, env ...string) *process {
	t.Helper()
	server := sim.New(sim.Config{Behaviour: testUsers()})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	file := filepath.Join(dir, "rcptgate.toml")
	config = fmt.Sprintf("hostname = \"gateway.example\"\nenforce = true\nstate = %q\n%s\n[[domain]]\nname = %q\nbackend = [%q]\n",
		filepath.Join(dir, "state"), config, testDomain, server.Backend())
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &process{dir: dir, done: make(chan struct{})}
	p.cmd = exec.Command("sh", "-c", `LISTEN_PID=$$ exec rcptgate serve -c "$0"`, file)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.ExtraFiles = files
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", p.log.String())
		}
	})
	return p
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// ended waits for the end and wants exit status 0.
func (p *process) ended(t *testing.T) {
	t.Helper()
	select {
	case <-p.done:
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	case <-time.After(patience):
		t.Fatal("the daemon does not end")
	}
}

// openMTA connects as an MTA does, up to MAIL.
func openMTA(path string) (*mta.Client, error) {
	c, err := mta.Dial(context.Background(), setting.Socket{Network: "unix", Address: path}, mta.Options{Timeout: patience})
	if err != nil {
		return nil, err
	}
	_, err = c.Connect("client.example", netip.MustParseAddrPort("192.0.2.7:40000"))
	if err == nil {
		_, err = c.Mail("sender@example.org", nil)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

func wantCode(c *mta.Client, recipient string, want int) error {
	r, err := c.Rcpt(recipient + "@" + testDomain)
	if err == nil && r.Code != want {
		err = fmt.Errorf("%s: code %d, want %d (%s)", recipient, r.Code, want, r.Text)
	}
	return err
}

// TestTerminationFinishesTransactions ends the daemon while a client is between two
// recipients: nobody new gets in, it hears its answers, and what was learnt is kept.
func TestTerminationFinishesTransactions(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "milter.sock")
	p := startProcess(t, dir, fmt.Sprintf("[listen]\nmilter = [%q]\nhttp = \"\"", "unix:"+socket), nil)
	var c *mta.Client
	testkit.Eventually(t, "the daemon", func() (ok bool) { var err error; c, err = openMTA(socket); return err == nil })
	if err := wantCode(c, "ann", 0); err != nil {
		t.Fatal(err)
	}
	p.signal(t, syscall.SIGTERM)
	testkit.Eventually(t, "the milter socket's end", func() bool { _, err := net.Dial("unix", socket); return err != nil })
	for _, tc := range []struct {
		recipient string
		code      int
	}{{"bob", 0}, {"nobody", 550}, {"carl", 452}} {
		if err := wantCode(c, tc.recipient, tc.code); err != nil {
			t.Errorf("during the drain: %v", err)
		}
	}
	select {
	case <-p.done:
		t.Error("the daemon ended within a transaction")
	default:
	}
	if err := c.Abort(); err != nil {
		t.Error(err)
	}
	p.ended(t)
	for _, gone := range []string{socket, filepath.Join(dir, "state", "admin.sock")} {
		if _, err := os.Lstat(gone); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left behind: %v", gone, err)
		}
	}
}

// TestSecondSignalEndsTheDrain ends the daemon within a transaction that nobody ends.
func TestSecondSignalEndsTheDrain(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "milter.sock")
	p := startProcess(t, dir, fmt.Sprintf("[listen]\nmilter = [%q]\nhttp = \"\"\n[milter]\ndrain = \"5m\"", "unix:"+socket), nil)
	var c *mta.Client
	testkit.Eventually(t, "the daemon", func() (ok bool) { var err error; c, err = openMTA(socket); return err == nil })
	defer func() { _ = c.Close() }()
	if err := wantCode(c, "ann", 0); err != nil {
		t.Fatal(err)
	}
	p.signal(t, syscall.SIGTERM)
	testkit.Eventually(t, "the milter socket's end", func() bool { _, err := net.Dial("unix", socket); return err != nil })
	if err := wantCode(c, "bob", 0); err != nil {
		t.Errorf("during the drain: %v", err)
	}
	p.signal(t, syscall.SIGTERM)
	p.ended(t)
	if !strings.Contains(p.log.String(), "second signal") {
		t.Errorf("the log says: %s", p.log.String())
	}
}

// TestHangupUnderLoad reloads again and again, good files and bad ones, while clients
// ask: every one of them keeps its connection and hears the right answers.
func TestHangupUnderLoad(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "milter.sock")
	p := startProcess(t, dir, fmt.Sprintf("[listen]\nmilter = [%q]\nhttp = \"\"\n[log]\ndecisions = false", "unix:"+socket), nil)
	testkit.Eventually(t, "the daemon", func() bool { c, err := openMTA(socket); return err == nil && c.Close() == nil })
	good, err := os.ReadFile(filepath.Join(dir, "rcptgate.toml"))
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	failed := make(chan error, 4)
	var clients sync.WaitGroup
	for range cap(failed) {
		clients.Go(func() { failed <- askOn(socket, stop) })
	}
	for i, want := range []string{"configuration reloaded", "reload failed"} {
		for round := range 5 {
			text := string(good)
			if i == 1 {
				text += "colour = \"blue\"\n"
			}
			if err := os.WriteFile(filepath.Join(dir, "rcptgate.toml"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			p.signal(t, syscall.SIGHUP)
			testkit.Eventually(t, "the reload", func() bool { return strings.Count(p.log.String(), want) > round })
		}
	}
	close(stop)
	clients.Wait()
	for range cap(failed) {
		if err := <-failed; err != nil {
			t.Errorf("a client: %v", err)
		}
	}
	p.signal(t, syscall.SIGTERM)
	p.ended(t)
}

// askOn asks on one connection, transaction after transaction, until stop.
func askOn(socket string, stop <-chan struct{}) error {
	c, err := openMTA(socket)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	for n, stopped := 0, false; n < 10 || !stopped; n++ {
		select {
		case <-stop:
			stopped = true
		default:
		}
		for _, tc := range []struct {
			recipient string
			code      int
		}{{"ann", 0}, {"nobody", 550}} {
			if err := wantCode(c, tc.recipient, tc.code); err != nil {
				return fmt.Errorf("transaction %d: %w", n, err)
			}
		}
		if err := c.Abort(); err != nil {
			return err
		}
		if _, err := c.Mail("sender@example.org", nil); err != nil {
			return err
		}
	}
	return nil
}

// dialUnix makes connections to a unix socket, whatever address is asked for.
func dialUnix(path string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
}
