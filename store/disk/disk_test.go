// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"log/slog"
	"testing"

	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/store/storetest"
)

func open(t *testing.T, dir string, entries int) *Store {
	t.Helper()
	s, err := Open(Options{Dir: dir, Entries: entries, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
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
