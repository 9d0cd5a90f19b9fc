// SPDX-License-Identifier: BSD-2-Clause

package keep

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"rcptgate/store"
)

// TestCounter holds what a counter says over time.
func TestCounter(t *testing.T) {
	k := New(Options{})
	c, err := k.Counter("c", time.Hour, 1000)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_800_000_000, 0).Truncate(30 * time.Minute)
	for _, step := range []struct {
		after time.Duration
		n     int64
		want  int64
	}{{0, 1, 1}, {0, 2, 3}, {29 * time.Minute, 1, 4}, {30 * time.Minute, 1, 5}, {60 * time.Minute, 1, 2}, {3 * time.Hour, 0, 0}, {3 * time.Hour, -5, 0}} {
		if got := c.Add("k", step.n, at.Add(step.after)); got != step.want {
			t.Errorf("%v after %v: %d, want %d", step.n, step.after, got, step.want)
		}
	}
	if again, _ := k.Counter("c", time.Hour, 1000); again != c {
		t.Error("a counter does not outlive its configuration")
	}
	wide, _ := k.Counter("c", 2*time.Hour, 1000)
	if wide == c {
		t.Error("another window has the old counts")
	}
	if other, _ := k.Counter("c", 2*time.Hour, 10); other == wide {
		t.Error("another size has the old counts")
	}
	for i := range 100_000 {
		c.Add(fmt.Sprint(i), 1, at)
	}
	if n := c.all.len(); n > 1100 {
		t.Errorf("%d keys are kept of 1000", n)
	}
}

// TestNamesHaveBounds holds what is refused.
func TestNamesHaveBounds(t *testing.T) {
	k := New(Options{})
	for i := range NamesMax {
		if _, err := k.Counter(fmt.Sprint(i), time.Hour, 10); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.Counter("one more", time.Hour, 10); err == nil {
		t.Error("there is no bound")
	}
	for _, bad := range []error{
		second(k.Counter("", time.Hour, 10)), second(k.Counter("0", time.Millisecond, 10)), second(k.Counter("0", time.Hour, 0)),
		second(k.Memory("", MemoryOptions{time.Hour, 1, false, false})), second(k.Memory("m", MemoryOptions{0, 1, false, false})), second(k.Memory("m", MemoryOptions{time.Hour, EntriesMax + 1, false, false})),
	} {
		if bad == nil {
			t.Error("it was taken")
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestMemoryOnDisk holds that what is kept survives, what is deleted or has ended does not,
// and that a damaged file costs only what it held.
func TestMemoryOnDisk(t *testing.T) {
	dir := t.TempDir()
	ctx, now := t.Context(), time.Now()
	openOne := func() (*Keep, *Memory) {
		k := New(Options{Dir: dir})
		m, err := k.Memory("m", MemoryOptions{Expire: time.Hour, Entries: 1000, Disk: true})
		if err != nil {
			t.Fatal(err)
		}
		return k, m
	}
	k, m := openOne()
	m.Set(ctx, "a", "1", 0, now)
	m.Set(ctx, "b", "2", 0, now)
	m.Set(ctx, "old", "3", time.Second, now.Add(-time.Minute))
	m.Delete(ctx, "b", now)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	k, m = openOne()
	for key, want := range map[string]string{"a": "1", "b": "", "old": ""} {
		if got, ok := m.Get(ctx, key, now); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v", key, got, ok)
		}
	}
	if _, ok := m.Get(ctx, "a", now.Add(2*time.Hour)); ok {
		t.Error("an entry outlives its end")
	}
	_ = k.Close()
	path := filepath.Join(dir, fileName)
	for _, end := range []string{"", "-wal", "-shm"} {
		_ = os.Remove(path + end)
	}
	if err := os.WriteFile(path, []byte("this is not a database, and long enough to be looked at: 0123456789 0123456789 0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	k, m = openOne()
	m.Set(ctx, "c", "4", 0, now)
	_ = k.Close()
	k, m = openOne()
	if got, _ := m.Get(ctx, "c", now); got != "4" {
		t.Error("nothing is kept after a damaged file")
	}
	_ = k.Close()
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Error(err)
	}
}

// servers are those that gateways share, or dead.
type servers struct {
	mu   sync.Mutex
	all  map[string][]byte
	dead bool
	gets int
}

var errDead = errors.New("dead")

func (s *servers) Key(plain, _, name string) string { return plain + name }

func (s *servers) Get(_ context.Context, key string) ([]byte, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	if s.dead {
		return nil, "", errDead
	}
	if v, ok := s.all[key]; ok {
		return append(append([]byte{}, v...), '\n'), "one", nil
	}
	return nil, "one", store.ErrNotFound
}

func (s *servers) Set(_ context.Context, key string, v []byte, _ time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return errDead
	}
	s.all[key] = v
	return nil
}

func (s *servers) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, key)
	return nil
}

// TestMemoryIsShared holds that gateways see each other's entries, and that dead servers cost
// only what they know.
func TestMemoryIsShared(t *testing.T) {
	s := &servers{all: make(map[string][]byte)}
	of := func() *Memory {
		m, err := New(Options{Shared: s}).Memory("m", MemoryOptions{Expire: time.Hour, Entries: 1000, Shared: true})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	a, b := of(), of()
	ctx, now := t.Context(), time.Now()
	a.Set(ctx, "k", "v\x00\n", 0, now)
	if got, ok := b.Get(ctx, "k", now); got != "v\x00\n" || !ok {
		t.Errorf("the other gateway sees %q, %v", got, ok)
	}
	asked := s.gets
	for range 10 {
		b.Get(ctx, "k", now)
		b.Get(ctx, "none", now)
	}
	if s.gets != asked+1 {
		t.Errorf("asked %d times", s.gets-asked)
	}
	other, err := New(Options{Shared: s}).Memory("other", MemoryOptions{Expire: time.Hour, Entries: 1000, Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := other.Get(ctx, "k", now); ok {
		t.Errorf("another memory has %q", got)
	}
	a.Delete(ctx, "k", now)
	if _, ok := b.Get(ctx, "k", now.Add(time.Minute)); ok {
		t.Error("a deleted entry is there after a minute")
	}
	a.Set(ctx, "k", "w", 0, now)
	s.dead = true
	if got, ok := a.Get(ctx, "k", now.Add(time.Minute)); got != "w" || !ok || a.failed.Load() != 1 {
		t.Errorf("with dead servers: %q, %v, %d failures", got, ok, a.failed.Load())
	}
	a.Set(ctx, "l", "x", 0, now)
	if got, _ := a.Get(ctx, "l", now); got != "x" {
		t.Error("RAM has lost it")
	}
}

// FuzzDecode holds that nothing on the servers makes reading panic, and that what is written
// is read again.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("1800000000 YQ==\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		value, expires, ok := decode(raw)
		if !ok {
			return
		}
		again, ends, ok := decode(encode(value, expires))
		if !ok || again != value || !ends.Equal(expires) {
			t.Errorf("%q, %v became %q, %v", value, expires, again, ends)
		}
	})
}

// The file has no more than a memory's number of entries, and a quarter more while it grows:
// what ends first goes. Another memory in it keeps its own.
func TestFileIsTrimmed(t *testing.T) {
	k := New(Options{Dir: t.TempDir()})
	ctx, now := t.Context(), time.Now()
	small, err := k.Memory("small", MemoryOptions{Expire: time.Hour, Entries: 100, Disk: true})
	other, also := k.Memory("other", MemoryOptions{Expire: time.Hour, Entries: 1000, Disk: true})
	if err != nil || also != nil {
		t.Fatal(err, also)
	}
	for i := range 500 {
		other.Set(ctx, fmt.Sprint(i), "x", time.Minute, now)
	}
	count := func(name string) (n int) {
		if err := k.disk.db.QueryRow("SELECT count(*) FROM memory WHERE name = ?", name).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for i := range 5000 {
		small.Set(ctx, fmt.Sprint(i), "x", time.Minute+time.Duration(i)*time.Second, now)
		if i%500 == 0 {
			k.disk.flush()
			if n := count("small"); n > 100+trimEvery+500 {
				t.Errorf("%d entries after %d", n, i)
			}
		}
	}
	k.disk.load("small", 100, func(key, _ string, _ time.Time) {
		if len(key) != 4 || key < "4900" {
			t.Errorf("entry %s is kept, and later ones are not", key)
		}
	})
	if n := count("small"); n != 100 {
		t.Errorf("%d entries of 100 are in the file", n)
	}
	if n := count("other"); n != 500 {
		t.Errorf("%d entries of another memory are in the file", n)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
}
