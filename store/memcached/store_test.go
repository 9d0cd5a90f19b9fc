// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"cmp"
	"context"
	"errors"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/store/storetest"
	"rcptgate/test/lab"
)

// ages is longer than what 32 bits of seconds hold.
const ages = 200 * 365 * 24 * time.Hour

// gateway makes a client and a store of its own, as each gateway has them. Unless the
// options say otherwise no lease ends and no start gives up while a busy machine stalls.
func gateway(t testing.TB, cfg testConfig, opt Options) *Store {
	t.Helper()
	opt.Lease, opt.StartFor = cmp.Or(opt.Lease, time.Minute), cmp.Or(opt.StartFor, 30*time.Second)
	opt.Honour = cmp.Or(opt.Honour, time.Minute)
	s := New(newClient(t, cfg), opt)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// written waits until everything that was put lies on a server.
func written(t testing.TB, s *Store) {
	t.Helper()
	testkit.Eventually(t, "the queue is written", func() bool { return s.queue.depth() == 0 })
}

func TestConformance(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 3, lab.MemcachedOptions{})
	storetest.Run(t, func(t *testing.T, _ int) store.Store {
		for _, s := range servers {
			s.Flush()
		}
		return gateway(t, config(t, servers...), Options{Life: ages})
	}, storetest.CannotList)
}

// across writes on one gateway and reads on another one.
type across struct {
	*Store
	t      testing.TB
	reader *Store
}

func (a across) Get(ctx context.Context, key string) (store.Record, error) {
	written(a.t, a.Store)
	return a.reader.Get(ctx, key)
}

func (a across) Forget(ctx context.Context, tomb store.Tombstone) (int, error) {
	tomb.When = a.After(tomb.When)
	n, err := a.Store.Forget(ctx, tomb)
	if err == nil {
		a.reader.c.signalBack()
		testkit.Eventually(a.t, "the other gateway knows the tombstone", func() bool {
			return a.reader.tombstones.newest.Load() >= tomb.When.UnixNano()
		})
	}
	return n, err
}

func (a across) Stats() store.Stats { return a.reader.Stats() }

func (a across) Close() error { return errors.Join(a.reader.Close(), a.Store.Close()) }

func TestConformanceAcrossGateways(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 3, lab.MemcachedOptions{})
	storetest.Run(t, func(t *testing.T, _ int) store.Store {
		for _, s := range servers {
			s.Flush()
		}
		cfg := config(t, servers...)
		cfg.KeyFile = keyFile(t, "a key of more than sixteen octets")
		a := across{Store: gateway(t, cfg, Options{Life: ages}), t: t, reader: gateway(t, cfg, Options{Life: ages})}
		a.reader.Start(nil, func(store.Tombstone) {}, func() {})
		return a
	}, storetest.CannotList)
}
