// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/store/storetest"
)

// childEnv names the state directory to the child process of TestKilled.
const childEnv = "RCPTGATE_TEST_KILLED_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		writeUntilKilled(dir)
	}
	testkit.Overlap(8)
	os.Exit(m.Run())
}

// writeUntilKilled puts numbered records, and prints how many of them have been written
// each time that all have, with the time that took.
func writeUntilKilled(dir string) {
	s, err := Open(Options{Patience: patience, Dir: dir, Entries: 1_000_000})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	start := time.Now()
	for i := 0; ; {
		for range 1 + rand.N(200) {
			key := numbered(i)
			rec := storetest.Full(key, start)
			if i%3 == 0 {
				rec = storetest.Unknown(key, start)
			}
			if err := s.Put(context.Background(), key, rec); err != nil {
				os.Exit(1)
			}
			i++
		}
		put := time.Now()
		for n, _ := s.queue.len(); n > 0; n, _ = s.queue.len() {
			time.Sleep(time.Millisecond)
		}
		fmt.Println(i, time.Since(put).Milliseconds())
	}
}

func numbered(i int) string { return fmt.Sprintf("firstname.lastname%d@dept.example.org", i) }

// TestKilled kills a writing process at any moment and looks for everything that it had
// found written. How soon that is, a second at most is promised, is the machine's matter:
// it is in the log of the test.
func TestKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("the full run without the race detector has it")
	}
	t.Parallel()
	dir := testkit.Dir(t)
	for round := range 3 {
		sure, slowest := killedAfter(t, dir, 300*time.Millisecond+rand.N(600*time.Millisecond))
		s := open(t, dir, 1_000_000)
		if aside := s.aside.Load(); aside != nil {
			t.Fatalf("round %d: the file was found damaged: %s", round, *aside)
		}
		for i := range sure {
			rec, err := s.Get(context.Background(), numbered(i))
			if err != nil || rec.IsZero() {
				t.Fatalf("round %d: record %d of %d is lost: %v", round, i, sure, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		t.Logf("round %d: %d records were there, written after %v at most", round, sure, slowest)
	}
}

// killedAfter gives how many records the child is sure of, and the longest that any took.
// The time counts from the first that were written.
func killedAfter(t *testing.T, dir string, after time.Duration) (sure int, slowest time.Duration) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self, "-test.run=^$")
	child.Env = append(os.Environ(), childEnv+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() { _ = child.Process.Kill() }
	timer := time.AfterFunc(time.Minute, kill)
	defer timer.Stop()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var n int
		var millis int64
		if _, err := fmt.Sscan(lines.Text(), &n, &millis); err != nil {
			t.Error(lines.Text())
			continue
		}
		if sure == 0 {
			timer.Reset(after)
		}
		sure, slowest = n, max(slowest, time.Duration(millis)*time.Millisecond)
	}
	_ = child.Wait()
	if sure == 0 {
		t.Fatal("the child wrote nothing within a minute")
	}
	return sure, slowest
}

// TestLocked keeps a second daemon out.
func TestLocked(t *testing.T) {
	// Not in parallel: a child that is about to start holds the locks of all.
	dir := testkit.Dir(t)
	s := open(t, dir, 1000)
	_, err := Open(Options{Patience: patience, Dir: dir, Entries: 1000})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Fatalf("a second store in one directory: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir, 1000)
}

// TestRestart keeps records, counts, tombstones and the precedence of what is used.
func TestRestart(t *testing.T) {
	// Not in parallel: a child that is about to start holds the locks of all.
	dir, now, ctx := testkit.Dir(t), time.Now(), context.Background()
	s := open(t, dir, 1000)
	for i := range 50 {
		_ = s.Put(ctx, numbered(i), storetest.Full(numbered(i), now))
	}
	_ = s.Put(ctx, "no@example.org", storetest.Unknown("no@example.org", now))
	if n, err := s.Forget(ctx, store.Tombstone{Pattern: store.Pattern{Address: numbered(7)}, When: now}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, 1000)
	if st := s.Stats(); st.Entries != 50 || st.Refusals != 1 {
		t.Errorf("after the restart: %+v", st)
	}
	for i := range 50 {
		rec, err := s.Get(ctx, numbered(i))
		if i == 7 && !errors.Is(err, store.ErrNotFound) || i != 7 && !storetest.Equal(rec, storetest.Full(numbered(i), now)) {
			t.Errorf("record %d: %v, %v", i, rec, err)
		}
	}
	tombs, floor, err := s.Tombstones(ctx, 0)
	if err != nil || len(tombs) != 1 || tombs[0].Generation != 1 || tombs[0].Pattern.Address != numbered(7) || !tombs[0].When.Equal(now) || !floor.IsZero() {
		t.Errorf("tombstones: %+v, %v, %v", tombs, floor, err)
	}
	if info, err := os.Stat(s.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode: %v, %v", info.Mode(), err)
	}
}
