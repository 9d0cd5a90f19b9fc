// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rcptgate/store"
	"rcptgate/test/lab"
)

// TestNothingIsLeft: everything that runs in the background ends with Close, also when a
// server is dead and another one hangs.
func TestNothingIsLeft(t *testing.T) {
	servers := lab.StartMemcacheds(t, 3, lab.MemcachedOptions{})
	before := goleak.IgnoreCurrent()
	c, err := NewClient(config(t, servers...).Config, slog.New(slog.DiscardHandler), ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := New(c, often)
	s.Start(nil, func(store.Tombstone) {}, func() {})
	servers[0].Kill()
	servers[1].Stop()
	for i := range 50 {
		_ = s.Put(ctx, user(i), numbered(i))
		_, _ = s.Get(ctx, user(i))
		_, _ = s.Lease(ctx, user(i), "")
	}
	_, _ = s.Forget(ctx, store.Tombstone{Pattern: somebody, When: s.After(time.Now())})
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	servers[1].Cont()
	var left error
	for range 50 { // a question to the server that hung ends at its own time-out
		if left = goleak.Find(before); left == nil {
			return
		}
	}
	t.Error(left)
}
