// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rcptgate/kit/steady"
	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/store/ram"
	"rcptgate/store/storetest"
)

// TestGatewayAheadOfTime: what a gateway says whose clock is twenty days ahead neither
// refuses here nor takes away what is known.
func TestGatewayAheadOfTime(t *testing.T) {
	t.Parallel()
	s := newSharers(t)
	const off = 20 * 24 * time.Hour
	ahead := New(ram.New(ram.Options{Entries: 1000, Now: func() time.Time { return s.now().Add(off) }}), s.hub.Gateway())
	ahead.Join(patientTiming())
	t.Cleanup(func() { _ = ahead.Close() })
	a := s.open()
	a.know(someone, s.valid())
	s.turn(2 * time.Minute)
	const other = "other@b.example"
	for _, key := range []string{someone, other} {
		ahead.Learn(key, s.now().Add(off), func(store.Record) store.Record { return storetest.Unknown(key, s.now().Add(off)) })
	}
	a.expect(t, other, store.None, "")
	a.expect(t, someone, store.Valid, "ram")
	a.know(other, s.valid())
	a.expect(t, other, store.Valid, "ram")
}

// TestLearntInTheFuture: an answer that was dated by a clock that was wrong does not serve,
// and does not take the place of one that does.
func TestLearntInTheFuture(t *testing.T) {
	t.Parallel()
	place := below()
	m := New(newRAM(), place)
	defer m.Close()
	now := time.Now()
	const year = 365 * 24 * time.Hour
	m.Learn(someone, now, func(store.Record) store.Record { return storetest.Unknown(someone, now.Add(year)) })
	if rec, _, ok := m.Recall(context.Background(), someone); ok {
		t.Errorf("known: %+v", rec.Standing)
	}
	m.Learn(someone, now, func(store.Record) store.Record { return storetest.Valid(now) })
	m.Learn(someone, now, func(store.Record) store.Record { return storetest.Unknown(someone, now.Add(year)) })
	if rec, _, ok := m.Recall(context.Background(), someone); !ok || rec.Standing.Class != store.Valid {
		t.Errorf("the valid answer became %+v", rec.Standing)
	}
	const below = "below@b.example"
	_ = place.Put(context.Background(), below, storetest.Unknown(below, now.Add(year)))
	if rec, _, ok := m.Recall(context.Background(), below); ok {
		t.Errorf("known from below: %+v", rec.Standing)
	}
}

// TestLearntDuringAJump: while the machine's clock is a year off for seconds, what is learnt
// gets the date that it would have had.
func TestLearntDuringAJump(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	for _, off := range []time.Duration{year, -year} {
		began := time.Now()
		var jump atomic.Int64
		wall := func() time.Time { return time.Now().Add(time.Duration(jump.Load())) }
		machine := steady.Of(func() (time.Time, time.Duration) { return wall(), time.Since(began) })
		m := New(ram.New(ram.Options{Entries: 1000, Clock: machine}))
		defer m.Close()
		jump.Store(int64(off))
		m.Learn(someone, wall(), func(store.Record) store.Record { return storetest.Unknown(someone, wall()) })
		jump.Store(0)
		rec, _, ok := m.Recall(context.Background(), someone)
		if learnt := rec.Standing.Learnt; !ok || rec.Standing.Class != store.Unknown || learnt.Sub(began).Abs() > time.Minute {
			t.Errorf("a jump of %v: %v, %+v", off, ok, rec.Standing)
		}
	}
}

// TestLimits: no answer lives longer than the configuration says, whatever it says itself.
func TestLimits(t *testing.T) {
	t.Parallel()
	s := newSharers(t)
	a := s.open(s.disk(testkit.Dir(t)))
	a.Limit(store.Limits{store.Valid: 31 * 24 * time.Hour, store.Unknown: time.Hour})
	long := storetest.Unknown(someone, s.now())
	long.Standing.Expire = s.now().Add(9 * 365 * 24 * time.Hour)
	a.know(someone, long)
	s.turn(30 * time.Minute)
	if rec, _, ok := a.Recall(context.Background(), someone); !ok || rec.Expire().Sub(s.now()) > 30*time.Minute {
		t.Errorf("%v, it ends after %v", ok, rec.Expire().Sub(s.now()))
	}
	s.turn(31 * time.Minute)
	a.expect(t, someone, store.None, "")
}

// TestJoiningAnOlderForget: a gateway that joins hears of forgets from before. What it
// learnt after them stays; what it learnt before goes. The log says which gateway forgot what.
func TestJoiningAnOlderForget(t *testing.T) {
	t.Parallel()
	for name, match := range map[string]store.Pattern{"everything": {}, "domain": {Domain: "b.example"}, "address": {Address: someone}} {
		t.Run(name, func(t *testing.T) {
			s := newSharers(t)
			dir := testkit.Dir(t)
			alone := unhurried(New(ram.New(ram.Options{Entries: 1000, Now: s.now}), s.disk(dir)))
			know := func(key string) {
				alone.Learn(key, s.now(), func(store.Record) store.Record { return s.valid() })
			}
			const old = "old@b.example"
			know(old)
			if match.Address != "" {
				know(someone)
			}
			s.turn(24 * time.Hour)
			first := s.open()
			first.way.Name = "mx1.example.org"
			if _, err := first.Forget(context.Background(), match); err != nil {
				t.Fatal(err)
			}
			s.turn(24 * time.Hour)
			for i := range 300 {
				know(fmt.Sprintf("u%d@b.example", i))
			}
			know(someone)
			_ = alone.Close()
			s.turn(time.Hour)

			var log bytes.Buffer
			way := s.hub.Gateway()
			joined := unhurried(New(ram.New(ram.Options{Entries: 1000, Now: s.now}), way, s.disk(dir)))
			joined.shared.orders.log = slog.New(slog.NewTextHandler(&log, nil))
			joined.Join(patientTiming())
			g := &sharer{Tiers: joined, hub: s.hub, way: way, clock: &s.clock}
			g.settled(t)
			g.expect(t, someone, store.Valid, "disk")
			g.expect(t, "u7@b.example", store.Valid, "disk")
			if match.Address == "" {
				g.expect(t, old, store.None, "")
			}
			_ = joined.Close()
			line := log.String()
			for _, part := range []string{"forgotten on another gateway", "mx1.example.org", match.String(), "records="} {
				if !strings.Contains(line, part) {
					t.Errorf("the log does not say %q: %s", part, line)
				}
			}
		})
	}
}

// TestForgetOfALivingGateway voids what was learnt a moment after it by a clock that is
// ahead.
func TestForgetOfALivingGateway(t *testing.T) {
	t.Parallel()
	s := newSharers(t)
	a, b := s.open(), s.open(s.disk(testkit.Dir(t)))
	s.turn(time.Minute)
	ahead := storetest.Valid(s.now().Add(time.Minute))
	b.know(someone, ahead)
	if _, err := a.Forget(context.Background(), store.Pattern{Domain: "b.example"}); err != nil {
		t.Fatal(err)
	}
	if err := b.way.Exchange(); err != nil {
		t.Fatal(err)
	}
	b.settled(t)
	b.expect(t, someone, store.None, "")
}

// TestUseInRAMCounts: recipients that RAM alone answers for, as it does for those that
// are asked for most, survive a flood of others and a restart.
func TestUseInRAMCounts(t *testing.T) {
	t.Parallel()
	dir := testkit.Dir(t)
	open := func() *Tiers {
		m, err := Open(Config{Entries: 100_000, DiskEntries: 1000}, Options{State: dir, Disk: openDisk})
		if err != nil {
			t.Fatal(err)
		}
		return unhurried(m)
	}
	m, now, ctx := open(), time.Now(), context.Background()
	const used, flood = 400, 6000
	key := func(i int) string { return fmt.Sprintf("used%d@example.org", i) }
	for i := range used {
		learnValid(m, key(i), now)
		if _, source, ok := m.Recall(ctx, key(i)); !ok || source != "ram" {
			t.Fatalf("%s: %v from %s", key(i), ok, source)
		}
	}
	wait(t, "the places are told", func() bool { return len(m.local.uses.queue) == 0 })
	for i := range flood {
		learnValid(m, fmt.Sprintf("user+%d@example.org", i), now)
	}
	wait(t, "the disk is full", func() bool { return m.local.places[0].Stats().Evicted >= flood-1000 })
	_ = m.Close()
	m = open()
	defer m.Close()
	left := 0
	for i := range used {
		if _, _, ok := m.Recall(ctx, key(i)); ok {
			left++
		}
	}
	if left < used {
		t.Errorf("%d of %d that are in use are left", left, used)
	}
}

// TestLimitsOfAReload: what is in RAM ends by the limits of a new configuration.
func TestLimitsOfAReload(t *testing.T) {
	t.Parallel()
	m := New(newRAM())
	defer m.Close()
	now := time.Now()
	long := storetest.Unknown(someone, now)
	long.Standing.Expire = now.Add(24 * time.Hour)
	m.Learn(someone, now, func(store.Record) store.Record { return long })
	m.Limit(store.Limits{store.Unknown: time.Hour})
	wait(t, "it ends earlier", func() bool {
		rec, _, ok := m.Recall(context.Background(), someone)
		return ok && rec.Expire().Before(now.Add(2*time.Hour))
	})
}
