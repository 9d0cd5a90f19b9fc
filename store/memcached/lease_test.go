// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/test/lab"
)

// TestLeaseHasOneWinner: of many askers at once, on several gateways, one finds out and
// the others see what it found.
func TestLeaseHasOneWinner(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 3, lab.MemcachedOptions{})
	cfg := config(t, servers...)
	cfg.KeyFile = keyFile(t, keyOne)
	var gates []*Store
	for range 3 {
		gates = append(gates, gateway(t, cfg, Options{}))
	}
	for round := range testkit.Rounds(8, 20) {
		key := user(round)
		var all sync.WaitGroup
		winners := make(chan int, 30)
		for i := range cap(winners) {
			s := gates[i%3]
			all.Go(func() {
				release, err := s.Lease(ctx, key, "route")
				switch {
				case err == nil:
					winners <- i
					time.Sleep(5 * time.Millisecond)
					_ = s.Put(ctx, key, numbered(round))
					release()
					release()
				case errors.Is(err, store.ErrLeased):
				default:
					t.Errorf("lease: %v", err)
				}
				for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
					rec, leased, err := s.Await(ctx, key, "route")
					if err != nil {
						t.Errorf("await: %v", err)
						return
					}
					if !rec.IsZero() {
						return
					}
					if !leased { // let go: the answer must be there now
						if rec, _, _ := s.Await(ctx, key, "route"); rec.IsZero() {
							t.Error("the lease was let go before the answer was there")
						}
						return
					}
					if time.Now().After(end) {
						t.Error("the answer never came")
						return
					}
				}
			})
		}
		all.Wait()
		if n := len(winners); n < 1 { // a late one may find the lease free again; it looks first
			t.Errorf("round %d has %d winners", round, n)
		}
		<-winners
	}
}

// TestLeaseIsLetGoBehindPut: the next holder of the lease sees what was put.
func TestLeaseIsLetGoBehindPut(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 3, lab.MemcachedOptions{})
	one, two := gateway(t, config(t, servers...), Options{}), gateway(t, config(t, servers...), Options{})
	for i := range 200 {
		key := user(i)
		release, err := one.Lease(ctx, key, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := two.Lease(ctx, key, ""); !errors.Is(err, store.ErrLeased) {
			t.Fatalf("leased twice: %v", err)
		}
		_ = one.Put(ctx, key, numbered(i))
		release()
		for {
			again, err := two.Lease(ctx, key, "")
			if errors.Is(err, store.ErrLeased) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := two.Get(ctx, key); err != nil {
				t.Fatalf("%d: the lease is free and the answer is not there: %v", i, err)
			}
			again()
			break
		}
	}
}

// TestLeaseOfALivingHolder is renewed for as long as it is held, and no longer.
func TestLeaseOfALivingHolder(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 2, lab.MemcachedOptions{})
	synctest.Test(t, func(t *testing.T) {
		const life = time.Minute
		opt := Options{Lease: life, Honour: time.Hour}
		holder, waiter := gateway(t, config(t, servers...), opt), gateway(t, config(t, servers...), opt)
		const user, route = "slow@example.org", "tarpit"
		release, err := holder.Lease(ctx, user, route)
		if err != nil {
			t.Fatal(err)
		}
		server := servers[slices.IndexFunc(servers, func(m *lab.Memcached) bool { return m.Addr == holder.c.Server(holder.key(user)) })]
		left := func(flags string) (seconds int) {
			t.Helper()
			reply, err := server.Command("mg " + holder.leaseKey(user, route) + " " + flags)
			if err == nil {
				_, err = fmt.Sscanf(reply, "HD t%d", &seconds)
			}
			if err != nil {
				t.Fatalf("the server says of the lease: %q, %v", reply, err)
			}
			return seconds
		}
		if n := left("t"); n < 1 || n > int(life/time.Second) {
			t.Errorf("the server keeps the lease for %d s", n)
		}
		if n := left("T1000 t"); n < 900 {
			t.Fatalf("%d s, which were to be 1,000", n)
		}
		for end := time.Now().Add(life + life/2); time.Now().Before(end); time.Sleep(time.Second) {
			if _, leased, err := waiter.Await(ctx, user, route); err != nil || !leased {
				t.Fatalf("the holder lives: leased %v, %v", leased, err)
			}
		}
		if n := left("t"); n < 1 || n > int(life/time.Second) {
			t.Errorf("the server keeps a lease that was renewed for %d s", n)
		}
		if other, err := waiter.Lease(ctx, user, "another route"); err != nil {
			t.Errorf("another route is another question: %v", err)
		} else {
			other()
		}
		release()
		testkit.Eventually(t, "it is let go", func() bool {
			_, leased, err := waiter.Await(ctx, user, route)
			return err == nil && !leased
		})
	})
}

// TestLeaseIsLetGoWhileRenewed: a renewal that is on its way does not keep what was let go.
func TestLeaseIsLetGoWhileRenewed(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	s := gateway(t, config(t, server), Options{Lease: time.Minute, Honour: time.Hour})
	for i := range 50 {
		release, err := s.Lease(ctx, user(i), "")
		if err != nil {
			t.Fatal(err)
		}
		var l *lease
		s.leases.mu.Lock()
		for l = range s.leases.held {
			l.seen = time.Time{} // as after a while: it may be another gateway's
		}
		s.leases.mu.Unlock()
		var renewed sync.WaitGroup
		renewed.Go(func() { s.renew(l) })
		release()
		renewed.Wait()
		testkit.Eventually(t, "it is let go", func() bool {
			_, leased, err := s.Await(ctx, user(i), "")
			return err == nil && !leased
		})
	}
}

// TestLeaseOfACrashedHolder ends by itself, after two seconds at most by the server's
// clock.
func TestLeaseOfACrashedHolder(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	crashed, waiter := gateway(t, config(t, server), Options{Lease: defaultLease}), gateway(t, config(t, server), Options{})
	release, err := crashed.Lease(ctx, user(0), "")
	if err != nil {
		t.Fatal(err)
	}
	reply, err := server.Command("mg " + crashed.leaseKey(user(0), "") + " t")
	if err != nil || (reply != "HD t2" && reply != "HD t1" && reply != "HD t0" && reply != "EN") { // it may have ended already
		t.Errorf("the server keeps the lease for %q, %v", reply, err)
	}
	crashed.leases.mu.Lock() // it is not renewed from here on
	clear(crashed.leases.held)
	crashed.leases.mu.Unlock()
	began := time.Now()
	var mine func()
	testkit.Eventually(t, "the lease is free", func() bool {
		mine, err = waiter.Lease(ctx, user(0), "")
		return err == nil
	})
	if waited := time.Since(began); waited > 20*time.Second {
		t.Errorf("a crashed holder delayed others by %v", waited)
	}
	// The one that crashed comes back to life: it must not let go of what is not its own.
	release()
	written(t, crashed)
	if _, leased, err := waiter.Await(ctx, user(0), ""); err != nil || !leased {
		t.Errorf("somebody else's lease was let go: %v, %v", leased, err)
	}
	mine()
}

// TestLateRelease: a holder that was away for longer than its lease does not let go of the
// next one's.
func TestLateRelease(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	s, other := gateway(t, config(t, server), Options{}), gateway(t, config(t, server), Options{})
	release, err := s.Lease(ctx, user(0), "")
	if err != nil {
		t.Fatal(err)
	}
	s.leases.mu.Lock()
	for l := range s.leases.held {
		l.seen = l.seen.Add(-time.Minute) // as if it had hung
	}
	s.leases.mu.Unlock()
	server.Flush()
	mine, err := other.Lease(ctx, user(0), "")
	if err != nil {
		t.Fatal(err)
	}
	release()
	written(t, s)
	if _, leased, err := other.Await(ctx, user(0), ""); err != nil || !leased {
		t.Errorf("somebody else's lease was let go: %v, %v", leased, err)
	}
	mine()
	// An old one that is still its own is let go all the same.
	release, err = s.Lease(ctx, user(1), "")
	if err != nil {
		t.Fatal(err)
	}
	s.leases.mu.Lock()
	for l := range s.leases.held {
		l.seen = l.seen.Add(-time.Minute)
	}
	s.leases.mu.Unlock()
	release()
	testkit.Eventually(t, "it is let go", func() bool {
		_, leased, err := other.Await(ctx, user(1), "")
		return err == nil && !leased
	})
}

// TestForgedLease: with keys, no caller waits for it.
func TestForgedLease(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	cfg := config(t, server)
	cfg.KeyFile = keyFile(t, keyOne)
	s := gateway(t, cfg, Options{})
	raw(t, server, s.leaseKey(user(0), ""), leaseValue("token", time.Now()))
	if _, err := s.Lease(ctx, user(0), ""); err == nil || errors.Is(err, store.ErrLeased) {
		t.Errorf("a forged lease: %v", err)
	}
	if _, leased, err := s.Await(ctx, user(0), ""); err != nil || leased {
		t.Errorf("a forged lease: leased %v, %v", leased, err)
	}
}

// TestForgedLeaseWithoutKeys: no caller waits for longer than the bound, though the
// server would keep it for ever.
func TestForgedLeaseWithoutKeys(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	s, other := gateway(t, config(t, server), Options{Honour: 300 * time.Millisecond}), gateway(t, config(t, server), Options{})
	raw(t, server, s.leaseKey(user(0), ""), leaseValue("forged", time.Now().Add(time.Minute)))
	raw(t, server, s.leaseKey(user(1), ""), []byte("nonsense\n"))
	if _, err := s.Lease(ctx, user(0), ""); !errors.Is(err, store.ErrLeased) {
		t.Errorf("at first: %v", err)
	}
	testkit.Eventually(t, "it is waited for no longer", func() bool {
		_, leased, err := s.Await(ctx, user(0), "")
		return err == nil && !leased
	})
	for i := range 2 {
		release, err := s.Lease(ctx, user(i), "")
		if err != nil {
			t.Fatalf("%d: taking it over: %v", i, err)
		}
		if _, leased, err := other.Await(ctx, user(i), ""); err != nil || !leased {
			t.Errorf("%d: the others do not see the new lease: %v, %v", i, leased, err)
		}
		release()
		testkit.Eventually(t, "it is let go", func() bool {
			_, leased, err := other.Await(ctx, user(i), "")
			return err == nil && !leased
		})
	}
}

// TestReplayedLease: with a key file a stranger can only put back what a gateway wrote.
func TestReplayedLease(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	cfg := config(t, server)
	cfg.KeyFile = keyFile(t, keyOne)
	late := func() time.Time { return time.Now().Add(3 * time.Minute) }
	s, other := gateway(t, cfg, Options{}), gateway(t, cfg, Options{Clock: late})
	release, err := s.Lease(ctx, user(0), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, leased, err := s.Await(ctx, user(0), ""); err != nil || !leased {
		t.Fatalf("leased %v, %v", leased, err)
	}
	if _, leased, err := other.Await(ctx, user(0), ""); err != nil || leased {
		t.Errorf("minutes later the same value is a lease: %v, %v", leased, err)
	}
	if _, err := other.Lease(ctx, user(0), ""); err != nil {
		t.Errorf("minutes later: %v", err)
	}
	release()
}

// TestLeaseWatch holds which leases are waited for, and for how long.
func TestLeaseWatch(t *testing.T) {
	t.Parallel()
	const look = 100 * time.Millisecond
	renewed := func(int) []byte { return leaseValue("token", time.Now().Add(defaultLease)) }
	var once []byte
	for name, c := range map[string]struct {
		value    func(look int) []byte
		from, to time.Duration // when waiting ends
	}{
		"not renewed": {func(int) []byte {
			if once == nil {
				once = renewed(0)
			}
			return once
		}, defaultLease, defaultLease + renewedLate + 2*look},
		"renewed":              {renewed, longestWait - 2*look, longestWait + 2*look},
		"many holders":         {func(i int) []byte { return leaseValue(string(rune('a'+i)), time.Now().Add(defaultLease)) }, longestWait - 2*look, longestWait + 2*look},
		"ended an hour ago":    {func(int) []byte { return leaseValue("token", time.Now().Add(-time.Hour)) }, 0, 0},
		"ends in an hour":      {func(int) []byte { return leaseValue("token", time.Now().Add(time.Hour)) }, 0, 0},
		"nothing there":        {func(int) []byte { return nil }, 0, 0},
		"cut":                  {func(int) []byte { return renewed(0)[:20] }, 0, 0},
		"far too long":         {func(int) []byte { return leaseValue(strings.Repeat("x", 200), time.Now()) }, 0, 0},
		"of a version to come": {func(int) []byte { return []byte("rgl2\ttoken\t1\n") }, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newLeaseWatch(defaultLease)
				began, i := time.Now(), 0
				for ; time.Since(began) < time.Minute && w.honours("key", c.value(i), time.Now()); i++ {
					time.Sleep(look)
				}
				if waited := time.Since(began); waited < c.from || waited > c.to {
					t.Fatalf("waited for %v", waited)
				}
				time.Sleep(time.Hour)
				if now := renewed(0); !w.honours("key", now, time.Now()) {
					t.Error("a lease an hour later is not waited for")
				}
			})
		})
	}
}

// TestLeasesAreBounded, and given back when the gateway ends.
func TestLeasesAreBounded(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	s, other := gateway(t, config(t, server), Options{}), gateway(t, config(t, server), Options{})
	const kept = writers
	s.leases.most = testkit.Rounds(256, maxHeld)
	var releases []func()
	for i := range s.leases.most {
		release, err := s.Lease(ctx, user(i), "")
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if i >= kept {
			releases = append(releases, release)
		}
	}
	if _, err := s.Lease(ctx, user(s.leases.most), ""); !errors.Is(err, errHeldTooMany) {
		t.Errorf("one more: %v", err)
	}
	for _, release := range releases { // the end has two seconds, which is enough for few
		release()
	}
	written(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range kept {
		if _, leased, err := other.Await(ctx, user(i), ""); err != nil || leased {
			t.Errorf("after the end: leased %v, %v", leased, err)
		}
	}
	if _, err := s.Lease(ctx, user(0), ""); !errors.Is(err, store.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
