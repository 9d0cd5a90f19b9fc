// SPDX-License-Identifier: BSD-2-Clause

package telemetry

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rcptgate"
)

// Only the very file that $JOURNAL_STREAM names is the journal.
func TestIsJournal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	for stream, want := range map[string]bool{
		fmt.Sprintf("%d:%d", st.Dev, st.Ino): true, fmt.Sprintf("%d:%d", st.Dev, st.Ino+1): false, "": false, "x": false,
	} {
		if got := isJournal(f, stream); got != want {
			t.Errorf("$JOURNAL_STREAM %q: %v", stream, got)
		}
	}
}

// TestPanicPlace reads a stack as programs have it, built with -trimpath or without it.
func TestPanicPlace(t *testing.T) {
	for root, own := range map[string]string{"": "", "/usr/local/go/src/": "/src/mail/"} {
		stack := "goroutine 29 [running]:\nruntime/debug.Stack()\n\t" + root + "runtime/debug/stack.go:26 +0x5e\nrcptgate.(*generation).ask.func1()\n\t" + own + "rcptgate/gate.go:142 +0x23e\n" +
			"panic({0x7f4aa0?, 0x8c62b0?})\n\t" + root + "runtime/panic.go:860 +0x13a\nrcptgate/check/rules.find()\n\t" + own + "rcptgate/check/rules/find.go:45 +0x5d\n"
		if got := panicPlace([]byte(stack)); got != "find.go:45" {
			t.Errorf("with Go at %q: %s", root, got)
		}
	}
	if got := panicPlace([]byte("?")); got != "unknown" {
		t.Errorf("no stack: %s", got)
	}
}

// A check that panics is reported once with the place and the whole stack, however often
// it does, and the list of notices has no stack.
func TestAPanicIsLoggedWithItsStack(t *testing.T) {
	out := &buffer{}
	s := start(t, nil, Options{Stderr: out})
	var gate rcptgate.Gate
	broken := rcptgate.CheckFunc(func(context.Context, *rcptgate.Query) (rcptgate.Verdict, error) { panic("hostile input") })
	gate.Swap(rcptgate.Setup{
		Chains:    [rcptgate.StageCount]rcptgate.Check{rcptgate.StageRcpt: &rcptgate.Chain{Steps: []rcptgate.Step{{Name: "broken", Check: broken}}}},
		Observers: []rcptgate.Observer{s},
	})
	for range 3 {
		gate.Ask(t.Context(), &rcptgate.Query{Stage: rcptgate.StageRcpt})
	}
	s.Flush(10 * time.Second)
	reports := 0
	for line := range strings.Lines(out.String()) {
		got, ok := parseLine(strings.TrimSpace(line))
		if !ok {
			t.Fatalf("%q", line)
		}
		if got["msg"] == "decision" {
			continue
		}
		reports++
		if got["level"] != "error" || !strings.HasPrefix(got["place"], "journal_test.go:") || len(got["stack"]) < 600 || !strings.Contains(got["error"], "hostile input") {
			t.Errorf("reported as %q", line)
		}
	}
	if reports != 1 {
		t.Errorf("%d reports of one panic", reports)
	}
	list := s.Notices().List()
	if len(list) != 1 || list[0].Count != 3 || strings.Contains(list[0].Text, "goroutine") {
		t.Errorf("the board has %+v", list)
	}
}

// A source that nobody knew when this was written has a histogram of its own; only what
// exceeds the bound is put together.
func TestHistogramOfANewSource(t *testing.T) {
	s := start(t, func(c *Config) { c.Decisions = false }, Options{Stderr: &buffer{}})
	q, v := sample()
	for _, source := range []string{"quota", "", "quota"} {
		v.Source = source
		s.Observe(q, v)
	}
	for i := range 2 * maxSources {
		v.Source = fmt.Sprintf("s%d", i)
		s.Observe(q, v)
	}
	times := s.times()
	count := func(source string) (n uint64) {
		for _, c := range times[source].Counts {
			n += c
		}
		return n
	}
	if count("quota") != 2 || count("none") != 1 || count("s0") != 1 || count("other") == 0 || len(times) != maxSources+2 {
		t.Errorf("quota %d, none %d, s0 %d, other %d, %d sources", count("quota"), count("none"), count("s0"), count("other"), len(times))
	}
}
