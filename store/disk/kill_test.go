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

	"rcptgate/store"
	"rcptgate/store/storetest"
)

// childEnv names the state directory to the child process of TestKilled.
const childEnv = "RCPTGATE_TEST_KILLED_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		writeUntilKilled(dir)
	}
	os.Exit(m.Run())
}

// writeUntilKilled puts numbered records and prints each number once Put has
// returned, with the time.
func writeUntilKilled(dir string) {
	s, err := Open(Options{Dir: dir, Entries: 1_000_000})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	start := time.Now()
	out := bufio.NewWriter(os.Stdout)
	for i := 0; ; i++ {
		key := numbered(i)
		rec := storetest.Full(key, start)
		if i%3 == 0 {
			rec = storetest.Unknown(key, start)
		}
		if err := s.Put(context.Background(), key, rec); err != nil {
			os.Exit(1)
		}
		if i%20 == 0 {
			fmt.Fprintln(out, i, time.Now().UnixNano())
			_ = out.Flush()
			time.Sleep(2 * time.Millisecond)
		}
	}
}

func numbered(i int) string { return fmt.Sprintf("firstname.lastname%d@dept.example.org", i) }

// TestKilled kills a writing process and looks for everything that was put more
// than a second before.
func TestKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("the full run without the race detector has it")
	}
	dir := t.TempDir()
	for round := range 3 {
		last, killed := killedAfter(t, dir, 1200*time.Millisecond+rand.N(900*time.Millisecond))
		s := open(t, dir, 1_000_000)
		if aside := s.aside.Load(); aside != nil {
			t.Fatalf("round %d: the file was found damaged: %s", round, *aside)
		}
		sure := -1
		for _, p := range last {
			if killed.Sub(p.at) > time.Second {
				sure = p.number
			}
		}
		if sure < 0 {
			t.Logf("round %d: the child wrote nothing in time", round)
		}
		for i := 0; i <= sure; i++ {
			rec, err := s.Get(context.Background(), numbered(i))
			if err != nil || rec.IsZero() {
				t.Fatalf("round %d: record %d of %d is lost: %v", round, i, sure, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		t.Logf("round %d: %d records were there", round, sure+1)
	}
}

type progress struct {
	number int
	at     time.Time
}

func killedAfter(t *testing.T, dir string, after time.Duration) (list []progress, killed time.Time) {
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
	timer := time.AfterFunc(after, func() {
		killed = time.Now()
		_ = child.Process.Kill()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		number, at, _ := strings.Cut(lines.Text(), " ")
		n, err1 := strconv.Atoi(number)
		nano, err2 := strconv.ParseInt(at, 10, 64)
		if errors.Join(err1, err2) == nil {
			list = append(list, progress{n, time.Unix(0, nano)})
		} else if number == "error" {
			t.Error(lines.Text())
		}
	}
	_ = child.Wait()
	timer.Stop()
	return list, killed
}

// TestLocked keeps a second daemon out.
func TestLocked(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1000)
	_, err := Open(Options{Dir: dir, Entries: 1000})
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
	dir, now, ctx := t.TempDir(), time.Now(), context.Background()
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
