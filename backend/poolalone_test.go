// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// dials is a pool's view of a backend whose connections take a second to open, in the
// time of a bubble.
type dials struct {
	set    *settings
	mu     sync.Mutex
	opened int
	now    int
	most   int
	ended  int
	quits  int
	refuse *Failure
	heard  int // notOpened
	limit  int // limited
}

func (d *dials) open(ctx context.Context, _ time.Time) (*conn, *Failure) {
	began := time.Now()
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return nil, d.failure(StageConnect, KindCancelled, ctx.Err())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuse != nil {
		return nil, d.refuse
	}
	d.opened++
	d.now++
	d.most = max(d.most, d.now)
	pipe, _ := net.Pipe()
	return &conn{set: d.set, sock: &socket{Conn: pipe}, nc: pipe, began: began, ready: true}, nil
}

func (d *dials) end(c *conn, quit bool) {
	c.close()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now--
	d.ended++
	if quit {
		d.quits++
	}
}

func (d *dials) notOpened(*Failure, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.heard++
}

func (d *dials) limited(limit int, _ *Failure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limit = limit
}

func (d *dials) failure(stage Stage, kind Kind, err error) *Failure {
	return &Failure{Stage: stage, Kind: kind, Err: err}
}

// withPool runs f in a bubble.
func withPool(t *testing.T, cfg Config, f func(t *testing.T, p *pool, d *dials)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		d := &dials{set: newSettings(cfg, "gate.example.org")}
		var wg sync.WaitGroup
		p := newPool(ctx, &wg, d, &tuning{grace: graceMin})
		p.configure(d.set)
		time.Sleep(time.Hour)
		f(t, p, d)
		p.close(true)
		cancel()
		wg.Wait()
	})
}

func (d *dials) check(t *testing.T, opened, ended, quits int) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.opened != opened || d.ended != ended || d.quits != quits {
		t.Errorf("opened %d, ended %d, %d of them with QUIT; want %d, %d, %d", d.opened, d.ended, d.quits, opened, ended, quits)
	}
}

func mustAcquire(t *testing.T, p *pool) *conn {
	t.Helper()
	c, fail := p.acquire(t.Context(), time.Time{})
	if fail != nil {
		t.Fatal(fail)
	}
	return c
}

func TestThePoolKeepsConnections(t *testing.T) {
	withPool(t, Config{}, func(t *testing.T, p *pool, d *dials) {
		for range 5 {
			p.release(mustAcquire(t, p), time.Millisecond, true, knownNow{})
		}
		d.check(t, 1, 0, 0)
		time.Sleep(29 * time.Second)
		p.release(mustAcquire(t, p), time.Millisecond, true, knownNow{})
		time.Sleep(31 * time.Second)
		d.check(t, 1, 1, 1) // idle for too long
		c := mustAcquire(t, p)
		p.release(c, 0, false, knownNow{})
		d.check(t, 2, 2, 1) // of no more use
		c = mustAcquire(t, p)
		c.probes = 90
		p.release(c, time.Millisecond, true, knownNow{})
		synctest.Wait()
		d.check(t, 3, 3, 2) // worn
		c = mustAcquire(t, p)
		c.probes = 2
		p.release(c, time.Millisecond, true, knownNow{maxProbes: 2})
		synctest.Wait()
		d.check(t, 4, 4, 3) // worn for this backend
		for range 5*60 + 2 {
			p.release(mustAcquire(t, p), time.Millisecond, true, knownNow{})
			time.Sleep(time.Second)
		}
		d.check(t, 6, 5, 4) // too old
	})
}

func TestThePoolGrowsWithTheQueue(t *testing.T) {
	withPool(t, Config{Connections: 10}, func(t *testing.T, p *pool, d *dials) {
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() {
				c := mustAcquire(t, p)
				time.Sleep(200 * time.Millisecond)
				p.release(c, 200*time.Millisecond, true, knownNow{})
			})
		}
		wg.Wait()
		d.check(t, 10, 0, 0)
		if d.most != 10 {
			t.Errorf("%d connections at once", d.most)
		}
	})
}

// When several wait for a lone connection to a backend that is neither slow nor stuck,
// it gets a second one.
func TestALoneConnectionGetsASecond(t *testing.T) {
	for waiting, want := range map[int]int{pairFrom: 1, pairFrom - 1: 0} {
		withPool(t, Config{}, func(t *testing.T, p *pool, _ *dials) {
			c := mustAcquire(t, p)
			p.mu.Lock()
			p.latency = 10 * time.Microsecond
			for range waiting {
				p.queue.push(p.newWaiter(time.Time{}))
			}
			p.lastHead, p.burst, p.ticking = nil, 0, true
			p.mu.Unlock()
			p.tick()
			p.mu.Lock()
			opening := p.opening
			for p.queue.pop() != nil {
			}
			p.mu.Unlock()
			if opening != want {
				t.Errorf("%d wait: %d connections are opened, want %d", waiting, opening, want)
			}
			p.release(c, 0, true, knownNow{})
		})
	}
}

func TestABarredPoolGivesNoConnections(t *testing.T) {
	withPool(t, Config{Connections: 1}, func(t *testing.T, p *pool, _ *dials) {
		c := mustAcquire(t, p)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, fail := p.acquire(t.Context(), time.Time{}); fail != silence {
					t.Errorf("got %v", fail)
				}
			})
		}
		synctest.Wait()
		p.bar(silence)
		wg.Wait()
		for _, acquire := range []func(context.Context, time.Time) (*conn, *Failure){p.acquire, p.acquireFresh} {
			if _, fail := acquire(t.Context(), time.Time{}); fail != silence {
				t.Errorf("got %v", fail)
			}
		}
		p.release(c, 0, true, knownNow{})
		p.unbar()
		p.release(mustAcquire(t, p), 0, true, knownNow{})
	})
}

// The backend takes fewer connections than configured: the limit is halved, and grows
// again while nothing speaks against it.
func TestTheLimitIsHalvedAndEases(t *testing.T) {
	withPool(t, Config{Connections: 32}, func(t *testing.T, p *pool, d *dials) {
		c := mustAcquire(t, p)
		d.refuse = d.failure(StageBanner, KindReply, nil)
		d.refuse.Reply = &Reply{Code: 421}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { _, _ = p.acquire(ctx, time.Time{}) })
		}
		time.Sleep(1500 * time.Millisecond) // the first refusals, and no second ones
		cancel()
		wg.Wait()
		d.mu.Lock()
		if d.limit != 16 || d.heard == 0 {
			t.Errorf("limit %d after %d refusals", d.limit, d.heard)
		}
		d.mu.Unlock()
		p.release(c, 0, true, knownNow{})
		for range 20 {
			time.Sleep(easeEvery)
			p.hasRoom()
		}
		var h Health
		if p.health(&h); h.Limit != 32 {
			t.Errorf("limit %d after twenty minutes", h.Limit)
		}
	})
}

func TestAFailedDialGoesToAWaiter(t *testing.T) {
	withPool(t, Config{}, func(t *testing.T, p *pool, d *dials) {
		d.refuse = d.failure(StageConnect, KindNoConnection, errors.New("refused"))
		if _, fail := p.acquire(t.Context(), time.Time{}); fail != d.refuse || d.heard != 1 {
			t.Errorf("got %v, heard %d", fail, d.heard)
		}
	})
}

func TestReservedPlaces(t *testing.T) {
	withPool(t, Config{Connections: 1}, func(t *testing.T, p *pool, d *dials) {
		c := mustAcquire(t, p)
		if p.reserve(false) || p.hasRoom() {
			t.Error("there is no room")
		}
		p.markLate(c)
		if !p.reserve(true) || !c.aborted.Load() {
			t.Error("the overdue probe does not make room")
		}
		p.release(c, 0, true, knownNow{})
		fresh, _ := d.open(t.Context(), time.Time{})
		p.fill(fresh)
		if again := mustAcquire(t, p); again != fresh {
			t.Error("the connection is not used")
		} else {
			p.release(again, 0, true, knownNow{})
		}
		if p.close(false) != true {
			t.Error("a pool with nothing under way stays open")
		}
		if _, fail := p.acquire(t.Context(), time.Time{}); fail == nil || fail.Kind != KindClosed {
			t.Errorf("got %v", fail)
		}
	})
}

func TestAPoolInUseIsNotClosed(t *testing.T) {
	withPool(t, Config{}, func(t *testing.T, p *pool, _ *dials) {
		c := mustAcquire(t, p)
		if p.close(false) {
			t.Error("closed")
		}
		p.release(c, 0, true, knownNow{})
	})
}
