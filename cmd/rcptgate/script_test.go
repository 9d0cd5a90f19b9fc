// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"rcptgate/backend/sim"
	"rcptgate/doctor/zonetest"
	"rcptgate/kit/testkit"
)

func TestMain(m *testing.M) {
	testkit.Overlap(6)
	testscript.Main(m, map[string]func(){"rcptgate": main, againName: againMain, withGreylist: greylistMain})
}

// TestScripts runs the command line as a user does: each file is one story. $BACKEND
// is a mail server with ann and bob at demo.example, carl whose mailbox is full;
// $DEAD is an address where nothing listens, $DEAD_PORT its port. "exits CODE ARGS..." runs
// rcptgate and wants that exit code: all of a script in one process, in the environment that the
// script began with; "until REGEXP ARGS..." runs it there until its standard output matches.
// "exec rcptgate" starts a process. "socket FILE" waits for a unix socket; "logged REGEXP FILE" for
// words in a file; "ended FILE" ends the process whose number is in the file. "zone FILE" serves a
// DNS zone at $RESOLVER.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			server := sim.New(sim.Config{Behaviour: testUsers()})
			if err := server.Start(); err != nil {
				return err
			}
			env.Defer(server.Stop)
			env.Defer(func() { endDaemon(env.WorkDir) })
			dead, err := deadAddress()
			if err != nil {
				return err
			}
			env.Setenv("BACKEND", server.Backend())
			env.Setenv("DEAD", dead)
			env.Setenv("DEAD_PORT", dead[strings.LastIndexByte(dead, ':')+1:])
			env.Setenv("TMPDIR", env.WorkDir)
			a := &again{dir: testkit.Dir(t), env: env.Vars}
			env.Values[againKey{}] = a
			env.Defer(a.stop)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":  exits,
			"until":  until,
			"logged": logged,
			"ended":  ended,
			"socket": waitForSocket,
			"subst":  subst,
			"zone":   serveZone,
			"newline": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Setenv(args[0], "\r\n")
			},
		},
	})
}

// serveZone serves the zone in a file on loopback and sets $RESOLVER.
func serveZone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: zone FILE")
	}
	address, stop, err := zonetest.Start(ts.ReadFile(args[0]))
	ts.Check(err)
	ts.Defer(stop)
	ts.Setenv("RESOLVER", address)
}

// againKey is the key of a script's process.
type againKey struct{}

func deadAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return "smtp:[127.0.0.1]:" + port, err
}

// exits runs rcptgate and compares its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exits CODE ARGS...")
	}
	code, stdout, stderr, err := ts.Value(againKey{}).(*again).run(ts.MkAbs("."), args[1:]...)
	ts.Check(err)
	_, _ = ts.Stdout().Write(stdout)
	_, _ = ts.Stderr().Write(stderr)
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("rcptgate %v: exit code %d, want %s", args[1:], code, args[0])
	}
}

func waitForSocket(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	eventually(ts, "a listener on "+path, func() bool {
		c, err := net.Dial("unix", path)
		return err == nil && c.Close() == nil
	})
}

// eventually waits for something to become true.
func eventually(ts *testscript.TestScript, what string, is func() bool) {
	for end := time.Now().Add(patience); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// until runs rcptgate again until its standard output matches.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until REGEXP ARGS...")
	}
	want := regexp.MustCompile(args[0])
	eventually(ts, args[0], func() bool {
		_, stdout, _, err := ts.Value(againKey{}).(*again).run(ts.MkAbs("."), args[1:]...)
		ts.Check(err)
		return want.Match(stdout)
	})
}

// logged waits for words in a file.
func logged(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: logged REGEXP FILE")
	}
	want := regexp.MustCompile(args[0])
	eventually(ts, args[0]+" in "+args[1], func() bool { return want.MatchString(ts.ReadFile(args[1])) })
}

// ended has a process end and waits for that. Its number is in a file.
func ended(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ended FILE")
	}
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(args[0])))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, syscall.SIGTERM))
	eventually(ts, "the end of the process", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
}

// endDaemon ends the daemon of a script that failed before it could: the one whose number is in
// the file pid and whose working directory is the script's.
func endDaemon(dir string) {
	text, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		return // the script has none
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if at, lerr := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err == nil && lerr == nil && at == dir {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// subst replaces $NAMES in files, which testscript leaves alone.
func subst(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}

// TestManualPagesAreFresh makes the pages and compares them with those in the tree.
func TestManualPagesAreFresh(t *testing.T) {
	dir := t.TempDir()
	p, err := newProgram(units())
	if err != nil {
		t.Fatal(err)
	}
	root, err := p.root()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.writeManuals(root, dir); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join("..", "..", "docs", "man")
	for _, pair := range [][2]string{{dir, kept}, {kept, dir}} {
		names, err := os.ReadDir(pair[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			one, err := os.ReadFile(filepath.Join(pair[0], name.Name()))
			if err != nil {
				t.Fatal(err)
			}
			other, err := os.ReadFile(filepath.Join(pair[1], name.Name()))
			if err != nil || !bytes.Equal(one, other) {
				t.Errorf("docs/man/%s is not what the program says (%v): run \"make docs\"", name.Name(), err)
			}
		}
	}
}
