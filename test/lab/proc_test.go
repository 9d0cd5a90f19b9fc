// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childEnv makes the test binary start a server and wait to be killed, see TestNothingIsLeft.
const childEnv = "RCPTGATE_LAB_CHILD"

// A test process that is killed leaves no server behind: the reaper ends the whole process group.
func TestNothingIsLeft(t *testing.T) {
	if os.Getenv(childEnv) != "" {
		p := Start(t, "sleeper", NewDir(t, "sleeper"), exec.Command("/bin/sh", "-c", "sleep 600 & wait"))
		_, _ = os.Stdout.WriteString("group " + itoa(p.Pid()) + "\n")
		time.Sleep(10 * time.Minute)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNothingIsLeft$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"=1", "RCPTGATE_LAB="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	group := 0
	for scan := bufio.NewScanner(out); group == 0 && scan.Scan(); {
		if number, ok := strings.CutPrefix(scan.Text(), "group "); ok {
			group, _ = strconv.Atoi(number) // 0 is noticed below
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if group == 0 {
		t.Fatal("the child has started no server")
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if errors.Is(syscall.Kill(-group, 0), syscall.ESRCH) {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the server has outlived its test process")
		}
	}
}

// What is left out is a failure with CI=true; otherwise a skip that leaves a line in the file.
func TestLeaveOut(t *testing.T) {
	file := filepath.Join(t.TempDir(), "left-out")
	t.Setenv("RCPTGATE_LEFT_OUT", file)
	for ci, want := range map[string]string{"": "skipped", "true": "failed"} {
		t.Setenv("CI", ci)
		r := &recorder{TB: t}
		LeaveOut(r, "no reason at all")
		if r.ended != want {
			t.Errorf("CI=%q: %q, want %q", ci, r.ended, want)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil || string(text) != "TestLeaveOut: no reason at all\n" {
		t.Errorf("the file says %q, %v", text, err)
	}
}

// A recorder is a test that does not end when it is asked to.
type recorder struct {
	testing.TB
	ended string
}

func (r *recorder) Fatalf(string, ...any) { r.end("failed") }
func (r *recorder) Skip(...any)           { r.end("skipped") }
func (r *recorder) end(how string) {
	if r.ended == "" {
		r.ended = how
	}
}

// Replies are read whole and exactly: several lines, enhanced codes, and what is not a reply.
func TestSplitEnhanced(t *testing.T) {
	for text, want := range map[string][2]string{
		"5.1.1 User unknown":    {"5.1.1", "User unknown"},
		"User unknown":          {"", "User unknown"},
		"5.1 x":                 {"", "5.1 x"},
		"10.0.0.5 refused it":   {"", "10.0.0.5 refused it"},
		"2.1.5":                 {"2.1.5", ""},
		"4.7.500 Server busy":   {"4.7.500", "Server busy"},
		"a.b.c is not a number": {"", "a.b.c is not a number"},
	} {
		if enhanced, rest := splitEnhanced(text); enhanced != want[0] || rest != want[1] {
			t.Errorf("%q: %q, %q", text, enhanced, rest)
		}
	}
}
