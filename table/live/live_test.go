// SPDX-License-Identifier: BSD-2-Clause

package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"rcptgate/kit/testkit"
	"rcptgate/table"
)

func TestMain(m *testing.M) {
	testkit.Overlap(8)
	goleak.VerifyTestMain(m)
}

// plain is a format for these tests: key=value lines; "damage" is damage.
type plain struct{ warn func(error) }

func (p plain) Scan(_ context.Context, file io.ReaderAt, size int64, f func(k, v []byte) error) error {
	data, err := io.ReadAll(io.NewSectionReader(file, 0, size))
	if err != nil {
		return err
	}
	for line := range bytes.Lines(data) {
		k, v, found := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte("="))
		switch {
		case string(k) == "damage":
			return table.Damaged("plain", 7, "damaged")
		case !found:
			p.warn(fmt.Errorf("no value: %s", k))
			continue
		}
		if err := f(k, v); err != nil {
			return err
		}
	}
	return nil
}

func (plain) Stat(context.Context, io.ReaderAt, int64) (table.Info, error) {
	return table.Info{Type: "plain", Version: "1", Entries: -1}, nil
}

// fixture is a table over a file in a directory of its own, with a clock that moves only when it is told to: what has
// to happen within half a second would else depend on the machine.
type fixture struct {
	*Live
	t     *testing.T
	log   *bytes.Buffer
	start time.Time
	mu    sync.Mutex
	skew  time.Duration
}

func newFixture(t *testing.T, kind table.Type, text string) *fixture {
	t.Helper()
	f := &fixture{t: t, log: new(bytes.Buffer), start: time.Now()}
	name := filepath.Join(testkit.Dir(t), "map")
	f.Live = New(Config{
		Spec:    table.Spec{Type: kind, Name: name},
		Format:  func(warn func(error)) table.Format { return plain{warn} },
		Aliases: true, MaxSize: 1 << 20,
		Log: slog.New(slog.NewTextHandler(f.log, nil)),
	})
	f.now = func() time.Time {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.start.Add(f.skew)
	}
	if text != "" {
		f.write(text)
		f.load()
	}
	return f
}

// write changes the file in place, with a time stamp long ago that grows by a second each time.
func (f *fixture) write(text string) {
	f.t.Helper()
	if err := os.WriteFile(f.path, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.skew += time.Second
	stamp := f.start.Add(f.skew - time.Hour)
	if err := os.Chtimes(f.path, stamp, stamp); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) load() {
	f.t.Helper()
	if err := f.Load(context.Background()); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) holds(key, want string) {
	f.t.Helper()
	if value, found, err := f.Lookup(context.Background(), key); err != nil || !found || value != want {
		f.t.Errorf("%s: %q, %v, %v; want %q", key, value, found, err, want)
	}
}

func (f *fixture) lacks(key string) {
	f.t.Helper()
	if value, found, err := f.Lookup(context.Background(), key); err != nil || found {
		f.t.Errorf("%s: %q, %v, %v; want nothing", key, value, found, err)
	}
}

func (f *fixture) lines(says string) int { return strings.Count(f.log.String(), says) }

func TestNotLoaded(t *testing.T) {
	f := newFixture(t, table.Hash, "")
	if _, _, err := f.Lookup(context.Background(), "a"); !errors.Is(err, ErrNotLoaded) {
		t.Errorf("before anything: %v", err)
	}
	if err := f.Load(context.Background()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load says %v", err)
	}
	if _, _, err := f.Lookup(context.Background(), "a"); !errors.Is(err, ErrNotLoaded) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an unreadable table is an error, never absence: %v", err)
	}
}

func TestContent(t *testing.T) {
	f := newFixture(t, table.Hash, "a=1\nb\x00=2\x00\n@=@\nYP_LAST_MODIFIED=99\nA=3\na=4\n=5\n")
	f.holds("a", "1")
	f.holds("b", "2")
	f.holds("A", "3")
	f.holds("", "5")
	f.lacks("@")
	f.lacks("YP_LAST_MODIFIED")
	st := f.Status()
	if st.Entries != 4 || st.Loads != 1 || st.Err != nil || st.Info.Type != "plain" || st.Loaded.IsZero() || st.Path != f.path {
		t.Errorf("status %+v", st)
	}
	if f.lines("table loaded") != 1 {
		t.Errorf("log: %s", f.log)
	}
}

// TestFailuresKeepTheOld goes through all that can happen to a file; after each the old content answers, one
// line is in the log however often it is looked at, and a sound file ends it.
func TestFailuresKeepTheOld(t *testing.T) {
	for _, tc := range []struct {
		name, says string
		do         func(f *fixture) error
	}{
		{"missing", "no such file", func(f *fixture) error { return os.Remove(f.path) }},
		{"damaged", "damaged, at offset 7", func(f *fixture) error { f.write("a=9\ndamage\n"); return nil }},
		{"too large", "at most 1048576", func(f *fixture) error { f.write(strings.Repeat("a=9\n", 1<<19)); return nil }},
		{"directory", "not a regular file", func(f *fixture) error { return errors.Join(os.Remove(f.path), os.Mkdir(f.path, 0o700)) }},
		{"named pipe", "not a regular file", func(f *fixture) error { return errors.Join(os.Remove(f.path), unix.Mkfifo(f.path, 0o600)) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, table.Hash, "a=1\n")
			if err := tc.do(f); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				_ = f.refresh(context.Background(), false) // the error is in Status
			}
			f.holds("a", "1")
			st := f.Status()
			if st.Err == nil || !strings.Contains(st.Err.Error(), tc.says) || st.Failures == 0 || st.Since.IsZero() {
				t.Errorf("status %+v, want an error with %q", st, tc.says)
			}
			if n := f.lines("table not read"); n != 1 {
				t.Errorf("%d lines in the log: %s", n, f.log)
			}
			_ = os.Remove(f.path)
			f.write("a=2\n")
			if err := f.refresh(context.Background(), false); err != nil {
				t.Error(err)
			}
			f.holds("a", "2")
			if st := f.Status(); st.Err != nil || st.Loads != 2 {
				t.Errorf("status afterwards %+v", st)
			}
		})
	}
}

func TestTheSameAgain(t *testing.T) {
	f := newFixture(t, table.Hash, "a=1\n")
	before := f.Index()
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	_ = f.refresh(context.Background(), false)
	f.write("a=1\n")
	if err := f.refresh(context.Background(), false); err != nil || f.Status().Err != nil {
		t.Errorf("%v, %+v", err, f.Status())
	}
	if f.Index() != before || f.Status().Loads != 1 {
		t.Error("equal content was indexed again")
	}
}

// TestChangeThatLeavesNoTrace rewrites a file within one tick of its time stamps.
func TestChangeThatLeavesNoTrace(t *testing.T) {
	f := newFixture(t, table.Hash, "a=1\n")
	stamp := f.now()
	change := func(text string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(f.path, []byte(text), 0o600), os.Chtimes(f.path, stamp, stamp)); err != nil {
			t.Fatal(err)
		}
	}
	change("a=2\n")
	_ = f.refresh(context.Background(), false)
	f.holds("a", "2")
	change("a=3\n")
	f.try.sig.changed = mustSignature(t, f).changed // as on a file system with coarse time stamps
	_ = f.refresh(context.Background(), false)
	f.holds("a", "2")
	f.skew += coarse
	_ = f.refresh(context.Background(), false)
	f.holds("a", "3")
}

func mustSignature(t *testing.T, f *fixture) signature {
	t.Helper()
	file, err := openFile(f.path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // read-only
	sig, err := file.signature()
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func TestLostMark(t *testing.T) {
	f := newFixture(t, table.Hash, "a=1\n@=@\n")
	f.write("a=2\n")
	if err := f.refresh(context.Background(), false); !errors.Is(err, ErrRebuild) || !f.Status().Rebuilding {
		t.Errorf("a lost mark: %v, %+v", err, f.Status())
	}
	f.holds("a", "1")
	f.skew += holdTime - time.Minute
	f.write("a=3\n") // goes on
	_ = f.refresh(context.Background(), false)
	f.holds("a", "1")
	f.skew += time.Minute
	if err := f.refresh(context.Background(), false); err != nil {
		t.Errorf("after ten minutes: %v", err)
	}
	f.holds("a", "3")
	if f.lines("looks unfinished") != 1 || f.Status().Rebuilding {
		t.Errorf("log: %s", f.log)
	}
	f.write("a=4\n") // it has no mark now: as makemap writes it
	_ = f.refresh(context.Background(), false)
	f.holds("a", "4")

	f.write("a=5\n@=@\n")
	_ = f.refresh(context.Background(), false)
	f.write("")
	_ = f.refresh(context.Background(), false)
	f.holds("a", "5")
	f.write("a=6\n@=@\n")
	if err := f.refresh(context.Background(), false); err != nil {
		t.Error(err)
	}
	f.holds("a", "6")
}

func TestTextIsReadWhenQuiet(t *testing.T) {
	f := newFixture(t, table.Text, "a=1\n")
	if err := os.WriteFile(f.path, []byte("a=2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stamp := f.now()
	if err := os.Chtimes(f.path, stamp, stamp); err != nil {
		t.Fatal(err)
	}
	if err := f.refresh(context.Background(), false); !errors.Is(err, ErrBusy) {
		t.Errorf("a text changed just now: %v", err)
	}
	f.holds("a", "1")
	f.skew += quiet
	if err := f.refresh(context.Background(), false); err != nil {
		t.Error(err)
	}
	f.holds("a", "2")
	if f.Status().Waits == 0 {
		t.Error("the wait was not counted")
	}
}

// TestLocks holds each lock of a writer in turn.
func TestLocks(t *testing.T) {
	for _, tc := range []struct {
		name string
		lock func(fd int) error
	}{
		{"flock", func(fd int) error { return unix.Flock(fd, unix.LOCK_EX) }},
		{"fcntl", func(fd int) error {
			return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, table.Hash, "a=1\n")
			f.write("a=2\n")
			writer, err := os.OpenFile(f.path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := tc.lock(int(writer.Fd())); err != nil {
				t.Fatal(err)
			}
			if err := f.refresh(context.Background(), false); !errors.Is(err, ErrBusy) {
				t.Errorf("beside a writer: %v", err)
			}
			f.holds("a", "1")
			if err := writer.Close(); err != nil {
				t.Fatal(err)
			}
			if err := f.refresh(context.Background(), false); err != nil {
				t.Error(err)
			}
			f.holds("a", "2")
			again, err := os.OpenFile(f.path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close() //nolint:errcheck // a test's file
			if err := unix.Flock(int(again.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
				t.Errorf("a lock of ours outlived the copy: %v", err)
			}
		})
	}
}

func TestWarningsAreBounded(t *testing.T) {
	f := newFixture(t, table.Hash, "a=1\n"+strings.Repeat("bad\n", 1000))
	if n := f.lines("left out"); n != warnings+1 {
		t.Errorf("%d warnings in the log", n)
	}
	f.holds("a", "1")
}

// TestRun follows a file through all ways of changing it. Two seconds are promised; a loaded machine gets more.
func TestRun(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(f *fixture, text string) error
	}{
		{"in place", func(f *fixture, text string) error { return os.WriteFile(f.path, []byte(text), 0o600) }},
		{"replaced", func(f *fixture, text string) error {
			return errors.Join(os.WriteFile(f.path+".new", []byte(text), 0o600), os.Rename(f.path+".new", f.path))
		}},
		{"removed and made", func(f *fixture, text string) error {
			return errors.Join(os.Remove(f.path), os.WriteFile(f.path, []byte(text), 0o600))
		}},
		{"directory replaced", func(f *fixture, text string) error { // the notifications end
			dir := filepath.Dir(f.path)
			return errors.Join(os.Rename(dir, dir+".old"+text[2:3]), os.Mkdir(dir, 0o700), os.WriteFile(f.path, []byte(text), 0o600))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, table.Hash, "a=1\n")
			f.now = time.Now
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			wg.Go(func() { _ = f.Run(ctx) })
			defer wg.Wait()
			defer cancel()
			for i := 2; i < 4; i++ {
				want := fmt.Sprint(i)
				if err := tc.change(f, "a="+want+"\n"); err != nil {
					t.Fatal(err)
				}
				for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
					if value, _, _ := f.Lookup(ctx, "a"); value == want {
						break
					}
					if time.Since(start) > time.Minute {
						t.Fatalf("after a minute a is not %s: %+v", want, f.Status())
					}
				}
			}
		})
	}
}

// fragile is a format with a fault that the content of a file brings out.
type fragile struct{ plain }

func (f fragile) Scan(ctx context.Context, file io.ReaderAt, size int64, each func(k, v []byte) error) error {
	return f.plain.Scan(ctx, file, size, func(k, v []byte) error {
		if string(k) == "panic" {
			panic("index out of range")
		}
		return each(k, v)
	})
}

// TestFormatThatPanics holds that a file that a reader stumbles over does not end the process.
func TestFormatThatPanics(t *testing.T) {
	f := newFixture(t, table.Hash, "")
	f.cfg.Format = func(warn func(error)) table.Format { return fragile{plain{warn}} }
	f.write("good=1\n")
	f.load()
	f.write("good=2\npanic=1\n")
	if err := f.Load(t.Context()); err == nil || !strings.Contains(err.Error(), "index out of range") {
		t.Errorf("loaded with %v", err)
	}
	f.holds("good", "1")
	if log := f.log.String(); !strings.Contains(log, "TestFormatThatPanics") {
		t.Errorf("the log does not have the stack: %s", log)
	}
}
