// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// MemcachedKit holds memcached and Perl's Cache::Memcached.
const MemcachedKit Kit = "memcached"

// MemcachedOptions says how a memcached runs.
type MemcachedOptions struct {
	// Name is used in messages; default "memcached".
	Name string
	// Unix has it listen on a unix socket in place of a loopback port.
	Unix bool
	// Args are further arguments, such as "-m", "8" or "-I", "16k". Without "-m" it has 64 MB.
	Args []string
}

// A Memcached is a running memcached server.
type Memcached struct {
	*Process
	// Network and Addr are where it listens: "tcp" and host:port, or "unix" and the path.
	Network, Addr string

	t    testing.TB
	opts MemcachedOptions
}

// StartMemcached starts a server and waits until it answers.
func StartMemcached(t testing.TB, o MemcachedOptions) *Memcached {
	t.Helper()
	Need(t, MemcachedKit)
	if o.Name == "" {
		o.Name = "memcached"
	}
	dir := NewDir(t, o.Name)
	m := &Memcached{Network: "tcp", t: t, opts: o}
	if o.Unix {
		m.Network, m.Addr = "unix", filepath.Join(dir, "socket")
	} else {
		m.Addr = fmt.Sprintf("127.0.0.1:%d", FreePort(t))
	}
	m.start(dir)
	return m
}

// StartMemcacheds starts n servers with the same options.
func StartMemcacheds(t testing.TB, n int, o MemcachedOptions) []*Memcached {
	t.Helper()
	list := make([]*Memcached, n)
	for i := range list {
		named := o
		named.Name = fmt.Sprintf("memcached%d", i+1)
		list[i] = StartMemcached(t, named)
	}
	return list
}

// Socket is the address as rcptgate's configuration has it.
func (m *Memcached) Socket() string {
	if m.Network == "unix" {
		return "unix:" + m.Addr
	}
	return m.Addr
}

func (m *Memcached) start(dir string) {
	m.t.Helper()
	args := []string{"-u", "nobody", "-U", "0", "-t", "2"}
	if m.Network == "unix" {
		_ = os.Remove(m.Addr)
		_ = os.Chmod(dir, 0o777) // the user nobody creates the socket //nolint:gosec // a test's own directory
		args = append(args, "-s", m.Addr, "-a", "0777")
	} else {
		host, port, _ := net.SplitHostPort(m.Addr)
		args = append(args, "-l", host, "-p", port)
	}
	if !contains(m.opts.Args, "-m") {
		args = append(args, "-m", "64")
	}
	cmd := exec.Command(MemcachedKit.Path("usr/bin/memcached"), append(args, m.opts.Args...)...) //nolint:gosec // the lab's own program
	cmd.Env = MemcachedKit.environment()
	m.Process = Start(m.t, m.opts.Name, dir, cmd)
	m.WaitFor(m.t, func() error {
		_, err := m.Command("version")
		return err
	})
}

// Stop freezes the server (SIGSTOP): the kernel still accepts connections, nothing answers.
func (m *Memcached) Stop() {
	m.t.Helper()
	if err := m.Signal(syscall.SIGSTOP); err != nil {
		m.t.Fatalf("stopping %s: %v", m.Name, err)
	}
	m.WaitFor(m.t, m.frozen) // a thread that was asleep has to be woken to stop the others
}

// frozen says which thread still runs.
func (m *Memcached) frozen() error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", m.Pid()))
	if err != nil {
		return err
	}
	for _, thread := range threads {
		text, err := os.ReadFile(thread) //nolint:gosec // of /proc
		if err != nil {
			return err
		}
		// The state is the first field after the name, proc_pid_stat(5).
		if _, state, _ := strings.Cut(string(text), ") "); !strings.HasPrefix(state, "T") {
			return fmt.Errorf("a thread of %s has not stopped: %s", m.Name, thread)
		}
	}
	return nil
}

// Cont lets a stopped server go on.
func (m *Memcached) Cont() {
	m.t.Helper()
	if err := m.Signal(syscall.SIGCONT); err != nil {
		m.t.Fatalf("continuing %s: %v", m.Name, err)
	}
}

// Restart kills the server if it still runs and starts an empty one on the same address.
func (m *Memcached) Restart() {
	m.t.Helper()
	m.Kill()
	m.start(m.Dir)
}

// Command sends one command line and returns the first line of the answer.
func (m *Memcached) Command(line string) (string, error) {
	lines, err := m.talk(line, func(string) bool { return true })
	if err != nil {
		return "", err
	}
	return lines[0], nil
}

// Stats returns what the server says of itself (protocol.txt, "General-purpose statistics").
func (m *Memcached) Stats() map[string]string {
	m.t.Helper()
	lines, err := m.talk("stats", func(s string) bool { return !strings.HasPrefix(s, "STAT ") })
	if err != nil {
		m.t.Fatalf("asking %s for its statistics: %v", m.Name, err)
	}
	stats := map[string]string{}
	for _, line := range lines {
		if f := strings.SplitN(line, " ", 3); len(f) == 3 {
			stats[f[1]] = f[2]
		}
	}
	return stats
}

// Flush makes the server empty, as a restart does, without ending connections.
func (m *Memcached) Flush() {
	m.t.Helper()
	if reply, err := m.Command("flush_all"); err != nil || reply != "OK" {
		m.t.Fatalf("emptying %s: %q, %v", m.Name, reply, err)
	}
}

// talk sends one line and reads lines until last says so.
func (m *Memcached) talk(line string, last func(string) bool) ([]string, error) {
	c, err := net.DialTimeout(m.Network, m.Addr, time.Second)
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // nothing is pending
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := fmt.Fprintf(c, "%s\r\n", line); err != nil {
		return nil, err
	}
	var lines []string
	r := bufio.NewReader(c)
	for {
		s, err := r.ReadString('\n')
		if err != nil {
			return lines, err
		}
		s = strings.TrimRight(s, "\r\n")
		lines = append(lines, s)
		if last(s) {
			return lines, nil
		}
	}
}

// PerlEnvironment returns the environment in which Perl finds the kit's Cache::Memcached.
func PerlEnvironment() []string {
	dirs := []string{MemcachedKit.Path("usr/share/perl5")}
	arch, _ := filepath.Glob(MemcachedKit.Path("usr/lib/*/perl5/*")) // the pattern is well formed
	return append(MemcachedKit.environment(), "PERL5LIB="+strings.Join(append(dirs, arch...), ":"))
}
