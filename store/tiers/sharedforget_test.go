// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/store/ram"
	"rcptgate/store/storetest"
)

// TestForgetIsToldOnce has each gateway carry out an order once, across restarts too.
func TestForgetIsToldOnce(t *testing.T) {
	t.Parallel()
	s := newSharers(t)
	dirs := []string{testkit.Dir(t), testkit.Dir(t)}
	a, b := s.open(s.disk(dirs[0])), s.open(s.disk(dirs[1]))
	match := store.Pattern{Domain: "b.example"}
	a.know(someone, s.valid())
	b.expect(t, someone, store.Valid, "memcached")
	if _, err := a.Forget(context.Background(), match); err != nil {
		t.Fatal(err)
	}
	a.expect(t, someone, store.None, "")
	b.expect(t, someone, store.Valid, "ram") // until it exchanges
	for range 3 {
		if err := b.way.Exchange(); err != nil {
			t.Fatal(err)
		}
		if err := a.way.Exchange(); err != nil {
			t.Fatal(err)
		}
		b.settled(t)
	}
	b.expect(t, someone, store.None, "")
	for name, g := range map[string]*sharer{"that forgot": a, "that was told": b} {
		if len(g.told) != 1 || g.told[0] != match || g.again != 1 {
			t.Errorf("gateway %s reported %v to its first subscriber, %d forgets to its second", name, g.told, g.again)
		}
	}
	s.turn(2 * time.Second)
	a.know(someone, s.valid()) // learnt anew
	b.expect(t, someone, store.Valid, "memcached")
	for i, g := range []*sharer{a, b} {
		_ = g.Close()
		g = s.open(s.disk(dirs[i]))
		g.settled(t)
		if len(g.told) != 0 {
			t.Errorf("after a restart gateway %d told its probes of %v", i, g.told)
		}
		g.expect(t, someone, store.Valid, "memcached")
		s.hub.Drop(someone)
		g.Tiers.local.ram.ForgetAll([]store.Tombstone{{}})
		g.expect(t, someone, store.Valid, "disk")
	}
}

// TestForgetUnpublished says that no other gateway knows, and makes up for it.
func TestForgetUnpublished(t *testing.T) {
	t.Parallel()
	s := newSharers(t)
	dir := testkit.Dir(t)
	a, b := s.open(s.disk(dir)), s.open()
	a.know(someone, s.valid())
	b.expect(t, someone, store.Valid, "memcached")
	s.hub.SetDown(true)
	if _, err := a.Forget(context.Background(), store.Pattern{Address: someone}); !errors.Is(err, store.ErrUnpublished) {
		t.Errorf("got %v", err)
	}
	a.expect(t, someone, store.None, "")
	b.expect(t, someone, store.Valid, "ram")
	_ = a.Close()
	s.hub.SetDown(false)
	s.hub.Lose()
	a = s.open(s.disk(dir)) // which reports it
	if err := b.way.Exchange(); err != nil {
		t.Fatal(err)
	}
	b.settled(t)
	b.expect(t, someone, store.None, "")
	a.expect(t, someone, store.None, "")
}

// TestOrdersLost: when all lists of what was forgotten are lost, what keeps mail out is
// asked again, and mailboxes known to exist stay.
func TestOrdersLost(t *testing.T) {
	t.Parallel()
	s := newSharers(t)
	dir := testkit.Dir(t)
	a := s.open(s.disk(dir))
	for i := range 50 {
		a.know(fmt.Sprintf("no%d@b.example", i), storetest.Unknown("x", s.now()))
		a.know(fmt.Sprintf("full%d@b.example", i), storetest.Full("x", s.now()))
		a.know(fmt.Sprintf("u%d@b.example", i), s.valid())
	}
	wait(t, "everything is written", func() bool { return a.local.places[0].Stats().Entries == 150 })
	s.turn(2 * time.Second)
	s.hub.Lose()
	if err := a.way.Exchange(); err != nil {
		t.Fatal(err)
	}
	a.settled(t)
	check := func(where string) {
		t.Helper()
		for i := range 50 {
			if class, from := a.recall(fmt.Sprintf("no%d@b.example", i)); class != store.None {
				t.Fatalf("%s: %v is still known by %s", where, class, from)
			}
			for _, name := range []string{"full", "u"} {
				rec, _, ok := a.Recall(context.Background(), fmt.Sprintf("%s%d@b.example", name, i))
				if !ok || rec.Standing.Class != store.Valid || rec.Transient.Class != store.None {
					t.Fatalf("%s: %s%d is %+v", where, name, i, rec)
				}
			}
		}
	}
	check("ram")
	wait(t, "they are gone from the disk", func() bool { return a.local.places[0].Stats().Entries == 100 })
	_ = a.Close()
	a = s.open(s.disk(dir))
	check("disk")
}

// TestManyForgets sends a gateway thousands of orders at once: none of what they are
// about is served or comes back.
func TestManyForgets(t *testing.T) {
	t.Parallel()
	s := newSharers(t)
	a, b := s.open(), s.open(s.disk(testkit.Dir(t)))
	const n = 900
	name := func(i int) string { return fmt.Sprintf("u%d@d%d.example", i, i%3) }
	for i := range n {
		b.know(name(i), s.valid())
	}
	s.turn(time.Second)
	for i := range n / 2 {
		if _, err := a.Forget(context.Background(), store.Pattern{Address: name(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Forget(context.Background(), store.Pattern{Domain: "d2.example"}); err != nil {
		t.Fatal(err)
	}
	if err := b.way.Exchange(); err != nil {
		t.Fatal(err)
	}
	for i := range n { // not believed while it is being carried out
		if class, from := b.recall(name(i)); from != "ram" && class != store.None && (i < n/2 || i%3 == 2) {
			t.Fatalf("%s: %v from %s", name(i), class, from)
		}
	}
	b.settled(t)
	for i := range n {
		want := store.Valid
		if i < n/2 || i%3 == 2 {
			want = store.None
		}
		if class, from := b.recall(name(i)); class != want {
			t.Fatalf("%s: %v from %s, want %v", name(i), class, from, want)
		}
	}
}

// stuck is a place that takes its time to forget.
type stuck struct {
	store.Store
	begun, goOn chan struct{}
}

func (s *stuck) Forget(ctx context.Context, t store.Tombstone) (int, error) {
	s.begun <- struct{}{}
	<-s.goOn
	return s.Store.Forget(ctx, t)
}

// TestNotBelievedWhileForgetting: what a place still has of something that is being
// forgotten, here or by order of another gateway, is neither served nor built upon.
func TestNotBelievedWhileForgetting(t *testing.T) {
	t.Parallel()
	for _, foreign := range []bool{false, true} {
		s := newSharers(t)
		place := &stuck{Store: ram.New(ram.Options{Entries: 1000, Now: s.now}), begun: make(chan struct{}), goOn: make(chan struct{})}
		a, b := s.open(place), s.open()
		a.know(someone, s.valid())
		s.turn(time.Second)
		ordered := make(chan error, 1)
		if foreign {
			_, err := b.Forget(context.Background(), store.Pattern{Domain: "b.example"})
			if err == nil {
				err = a.way.Exchange()
			}
			ordered <- err
		} else {
			go func() {
				_, err := a.Forget(context.Background(), store.Pattern{Domain: "b.example"})
				ordered <- err
			}()
		}
		<-place.begun
		a.expect(t, someone, store.None, "")
		s.turn(time.Second)
		a.Learn(someone, s.now(), func(old store.Record) store.Record {
			if !old.IsZero() {
				t.Errorf("foreign %v: learning was given %+v", foreign, old)
			}
			return storetest.Unknown(someone, s.now())
		})
		close(place.goOn)
		if err := <-ordered; err != nil {
			t.Fatal(err)
		}
		a.settled(t)
		if class, from := a.recall(someone); class == store.Valid {
			t.Errorf("foreign %v: it is back from %s", foreign, from)
		}
	}
}

// TestForgottenBeforeTheSharedPlaceKnows: an order of another gateway has been carried
// out here, and not yet in the shared place, which has the answer still; that this
// gateway knows of a later order about something else changes nothing.
func TestForgottenBeforeTheSharedPlaceKnows(t *testing.T) {
	t.Parallel()
	s := newSharers(t)
	a, b := s.open(), s.open()
	b.know(someone, s.valid())
	s.turn(time.Second)
	if _, err := b.Forget(context.Background(), store.Pattern{Address: someone}); err != nil {
		t.Fatal(err)
	}
	s.turn(time.Second)
	s.hub.SetDown(true)
	if _, err := a.Forget(context.Background(), store.Pattern{Address: "other@b.example"}); !errors.Is(err, store.ErrUnpublished) {
		t.Fatal(err)
	}
	s.hub.SetDown(false)
	a.way.BeforeKnown = func() {
		for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); time.Sleep(time.Millisecond) {
			a.expect(t, someone, store.None, "")
		}
	}
	if err := a.way.Exchange(); err != nil {
		t.Fatal(err)
	}
	a.settled(t)
	a.expect(t, someone, store.None, "")
}

// TestTiersClocksApart: a minute between two gateways loses no answer that a probe which
// began after the forget was heard of has found, on either.
func TestTiersClocksApart(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{time.Minute, -time.Minute} {
		s := newSharers(t)
		way := s.hub.Gateway()
		other := New(ram.New(ram.Options{Entries: 1000, Now: func() time.Time { return s.now().Add(off) }}), way)
		other.Join(patientTiming())
		t.Cleanup(func() { _ = other.Close() })
		a := s.open()
		a.know(someone, s.valid())
		if _, source, ok := other.Recall(context.Background(), someone); !ok || source != "memcached" {
			t.Fatalf("%v: the other gateway knows it from %q, %v", off, source, ok)
		}
		s.turn(time.Second)
		if _, err := other.Forget(context.Background(), store.Pattern{}); err != nil {
			t.Fatal(err)
		}
		if err := a.way.Exchange(); err != nil {
			t.Fatal(err)
		}
		a.settled(t)
		a.expect(t, someone, store.None, "")
		s.turn(time.Second)
		a.know(someone, s.valid())
		a.expect(t, someone, store.Valid, "ram")
		if _, source, ok := other.Recall(context.Background(), someone); !ok || source != "memcached" {
			t.Errorf("%v: what was learnt after the forget is known from %q, %v", off, source, ok)
		}
	}
}
