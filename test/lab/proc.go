// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startLimit bounds the start of any server: a loaded machine of two cores needs a few seconds, never this long.
const startLimit = 90 * time.Second

// logTail bounds what a failing test shows of one log, in octets.
const logTail = 16 << 10

// Process is a running server and its process group.
type Process struct {
	// Name is the server's name in messages and file names.
	Name string
	// Dir is the server's own directory; it is removed at the end of the test.
	Dir string

	cmd    *exec.Cmd
	reaper io.Closer
	done   chan struct{} // closed when the process has ended; err is set by then
	err    error
}

// NewDir makes a directory for one server, removed at the end of the test, whose logs (files named *.log) are shown
// when the test fails. It lies below the lab and not below the test's temporary directory, which is world-writable.
func NewDir(t testing.TB, name string) string {
	t.Helper()
	run := filepath.Join(Dir(), "run")
	if os.Getuid() != 0 { // no lab here: only servers that do not care start without root
		run = t.TempDir()
	}
	if err := os.MkdirAll(run, 0o755); err != nil {
		t.Fatalf("making a directory for %s: %v", name, err)
	}
	dir, err := os.MkdirTemp(run, name+"-*")
	if err != nil {
		t.Fatalf("making a directory for %s: %v", name, err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatalf("making a directory for %s: %v", name, err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			ShowLogs(t, name, dir)
		}
		if os.Getenv("RCPTGATE_KEEP") == "" {
			_ = os.RemoveAll(dir)
		}
	})
	return dir
}

// ShowLogs writes the end of every *.log file of a server's directory to the test's output.
func ShowLogs(t testing.TB, name, dir string) {
	t.Helper()
	logs, _ := filepath.Glob(filepath.Join(dir, "*.log")) // the pattern is well formed
	for _, file := range logs {
		text, err := os.ReadFile(file)
		if err != nil || len(text) == 0 {
			continue
		}
		if len(text) > logTail {
			text = append([]byte("... "), text[len(text)-logTail:]...)
		}
		t.Logf("%s, %s:\n%s", name, filepath.Base(file), text)
	}
}

// Start starts a server in a process group of its own, its output going to output.log in dir. It ends with the test.
// A cmd without Env gets a nearly empty environment.
func Start(t testing.TB, name, dir string, cmd *exec.Cmd) *Process {
	t.Helper()
	out, err := os.OpenFile(filepath.Join(dir, "output.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	defer out.Close() //nolint:errcheck // the child has its own descriptor
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.Env == nil {
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	p := &Process{Name: name, Dir: dir, cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	p.reaper, err = startReaper(cmd.Process.Pid)
	if err != nil {
		p.Kill()
		t.Fatalf("starting the reaper of %s: %v", name, err)
	}
	t.Cleanup(p.Kill)
	return p
}

// startReaper starts a small shell that kills the process group when the returned pipe closes: at Kill, or because this
// process has ended in whatever way (a panic, a time-out of go test, a kill -9).
func startReaper(group int) (io.Closer, error) {
	cmd := exec.Command("/bin/sh", "-c", `read -r _; kill -s KILL -- "-$1"`, "reaper", strconv.Itoa(group))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = cmd.Wait() }() // ends with the pipe
	return pipe, nil
}

// Pid returns the process id, which is that of the process group too.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal to the server's first process, not to its children.
func (p *Process) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// Done is closed when the server's first process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode returns the exit code of a process that has ended, -1 if a signal ended it.
func (p *Process) ExitCode() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// Kill ends the whole process group at once (kill -9) and waits for the first process. It may be called again.
func (p *Process) Kill() {
	_ = syscall.Kill(-p.Pid(), syscall.SIGKILL) // ESRCH: already gone
	if p.reaper != nil {
		_ = p.reaper.Close()
	}
	<-p.done
}

// Stop asks the server to end with SIGTERM and waits; what is left of the group after the time is killed.
func (p *Process) Stop(limit time.Duration) {
	_ = p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(limit):
	}
	p.Kill()
}

// WaitFor waits until ready returns nil. It fails the test when the process ends before, or the start takes too long.
func (p *Process) WaitFor(t testing.TB, ready func() error) {
	t.Helper()
	deadline := time.Now().Add(startLimit)
	for {
		err := ready()
		if err == nil {
			return
		}
		select {
		case <-p.done:
			t.Fatalf("%s ended while it was starting: %v", p.Name, p.err)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s did not start within %v: %v", p.Name, startLimit, err)
		}
	}
}

// errNoBanner is returned by Greets while a server has not spoken.
var errNoBanner = errors.New("no banner")

// Greets returns nil when the TCP address or the unix socket answers a connection with a banner 220.
func Greets(network, addr string) error {
	c, err := net.DialTimeout(network, addr, 10*time.Second)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing was written
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	buf := make([]byte, 4)
	if _, err := io.ReadFull(c, buf); err != nil {
		return fmt.Errorf("reading the banner: %w", err)
	}
	if !bytes.HasPrefix(buf, []byte("220")) {
		return fmt.Errorf("%w: %q", errNoBanner, buf)
	}
	_, _ = io.WriteString(c, "QUIT\r\n")
	return nil
}

// run runs a short command of a kit to its end and returns what it wrote; it fails the test if the command fails.
func run(t testing.TB, kit Kit, dir string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = kit.environment()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("running %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// FreePort returns a loopback TCP port that is not in use and that no other test gets meanwhile, in this process or in
// another. It lies below those that the kernel gives to clients (net.ipv4.ip_local_port_range begins with 32768): one of
// these could be some other test's connection by the time a server wants it.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 12_000 + rand.IntN(20_000)
		if claim(t, port) {
			return port
		}
	}
	t.Fatal("finding a free port: none in 1,000 tries")
	return 0
}

// claim reserves a port until the test ends, if it is free. A server takes it seconds later, and two of Postfix share one
// without a word (SO_REUSEPORT): clients then reach either. So a claim is an abstract socket of the port's name (unix(7)):
// the kernel gives it to one process of a network namespace, and frees it when that ends in whatever way.
func claim(t testing.TB, port int) bool {
	held, err := net.Listen("unix", fmt.Sprintf("@rcptgate-lab-port-%d", port))
	if err != nil {
		return false
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		_ = held.Close()
		return false
	}
	_ = l.Close()
	t.Cleanup(func() { _ = held.Close() })
	return true
}

// write writes a file of a server's configuration.
func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatalf("writing %s: %v", path, err)
	}
	return path
}
