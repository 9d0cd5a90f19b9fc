// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/store/storetest"
)

const sample = 400

// filled makes a state directory with a copy of a file of sample records and of its
// log, as a kill would leave them.
func filled(t *testing.T, now time.Time) (dir string) {
	t.Helper()
	dir = testkit.Dir(t)
	s := open(t, dir, 100_000)
	fill(t, s, now)
	for _, suffix := range []string{"", "-wal"} { // a copy, as a kill would leave it
		data, err := os.ReadFile(s.path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "copy"+suffix), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_ = s.Close()
	return dir
}

// fill puts half of the sample into the file and leaves the rest in the log.
func fill(t *testing.T, s *Store, now time.Time) {
	t.Helper()
	for i := range sample {
		_ = s.Put(context.Background(), numbered(i), storetest.Full(numbered(i), now))
		if i == sample/2 {
			written(t, s)
			testkit.Eventually(t, "the log is in the file", func() bool { // "locked" while the writer is at something
				_, err := s.file.Load().conn.ExecContext(context.Background(), "PRAGMA wal_checkpoint(TRUNCATE)")
				return err == nil
			})
		}
	}
	written(t, s)
}

func written(t *testing.T, s *Store) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if n, _ := s.queue.len(); n == 0 {
			return
		}
	}
	t.Fatal("the queue was never written")
}

// spoilers damage an image of the file or of its log.
var spoilers = map[string]func(b []byte) []byte{
	"garbled": func(b []byte) []byte {
		for range 1 + rand.N(40) {
			b[rand.N(len(b))] ^= byte(1 + rand.N(255))
		}
		return b
	},
	"truncated": func(b []byte) []byte { return b[:rand.N(len(b))] },
	"zeroed": func(b []byte) []byte {
		at := rand.N(len(b)) &^ 4095
		clear(b[at:min(at+4096*(1+rand.N(8)), len(b))])
		return b
	},
	"random": func(b []byte) []byte {
		at := rand.N(len(b)) &^ 4095
		for i := at; i < min(at+4096*(1+rand.N(8)), len(b)); i++ {
			b[i] = byte(rand.Uint32())
		}
		return b
	},
	"swapped": func(b []byte) []byte {
		if len(b) < 3*4096 {
			return b
		}
		i, j := 4096*(1+rand.N(len(b)/4096-1)), 4096*(1+rand.N(len(b)/4096-1))
		page := bytes.Clone(b[i : i+4096])
		copy(b[i:i+4096], b[j:j+4096])
		copy(b[j:j+4096], page)
		return b
	},
	"another": func([]byte) []byte { return []byte(strings.Repeat("From: root\n", 3000)) },
	"empty":   func([]byte) []byte { return nil },
}

// TestDamagedAtStart opens damaged files: what is given is right, and the store
// takes what is put.
func TestDamagedAtStart(t *testing.T) {
	if testing.Short() {
		t.Skip("the full run without the race detector has it")
	}
	t.Parallel()
	now := time.Now()
	from := filled(t, now)
	for what, spoil := range spoilers {
		for _, suffix := range []string{"", "-wal"} {
			t.Run(what+suffix, func(t *testing.T) {
				t.Parallel()
				for range testkit.Rounds(1, 5) {
					dir := testkit.Dir(t)
					for _, part := range []string{"", "-wal"} {
						data, err := os.ReadFile(filepath.Join(from, "copy"+part))
						if err != nil {
							t.Fatal(err)
						}
						if part == suffix {
							data = spoil(data)
						}
						if err := os.WriteFile(filepath.Join(dir, FileName+part), data, 0o600); err != nil {
							t.Fatal(err)
						}
					}
					rightOrNothing(t, open(t, dir, 100_000), now)
				}
			})
		}
	}
}

// rightOrNothing reads, lists, writes and forgets.
func rightOrNothing(t *testing.T, s *Store, now time.Time) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	kept := 0
	for i := range sample {
		rec, err := s.Get(ctx, numbered(i))
		if err != nil {
			continue
		}
		kept++
		if !storetest.Equal(rec, storetest.Full(numbered(i), now)) {
			t.Fatalf("record %d is wrong: %+v", i, rec)
		}
	}
	_ = s.Range(ctx, store.Pattern{}, func(key string, rec store.Record) bool {
		if !storetest.Equal(rec, storetest.Full(key, now)) {
			t.Errorf("record %q in the list is wrong: %+v", key, rec)
		}
		return true
	})
	for i := range sample {
		_ = s.Put(ctx, "new"+numbered(i), storetest.Valid(now))
	}
	written(t, s)
	_, _ = s.Forget(ctx, store.Tombstone{Pattern: store.Pattern{Domain: "dept.example.org"}, When: now})
	testkit.Eventually(t, "the store serves what is put after the damage", func() bool {
		_ = s.Put(ctx, "last@example.org", storetest.Valid(now)) // damage found only now loses it
		written(t, s)
		rec, err := s.Get(ctx, "last@example.org")
		return err == nil && storetest.Equal(rec, storetest.Valid(now))
	})
	t.Logf("%d of %d were kept; %s", kept, sample, s.Stats().Detail)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestDamagedWhileOpen spoils the file under a running store.
func TestDamagedWhileOpen(t *testing.T) {
	if testing.Short() {
		t.Skip("the full run without the race detector has it")
	}
	t.Parallel()
	now := time.Now()
	for what, spoil := range spoilers {
		for _, suffix := range []string{"", "-wal"} {
			t.Run(what+suffix, func(t *testing.T) {
				t.Parallel()
				s := open(t, testkit.Dir(t), 100_000)
				fill(t, s, now)
				data, err := os.ReadFile(s.path + suffix)
				if err != nil {
					t.Fatal(err)
				}
				data = spoil(data)
				f, err := os.OpenFile(s.path+suffix, os.O_WRONLY|os.O_TRUNC, 0)
				if err == nil {
					_, err = f.Write(data)
					_ = f.Close()
				}
				if err != nil {
					t.Fatal(err)
				}
				rightOrNothing(t, s, now)
			})
		}
	}
}

// TestSetAside names the file that could not be used, and keeps only a few.
func TestSetAside(t *testing.T) {
	t.Parallel()
	dir := testkit.Dir(t)
	path := filepath.Join(dir, FileName)
	for range maxAside + 3 {
		if err := os.WriteFile(path, []byte("this is not a database, and never was one"), 0o644); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, 1000)
		_ = s.Put(context.Background(), "a@example.org", storetest.Valid(time.Now()))
		if !strings.Contains(s.Stats().Detail, path+".damaged-") {
			t.Errorf("detail: %q", s.Stats().Detail)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	found, _ := filepath.Glob(path + ".damaged-*")
	if len(found) != maxAside {
		t.Errorf("set aside are kept: %q", found)
	}
}

// TestNewerSchema sets a newer release's file aside unharmed.
func TestNewerSchema(t *testing.T) {
	t.Parallel()
	dir := testkit.Dir(t)
	db, err := sql.Open("sqlite", filepath.Join(dir, FileName))
	if err == nil {
		_, err = db.Exec("CREATE TABLE things (a); PRAGMA user_version = 2")
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, 1000)
	_ = s.Put(context.Background(), "a@example.org", storetest.Valid(time.Now()))
	written(t, s)
	found, _ := filepath.Glob(filepath.Join(dir, FileName+".schema-*"))
	if len(found) != 1 {
		t.Errorf("set aside: %q", found)
	}
}

// TestMissingTable is a file with the right version and the wrong tables.
func TestMissingTable(t *testing.T) {
	t.Parallel()
	dir := testkit.Dir(t)
	db, err := sql.Open("sqlite", filepath.Join(dir, FileName))
	if err == nil {
		_, err = db.Exec("CREATE TABLE things (a); PRAGMA user_version = 1")
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, 1000)
	_ = s.Put(context.Background(), "a@example.org", storetest.Valid(time.Now()))
	written(t, s)
	if s.aside.Load() == nil {
		t.Error("a file without our tables was not set aside")
	}
}
