// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/store/storetest"
	"rcptgate/test/lab"
)

// TestGenerationIsOfTheKey: a gateway that has forgotten something else just now, and
// does not know yet what another has forgotten, does not pass for one that knows.
func TestGenerationIsOfTheKey(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	seldom := Options{Every: time.Hour}
	a, b := gateway(t, config(t, server), seldom), gateway(t, config(t, server), seldom)
	start(a)
	start(b)
	forget(t, a, somebody)
	own := store.Pattern{Address: "other@example.org"}
	b.tombstones.add(own, time.Now().Add(time.Second).UnixNano(), "") // as Forget does before it has read a list
	_ = b.Put(ctx, somebody.Address, storetest.Valid(time.Now()))
	_ = b.Put(ctx, own.Address, storetest.Valid(time.Now()))
	written(t, b)
	absent(t, a, "what was written without knowing of the forget", somebody.Address)
	if _, err := a.Get(ctx, own.Address); err != nil {
		t.Errorf("what was written after its own forget: %v", err)
	}
}

// TestForgetIsNewerThanTheLists: an order of a gateway whose clock is behind voids what
// one ahead of it has written since an order of its own.
func TestForgetIsNewerThanTheLists(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	ahead := gateway(t, config(t, server), Options{Every: time.Hour, Clock: func() time.Time { return time.Now().Add(time.Minute) }})
	behind := gateway(t, config(t, server), Options{Every: time.Hour})
	start(ahead)
	start(behind)
	if _, err := ahead.Forget(ctx, store.Tombstone{When: ahead.After(ahead.now())}); err != nil {
		t.Fatal(err)
	}
	_ = ahead.Put(ctx, somebody.Address, storetest.Valid(time.Now()))
	written(t, ahead)
	forget(t, behind, store.Pattern{Domain: "example.org"})
	absent(t, behind, "a forgotten answer", somebody.Address)
	ahead.c.signalBack()
	testkit.Eventually(t, "the one ahead knows", func() bool { return ahead.tombstones.len() == 2 })
	absent(t, ahead, "a forgotten answer", somebody.Address)
}
