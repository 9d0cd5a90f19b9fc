// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"log/slog"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/store/storetest"
)

// patience is for machines that stand still for a while.
const patience = 2 * time.Minute

func open(t *testing.T, dir string, entries int) *Store {
	t.Helper()
	s, err := Open(Options{Patience: patience, Dir: dir, Entries: entries, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T, entries int) store.Store {
		return open(t, testkit.Dir(t), entries)
	})
}
