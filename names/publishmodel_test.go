// SPDX-License-Identifier: BSD-2-Clause

package names

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/store"
)

// storedNames are published names in a map, with failures that pass.
type storedNames struct {
	store.Names
	mu      sync.Mutex
	values  map[string]string
	failing map[string]int // failures in a row
	rate    float64        // of failures
	next    store.Survey   // what the next survey shows
	delay   time.Duration  // of a write
	uneven  bool           // some writes take longer
	refused int            // removals to fail
	// The write of "held" tells met, and waits for held to be closed.
	held, met chan struct{}
}

func newStoredNames() *storedNames {
	return &storedNames{values: map[string]string{}, failing: map[string]int{}, next: store.Lost}
}

func (s *storedNames) fails(name string) error {
	if rand.Float64() < s.rate && s.failing[name] < attempts-1 { //nolint:gosec // chance is enough
		s.failing[name]++
		return errors.New("busy")
	}
	s.failing[name] = 0
	return nil
}

func (s *storedNames) Publish(_ context.Context, name string, n store.Name) error {
	delay := s.delay
	if s.uneven && rand.IntN(50) == 0 { //nolint:gosec // chance is enough
		delay += 5 * time.Millisecond
	}
	time.Sleep(delay)
	if s.held != nil && name == "held" {
		s.met <- struct{}{}
		<-s.held
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fails(name); err != nil {
		return err
	}
	s.values[name] = n.Value
	return nil
}

func (s *storedNames) Find(_ context.Context, names []string) (map[string]store.Name, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[string]store.Name{}
	for _, name := range names {
		if value, ok := s.values[name]; ok {
			found[name] = store.Name{Value: value}
		}
	}
	return found, nil
}

func (s *storedNames) Withdraw(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused > 0 {
		s.refused--
		return errors.New("busy")
	}
	if err := s.fails(name); err != nil {
		return err
	}
	delete(s.values, name)
	return nil
}

func (s *storedNames) Survey(context.Context, string, time.Duration) (store.Survey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.next
	s.next = store.Intact
	return found, nil
}

func (*storedNames) Down() bool { return false }

func (s *storedNames) snapshot() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.values)
}

// TestWalkerCarried walks over databases that change on the way: it meets every name
// that they have all the time.
func TestWalkerCarried(t *testing.T) {
	t.Parallel()
	seeds := uint64(testkit.Rounds(15, 50))
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		rnd := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // to be repeated
		kept := [2]map[string]string{many(200), {"b1": "x", "b2": "x", "b3": "x"}}
		tables := [2]*database{newDatabase(t, nil), newDatabase(t, nil)}
		next := func() view {
			var v view
			for i, d := range tables {
				pairs := maps.Clone(kept[i])
				for range rnd.IntN(400) {
					pairs[fmt.Sprintf("other%d", rnd.IntN(10_000))] = "x"
				}
				d.set(t, pairs)
				v = append(v, d.Index())
			}
			return v
		}
		met, w, v := map[string]bool{}, walker{}, next()
		for {
			name, _, ok, more := w.next(v, 3)
			if !ok && !more {
				break
			}
			met[name] = true
			if rnd.IntN(20) == 0 {
				old := v
				v = next()
				w.carry(old, v)
			}
		}
		for _, pairs := range kept {
			for name := range pairs {
				if !met[name] {
					t.Fatalf("seed %d: %s missed", seed, name)
				}
			}
		}
	}
}

// TestPublisherLateWrite holds a write up while its name is removed: the name stays out.
func TestPublisherLateWrite(t *testing.T) {
	t.Parallel()
	names := newStoredNames()
	names.held, names.met = make(chan struct{}), make(chan struct{}, 1)
	opt := quick
	opt.Names, opt.Burst = names, 1000
	pairs := many(1000) // the round goes on meanwhile
	pairs["held"] = "x@example.org"
	d := newDatabase(t, pairs)
	p, _ := publish(t, opt, d)
	<-names.met
	delete(pairs, "held")
	d.set(t, pairs)
	time.Sleep(200 * time.Millisecond) // many glances at the table
	close(names.held)
	testkit.Eventually(t, "only what is left is published", func() bool {
		return p.Status().State == "up to date" && maps.Equal(names.snapshot(), pairs)
	})
}

// TestPublisherRemoves holds that a memcached which is slow for a while keeps no name that was removed.
func TestPublisherRemoves(t *testing.T) {
	t.Parallel()
	names := newStoredNames()
	names.refused = removals - 1
	opt := quick
	opt.Names = names
	d := newDatabase(t, map[string]string{"kept": "x@example.org", "gone": "y@example.org"})
	p, _ := publish(t, opt, d)
	testkit.Eventually(t, "both are published", func() bool { return len(names.snapshot()) == 2 })
	d.set(t, map[string]string{"kept": "x@example.org"})
	untilPublished(t, names, map[string]string{"kept": "x@example.org"}, "gone")
	testkit.Eventually(t, "rest", func() bool { st := p.Status(); return st.State == "up to date" && st.Of == 1 })
	if st := p.Status(); st.Removed != 1 || st.Failed != 0 {
		t.Errorf("%+v", st)
	}
}

// TestPublisherModel changes databases at random while rounds are under way: in the end
// what is published is what they hold.
func TestPublisherModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // to be repeated
		names := newStoredNames()
		names.rate, names.uneven = 0.05, true
		opt := quick
		// Without renewals, which would put right what went wrong, or with many.
		opt.Names, opt.Life, opt.Glance = names, []time.Duration{time.Hour, time.Second}[seed%2], time.Millisecond
		opt.Rate, opt.Burst = 20_000, 20_000
		pairs := [2]map[string]string{many(rnd.IntN(2000)), many(rnd.IntN(100))}
		tables := [2]*database{newDatabase(t, pairs[0]), newDatabase(t, pairs[1])}
		p, kill := publish(t, opt, tables[0], tables[1])
		for range 30 {
			i := rnd.IntN(2)
			for range rnd.IntN(300) {
				name := fmt.Sprintf("name%06d", rnd.IntN(3000))
				if rnd.IntN(2) == 0 {
					delete(pairs[i], name)
				} else {
					pairs[i][name] = fmt.Sprintf("v%d@example.org", rnd.IntN(100))
				}
			}
			tables[i].set(t, pairs[i])
			time.Sleep(time.Duration(rnd.IntN(20)) * time.Millisecond)
		}
		want := maps.Clone(pairs[1])
		maps.Copy(want, pairs[0])
		testkit.Eventually(t, "what is published is what the tables hold", func() bool { return maps.Equal(names.snapshot(), want) })
		if st := p.Status(); st.Failed != 0 {
			t.Errorf("%+v", st)
		}
		kill()
	}
}
