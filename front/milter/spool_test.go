// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"io"
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
