// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestSpoolFilesHaveNoName holds that nothing of a message is left in the directory, with and
// without O_TMPFILE, and that what was written is there.
func TestSpoolFilesHaveNoName(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(string) (*os.File, error){"usual": unnamedFile, "fallback": namedForAMoment} {
		dir := filepath.Join(t.TempDir(), "a", "spool")
		for range 2 {
			file, err := open(dir)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
				t.Errorf("%s: %v, %v", name, list, err)
			}
			if _, err := file.WriteAt([]byte("text"), 3); err != nil {
				t.Error(err)
			}
			if b, err := io.ReadAll(io.NewSectionReader(file, 3, 4)); string(b) != "text" || err != nil {
				t.Errorf("%s: %q, %v", name, b, err)
			}
			if info, err := file.Stat(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", name, info.Mode(), err)
			}
			if err := file.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := unnamedFile(filepath.Join(os.DevNull, "spool")); err == nil {
		t.Error("a directory in a device")
	}
}

// TestSpoolReadsAnywhere compares what is read at any place with what was written, in memory and
// in a file (io.ReaderAt).
func TestSpoolReadsAnywhere(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{1, 1000, spoolRAM, spoolRAM + 1} {
		s := spool{all: &spools{dir: t.TempDir(), max: 1 << 20}}
		text := make([]byte, size)
		for i := range text {
			text[i] = byte(rng.Uint32())
		}
		if _, err := s.Write(text[:size/2]); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(text[size/2:]); err != nil {
			t.Fatal(err)
		}
		if (s.file != nil) != (size > spoolRAM) {
			t.Errorf("%d octets: in a file %v", size, s.file != nil)
		}
		for range 200 {
			from, n := rng.IntN(size), rng.IntN(size+10)
			part := make([]byte, n)
			got, err := s.ReadAt(part, int64(from))
			want := text[from:min(from+n, size)]
			if string(part[:got]) != string(want) || (err == io.EOF) != (n > len(want)) || err != nil && err != io.EOF {
				t.Fatalf("%d octets at %d of %d: %d, %v", n, from, size, got, err)
			}
		}
		for _, off := range []int64{-1, int64(size), int64(size) + 1} {
			if n, err := s.ReadAt(make([]byte, 1), off); n != 0 || err != io.EOF {
				t.Errorf("at %d of %d: %d, %v", off, size, n, err)
			}
		}
		s.Reset()
		if s.all.used.Load() != 0 || s.all.held.Load() != 0 {
			t.Errorf("%d octets are used, %d of them in memory", s.all.used.Load(), s.all.held.Load())
		}
	}
}
