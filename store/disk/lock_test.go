// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/store/storetest"
)

// logBuffer is a log that the writer writes while the test reads.
type logBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *logBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.String()
}

// A second daemon is refused, and nothing else is said.
func TestSecondDaemonIsRefusedQuietly(t *testing.T) {
	t.Parallel()
	dir := testkit.Dir(t)
	open(t, dir, 1000)
	var log logBuffer
	_, err := Open(Options{Patience: patience, Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), filepath.Join(dir, "lock")) {
		t.Errorf("a second store: %v", err)
	}
	if log.text() != "" {
		t.Errorf("the log says: %s", log.text())
	}
}

// A directory that is removed and made again under a running daemon is its own again:
// what it learns is written there, and a second daemon is refused.
func TestDirectoryMadeAgain(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(testkit.Dir(t), "state")
	var log logBuffer
	s, err := Open(Options{Patience: patience, Dir: dir, Entries: 1000, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for name, away := range map[string]func() error{
		"directory": func() error { return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)) },
		"lock only": func() error { return os.Remove(filepath.Join(dir, lockName)) },
	} {
		if err := away(); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, name+": the lock is taken again", func() bool {
			time.Sleep(20 * time.Millisecond)
			other, err := lockDir(dir)
			if err == nil {
				_ = other.Close() // we were faster; it goes on trying
			}
			return errors.Is(err, ErrLocked)
		})
		testkit.Eventually(t, name+": it works again", func() bool { return s.Stats().Detail == "" && s.file.Load() != nil })
		_ = s.Put(context.Background(), name+"@example.org", storetest.Valid(time.Now()))
		written(t, s)
		if _, err := os.Stat(s.path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !strings.Contains(log.text(), "state directory was removed or replaced") {
		t.Errorf("the log says: %s", log.text())
	}
}

// Where another daemon was faster the directory is its own, and this one goes on
// without, aloud, until the other has ended.
func TestDirectoryTakenByAnother(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(testkit.Dir(t), "state")
	s := open(t, dir, 1000)
	lock, err := lockDir(dir + ".new")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(dir, dir+".old"), os.Rename(dir+".new", dir)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it is noticed", func() bool { return strings.Contains(s.Stats().Detail, "in use") && s.file.Load() == nil })
	if _, err := os.Stat(s.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the other's directory was written to: %v", err)
	}
	_ = lock.Close()
	testkit.Eventually(t, "it works again", func() bool { return s.Stats().Detail == "" && s.file.Load() != nil })
}

// TestReadOnlySaysWhatToWrite is a state directory that the unit does not name.
func TestReadOnlySaysWhatToWrite(t *testing.T) {
	t.Parallel()
	for no, want := range map[syscall.Errno]string{syscall.EROFS: "ReadWritePaths=/srv/rcptgate", syscall.EACCES: "the user that the daemon runs as"} {
		err := unwritable("/srv/rcptgate", &os.PathError{Op: "mkdir", Path: "/srv/rcptgate", Err: no})
		if !strings.Contains(err.Error(), want) || !errors.Is(err, no) || !errors.Is(err, store.ErrReadOnly) {
			t.Error(err)
		}
	}
	full := &os.PathError{Op: "mkdir", Path: "/srv/rcptgate", Err: syscall.ENOSPC}
	if err := unwritable("/srv/rcptgate", full); err != error(full) {
		t.Error(err)
	}
}

// TestPlantedFiles: links and other things in the places where the files of the store
// belong are not followed, and what they lead to is left alone.
func TestPlantedFiles(t *testing.T) {
	t.Parallel()
	for _, name := range []string{lockName, FileName, FileName + "-wal", FileName + "-shm"} {
		for kind, plant := range map[string]func(victim, at string) error{
			"link":          os.Symlink,
			"dangling link": func(victim, at string) error { return os.Symlink(victim+".new", at) },
			"named pipe":    func(_, at string) error { return syscall.Mkfifo(at, 0o600) },
			"directory":     func(_, at string) error { return os.Mkdir(at, 0o700) },
		} {
			t.Run(name+" "+kind, func(t *testing.T) {
				dir := filepath.Join(testkit.Dir(t), "state")
				victim := filepath.Join(filepath.Dir(dir), "victim")
				if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(victim, []byte("precious"), 0o644), plant(victim, filepath.Join(dir, name))); err != nil {
					t.Fatal(err)
				}
				s, err := Open(Options{Patience: patience, Dir: dir, Entries: 1000})
				if err == nil {
					if detail := s.Stats().Detail; !strings.Contains(detail, name) {
						t.Errorf("detail: %q", detail)
					}
					_ = s.Close()
				}
				text, _ := os.ReadFile(victim)
				info, _ := os.Stat(victim)
				if string(text) != "precious" || info.Mode().Perm() != 0o644 {
					t.Errorf("the file behind it became %q, mode %v", text, info.Mode())
				}
				if _, err := os.Lstat(victim + ".new"); err == nil {
					t.Error("a file was made where a link leads to")
				}
			})
		}
	}
}

// TestAnotherUsersState: the daemon does not start on files of another user, and says what
// to do.
func TestAnotherUsersState(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	for _, name := range []string{"", lockName, FileName} {
		dir := testkit.Dir(t)
		first := open(t, dir, 1000)
		_ = first.Close()
		if err := os.Chown(filepath.Join(dir, name), 12345, 12345); err != nil {
			t.Fatal(err)
		}
		_, err := Open(Options{Patience: patience, Dir: dir, Entries: 1000})
		if !errors.Is(err, store.ErrOwner) || !strings.Contains(err.Error(), "belongs to 12345") || !strings.Contains(err.Error(), "run it as that user") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestGiveTheWholeDirectory: a daemon that another user once started leaves several files; one
// command gives all of them away.
func TestGiveTheWholeDirectory(t *testing.T) {
	t.Parallel()
	want := `"chown -R rcptgate /var/lib/rcptgate"`
	for name, isDir := range map[string]bool{"/var/lib/rcptgate": true, "/var/lib/rcptgate/lock": false, "/var/lib/rcptgate/answers.db": false} {
		if got := giveTo(name, isDir, "root", "rcptgate"); !strings.HasSuffix(got, want) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestForgetOnADiskThatHangs ends in bounded time, and says so.
func TestForgetOnADiskThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Store{options: Options{Patience: openTimeout}, queue: newQueue(10), quit: make(chan struct{}), done: make(chan struct{}), urgent: make(chan struct{}, 1)} // no writer
		began := time.Now()
		_, err := s.Forget(t.Context(), store.Tombstone{Pattern: store.Pattern{Address: numbered(1)}, When: began})
		if !errors.Is(err, errHangs) || time.Since(began) > openTimeout {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if _, hides := s.queue.get(numbered(1)); hides == 0 {
			t.Error("the record is not hidden")
		}
		go func() { // one that is slow makes progress
			for range 60 {
				time.Sleep(time.Second)
				s.moved.Store(time.Now().UnixNano())
			}
			s.queue.forgotten(s.queue.nextForgets())
		}()
		if _, err := s.Forget(t.Context(), store.Tombstone{Pattern: store.Pattern{Domain: "example.org"}, When: began}); err != nil {
			t.Errorf("a slow disk: %v", err)
		}
	})
}
