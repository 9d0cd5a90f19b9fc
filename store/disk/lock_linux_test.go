// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"rcptgate/kit/testkit"
	"rcptgate/store"
)

// TestUnwritableDirectory: opening says what to do, whether the directory cannot be made or
// nothing can be made in it.
func TestUnwritableDirectory(t *testing.T) {
	parent := testkit.Dir(t)
	if err := os.Chmod(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	testkit.Unprivileged(t)
	for _, dir := range []string{filepath.Join(parent, "state"), parent} {
		s, err := Open(Options{Patience: patience, Dir: dir, Entries: 1000})
		if !errors.Is(err, store.ErrReadOnly) {
			t.Errorf("%s: %v", dir, err)
		}
		if err == nil {
			_ = s.Close()
		}
	}
}
