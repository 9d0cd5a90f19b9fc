// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A Gate is the program under test: the real binary with a configuration of its own. Its sockets stay the same over
// restarts and changes of configuration, so an MTA in front keeps its setting.
type Gate struct {
	*Process
	// Dir holds configuration, sockets and state.
	Dir string
	// Unix and Port are the milter sockets.
	Unix string
	Port int
	// Admin is the admin socket.
	Admin string
	// HTTP is the port of metrics and health.
	HTTP int
	// User runs the gate as this user and group (numbers) without any privilege; 0 is root.
	User int
	// Sockets are handed to the gate by name, as systemd does (sd_listen_fds(3)); the gate opens none of the kind itself.
	Sockets map[string]*os.File
	// Zone is the file of the gate's time zone (tzfile(5)); empty: the system's.
	Zone string

	t      testing.TB
	binary string
	extra  string
}

// build compiles the gate once in a test process.
var build = sync.OnceValues(func() (string, error) {
	if name := os.Getenv("RCPTGATE_BIN"); name != "" {
		return name, nil
	}
	_, here, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("finding the repository: the source path is unknown")
	}
	repo := filepath.Dir(filepath.Dir(filepath.Dir(here)))
	if err := os.MkdirAll(filepath.Join(repo, "bin"), 0o755); err != nil {
		return "", err
	}
	// Several test processes build at the same time: each for itself, and the name changes hands at once.
	final := filepath.Join(repo, "bin", "rcptgate-e2e")
	own := fmt.Sprintf("%s.%d", final, os.Getpid())
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", own, "./cmd/rcptgate")
	cmd.Dir = repo
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the gate: %w\n%s", err, out)
	}
	return final, os.Rename(own, final)
})

// NewGate prepares a gate that is not running yet; MTAs can be given its sockets.
func NewGate(t testing.TB) *Gate {
	t.Helper()
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	dir := NewDir(t, "gate")
	g := &Gate{t: t, Dir: dir, binary: binary, Unix: filepath.Join(dir, "milter.sock"), Admin: filepath.Join(dir, "admin.sock"), Port: FreePort(t), HTTP: FreePort(t)}
	g.Configure("")
	return g
}

// StartGate starts a gate with further lines of configuration, see Configure.
func StartGate(t testing.TB, extra string) *Gate {
	t.Helper()
	g := NewGate(t)
	g.Configure(extra)
	g.Run()
	return g
}

// PostfixMilter is the inet socket in Postfix's spelling.
func (g *Gate) PostfixMilter() string { return fmt.Sprintf("inet:127.0.0.1:%d", g.Port) }

// SendmailMilter is the inet socket in Sendmail's spelling.
func (g *Gate) SendmailMilter() string { return fmt.Sprintf("inet:%d@127.0.0.1", g.Port) }

// Binary returns the path of the program.
func (g *Gate) Binary() string { return g.binary }

// Config returns the path of the configuration.
func (g *Gate) Config() string { return filepath.Join(g.Dir, "rcptgate.toml") }

// Configure writes the configuration: what a lab needs, then the lines given, top-level keys first. A running gate
// reads it at Reload or Restart.
func (g *Gate) Configure(extra string) {
	g.t.Helper()
	g.extra = extra
	top, tables := splitTOML(extra)
	head := map[string]string{"enforce": "true", "hostname": `"mx.gate.test"`, "state": fmt.Sprintf("%q", filepath.Join(g.Dir, "state"))}
	var b strings.Builder
	for _, key := range keys(head) {
		if !regexp.MustCompile(`(?m)^\s*` + key + `\s*=`).MatchString(top) {
			fmt.Fprintf(&b, "%s = %s\n", key, head[key])
		}
	}
	fmt.Fprintf(&b, "%s\n[listen]\nmilter = [\"unix:%s\", \"inet:%d@127.0.0.1\"]\nadmin = \"unix:%s\"\nhttp = \"127.0.0.1:%d\"\n\n%s\n",
		top, g.Unix, g.Port, g.Admin, g.HTTP, tables)
	write(g.t, g.Dir, "rcptgate.toml", b.String())
}

// splitTOML separates the top-level keys from the tables that follow them.
func splitTOML(text string) (top, tables string) {
	if at := regexp.MustCompile(`(?m)^\s*\[`).FindStringIndex(text); at != nil {
		return text[:at[0]], text[at[0]:]
	}
	return text, ""
}

// Run starts the gate and waits until it answers on its sockets.
func (g *Gate) Run() {
	g.t.Helper()
	g.Process = Start(g.t, "rcptgate", g.Dir, g.serve())
	g.WaitFor(g.t, func() error {
		if g.Sockets["admin"] == nil {
			if err := knock("unix", g.Admin); err != nil {
				return err
			}
		}
		if g.Sockets["milter"] != nil {
			return knock("tcp", fmt.Sprintf("127.0.0.1:%d", g.HTTP))
		}
		if err := knock("unix", g.Unix); err != nil {
			return err
		}
		return knock("tcp", fmt.Sprintf("127.0.0.1:%d", g.Port))
	})
	if g.Sockets["milter"] != nil || g.User != 0 {
		return
	}
	if err := os.Chmod(g.Unix, 0o666); err != nil { // Postfix's daemons do not run as root
		g.t.Fatalf("opening the milter socket to the MTA: %v", err)
	}
}

// serve is the command of the daemon.
func (g *Gate) serve() *exec.Cmd {
	args := []string{g.binary, "serve", "-c", g.Config()}
	if g.User != 0 {
		id := strconv.Itoa(g.User)
		args = append([]string{"setpriv", "--reuid=" + id, "--regid=" + id, "--clear-groups", "--no-new-privs", "--bounding-set=-all"}, args...)
	}
	if len(g.Sockets) == 0 {
		cmd := exec.Command(args[0], args[1:]...)
		if g.Zone != "" {
			cmd.Env = append(os.Environ(), "TZ="+g.Zone)
		}
		return cmd
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", `export LISTEN_PID=$$; exec "$@"`, "sh"}, args...)...)
	var names []string
	for name, file := range g.Sockets {
		names = append(names, name)
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
	}
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", fmt.Sprintf("LISTEN_FDS=%d", len(names)), "LISTEN_FDNAMES=" + strings.Join(names, ":")}
	return cmd
}

// knock connects and goes.
func knock(network, addr string) error {
	c, err := net.DialTimeout(network, addr, time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

// Restart ends the gate in good order and starts it again.
func (g *Gate) Restart() {
	g.t.Helper()
	g.Stop(time.Minute)
	g.Run()
}

// Crash kills the gate (kill -9) and starts it again.
func (g *Gate) Crash() {
	g.t.Helper()
	g.Kill()
	g.Run()
}

// Fresh starts the gate anew with another configuration and without any memory.
func (g *Gate) Fresh(extra string) {
	g.t.Helper()
	if g.Process != nil {
		g.Kill()
	}
	for _, name := range []string{"state", "output.log"} {
		if err := os.RemoveAll(filepath.Join(g.Dir, name)); err != nil {
			g.t.Fatalf("emptying the gate's state: %v", err)
		}
	}
	g.Configure(extra)
	g.Run()
}

// Reload makes the gate read its configuration again.
func (g *Gate) Reload() {
	g.t.Helper()
	if err := g.Signal(syscall.SIGHUP); err != nil {
		g.t.Fatalf("reloading: %v", err)
	}
}

// Apply has the configuration file take effect, and waits until it has.
func (g *Gate) Apply() {
	g.t.Helper()
	if out, errs, code := g.Command("reload"); code != 0 {
		g.t.Fatalf("reload: exit code %d\n%s%s", code, out, errs)
	}
}

// Command runs the binary with the gate's configuration, as in Command("cache", "forget", "x@y"). It returns what was
// printed on standard output and standard error, and the exit code.
func (g *Gate) Command(args ...string) (stdout, stderr string, code int) {
	g.t.Helper()
	return g.CommandAs(nil, args...)
}

// CommandAs is Command behind another program, as in CommandAs([]string{"setpriv", "--reuid=65534"}, "cache", "stats").
func (g *Gate) CommandAs(program []string, args ...string) (stdout, stderr string, code int) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	args = append(append(append(program, g.binary), args...), "-c", g.Config())
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		g.t.Fatalf("running rcptgate %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// StartProgram starts rcptgate with these arguments as a server of its own, such as the quota agent.
func (g *Gate) StartProgram(name string, args ...string) *Process {
	g.t.Helper()
	return Start(g.t, name, NewDir(g.t, name), exec.Command(g.binary, args...))
}

// MustCommand is Command that has to end with the exit code.
func (g *Gate) MustCommand(code int, args ...string) string {
	g.t.Helper()
	out, errs, got := g.Command(args...)
	if got != code {
		g.t.Errorf("rcptgate %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, out, errs)
	}
	return out + errs
}

// Log returns what the gate has written so far.
func (g *Gate) Log() string {
	text, err := os.ReadFile(filepath.Join(g.Dir, "output.log"))
	if err != nil {
		g.t.Fatalf("reading the log of the gate: %v", err)
	}
	return string(text)
}

// Logged waits until the log matches the expression, at most a minute, and says whether it did.
func (g *Gate) Logged(expr string) bool {
	want := regexp.MustCompile("(?m)" + expr)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if want.MatchString(g.Log()) {
			return true
		}
	}
	return false
}

// Remembers waits until the gate has so many records in RAM, at most a minute.
func (g *Gate) Remembers(records string) error {
	return g.metric(`rcptgate_cache_records{[^}]*"ram"[^}]*}`, records)
}

// Metric waits until a metric without labels has a value, at most a minute.
func (g *Gate) Metric(name, value string) error { return g.metric(regexp.QuoteMeta(name), value) }

func (g *Gate) metric(name, value string) error {
	want := regexp.MustCompile(`(?m)^` + name + ` ` + regexp.QuoteMeta(value) + `$`)
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", g.HTTP))
		if err != nil {
			return err
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		switch {
		case err != nil:
			return err
		case want.Match(text):
			return nil
		case time.Now().After(end):
			return fmt.Errorf("the gate does not say %s %s", name, value)
		}
	}
}
