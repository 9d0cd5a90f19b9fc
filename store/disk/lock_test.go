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
	"time"

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
	dir := t.TempDir()
	open(t, dir, 1000)
	var log logBuffer
	_, err := Open(Options{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
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
	dir := filepath.Join(t.TempDir(), "state")
	var log logBuffer
	s, err := Open(Options{Dir: dir, Entries: 1000, Log: slog.New(slog.NewTextHandler(&log, nil))})
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
		eventually(t, name+": the lock is taken again", func() bool {
			time.Sleep(20 * time.Millisecond)
			other, err := lockDir(dir)
			if err == nil {
				_ = other.Close() // we were faster; it goes on trying
			}
			return errors.Is(err, ErrLocked)
		})
		eventually(t, name+": it works again", func() bool { return s.Stats().Detail == "" && s.file.Load() != nil })
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
	dir := filepath.Join(t.TempDir(), "state")
	s := open(t, dir, 1000)
	lock, err := lockDir(dir + ".new")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(dir, dir+".old"), os.Rename(dir+".new", dir)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is noticed", func() bool { return strings.Contains(s.Stats().Detail, "in use") && s.file.Load() == nil })
	if _, err := os.Stat(s.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the other's directory was written to: %v", err)
	}
	_ = lock.Close()
	eventually(t, "it works again", func() bool { return s.Stats().Detail == "" && s.file.Load() != nil })
}

// TestReadOnlySaysWhatToWrite is a state directory that the unit does not name.
func TestReadOnlySaysWhatToWrite(t *testing.T) {
	err := readOnly("/srv/rcptgate", &os.PathError{Op: "mkdir", Path: "/srv/rcptgate", Err: syscall.EROFS})
	if !strings.Contains(err.Error(), "ReadWritePaths=/srv/rcptgate") || !errors.Is(err, syscall.EROFS) {
		t.Error(err)
	}
	other := &os.PathError{Op: "mkdir", Path: "/srv/rcptgate", Err: syscall.EACCES}
	if err := readOnly("/srv/rcptgate", other); err != error(other) {
		t.Error(err)
	}
}
