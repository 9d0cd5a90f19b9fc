// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate"
	"rcptgate/store"
	"rcptgate/store/ram"
	"rcptgate/store/storetest"
	"rcptgate/store/tiers"
)

// gateways are several worlds with the same backends and one hub between them, in time
// that only sleeping moves.
type gateways struct {
	t      *testing.T
	hub    *storetest.Hub
	worlds []*world
	tiers  []*tiers.Tiers
	ways   []*storetest.Gateway
}

// inGateways runs f with n gateways.
func inGateways(t *testing.T, n int, between func(*storetest.Gateway) store.Shared, f func(t *testing.T, g *gateways)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := &gateways{t: t, hub: storetest.NewHub(time.Now)}
		for i := range n {
			way := g.hub.Gateway()
			var place store.Shared = way
			if between != nil {
				place = between(way)
			}
			memory := tiers.New(ram.New(ram.Options{Entries: 10_000, Now: time.Now}), place)
			memory.Join(tiers.DefaultTiming())
			w := newWorld(t, func(w *world) {
				w.opt.Memory = memory
				if i > 0 {
					w.backends = g.worlds[0].backends
				}
			})
			memory.OnForget(w.state.Forget)
			g.worlds, g.tiers, g.ways = append(g.worlds, w), append(g.tiers, memory), append(g.ways, way)
			t.Cleanup(func() { _ = memory.Close() })
		}
		time.Sleep(2 * time.Second) // a hub without a list: refusals of this second would not be believed
		f(t, g)
		for _, w := range g.worlds {
			w.state.Close() // before the memory
		}
	})
}

// exchange lets every gateway know what the others have forgotten.
func (g *gateways) exchange() {
	for range 2 {
		for _, way := range g.ways {
			if err := way.Exchange(); err != nil {
				g.t.Fatal(err)
			}
		}
	}
	time.Sleep(10 * time.Millisecond)
	settle()
}

func TestSharedOneProbeForAll(t *testing.T) {
	inGateways(t, 3, nil, func(t *testing.T, g *gateways) {
		b := g.worlds[0].backend(at1)
		b.all(good.late(5 * time.Second)) // a tarpit
		var all sync.WaitGroup
		for i := range 300 {
			all.Go(func() {
				v := g.worlds[i%3].ask(user)
				if v.Code != 250 || v.Source != "probe" && v.Source != "memcached" && v.Source != "ram" {
					t.Errorf("got %+v", v)
				}
			})
		}
		all.Wait()
		settle()
		if asked, tests := b.counts(); asked != 1 || tests != 1 {
			t.Errorf("300 questions made %d probes and %d accept-all tests, want 1 and 1", asked, tests)
		}
		elsewhere := uint64(0)
		for _, w := range g.worlds {
			elsewhere += w.state.Stats().Elsewhere
		}
		if elsewhere != 2 {
			t.Errorf("%d gateways were told by another, want 2", elsewhere)
		}
	})
}

func TestSharedRefusalServesAll(t *testing.T) {
	inGateways(t, 3, nil, func(t *testing.T, g *gateways) {
		b := g.worlds[0].backend(at1)
		g.worlds[0].expect(g.worlds[0].ask(user), "reject 550 5.1.1 unknown-user probe")
		g.worlds[1].expect(g.worlds[1].ask(user), "reject 550 5.1.1 unknown-user memcached")
		g.worlds[1].expect(g.worlds[1].ask(user), "reject 550 5.1.1 unknown-user ram")
		g.worlds[2].expect(g.worlds[2].ask(user), "reject 550 5.1.1 unknown-user memcached")
		if asked, _ := b.counts(); asked != 1 {
			t.Errorf("%d probes", asked)
		}
		b.say(user, good) // a new mailbox: usable on all within the refusal's life
		time.Sleep(16 * time.Minute)
		for _, w := range g.worlds {
			w.expect(w.ask(user), "continue 250 - valid -")
		}
		if asked, _ := b.counts(); asked != 2 {
			t.Errorf("%d probes", asked)
		}
	})
}

// A holder that cannot find out lets the next one try.
func TestSharedHolderFails(t *testing.T) {
	inGateways(t, 3, nil, func(t *testing.T, g *gateways) {
		b := g.worlds[0].backend(at1)
		b.all(down.late(time.Second))
		var all sync.WaitGroup
		for _, w := range g.worlds {
			all.Go(func() { w.expect(w.ask(user), "tempfail 451 4.4.1 unreachable probe") })
		}
		all.Wait()
		settle()
		if asked, _ := b.counts(); asked > 6 || asked < 3 { // the fallback sender included
			t.Errorf("%d probes", asked)
		}
	})
}

func TestSharedRefreshOnce(t *testing.T) {
	inGateways(t, 3, nil, func(t *testing.T, g *gateways) {
		b := g.worlds[0].backend(at1)
		b.all(good)
		for period := range 4 {
			for range 50 {
				for _, w := range g.worlds {
					w.expect(w.ask(user), "continue 250 - valid -")
				}
				time.Sleep(15 * time.Minute) // half a day
			}
			settle()
			if asked, _ := b.counts(); asked != 1+(period+1)/2 {
				t.Fatalf("after %d half days %d probes", period+1, asked)
			}
		}
	})
}

// TestSharedDemotion has refreshes on three gateways add up to one demotion, as far
// apart as on one.
func TestSharedDemotion(t *testing.T) {
	inGateways(t, 3, nil, func(t *testing.T, g *gateways) {
		b := g.worlds[0].backend(at1)
		b.all(good)
		for _, w := range g.worlds {
			w.expect(w.ask(user), "continue 250 - valid -")
		}
		settle()
		time.Sleep(day + time.Hour)
		b.all(unknown)
		before, _ := b.counts()
		start, demoted := time.Now(), time.Duration(0)
		for i := 0; demoted == 0 && time.Since(start) < day; i++ {
			w := g.worlds[rand.IntN(3)]
			if v := w.ask(user); v.Code == 550 {
				demoted = time.Since(start)
			}
			settle()
			time.Sleep(2 * time.Minute)
		}
		asked, _ := b.counts()
		asked -= before
		if demoted < doubtSpan || demoted > doubtSpan+20*time.Minute {
			t.Errorf("demoted after %v", demoted)
		}
		if most := int(demoted/refreshApart) + 1; asked > most {
			t.Errorf("%d refreshes in %v, want at most %d: ten minutes apart in all", asked, demoted, most)
		}
		time.Sleep(time.Minute)
		for _, w := range g.worlds {
			w.expect(w.ask(user), "reject 550 5.1.1 unknown-user -")
		}
	})
}

// TestSharedConfirmationsAddUp needs one confirmation of each of three gateways.
func TestSharedConfirmationsAddUp(t *testing.T) {
	inGateways(t, 3, nil, func(t *testing.T, g *gateways) {
		b := g.worlds[0].backend(at1)
		b.all(good)
		g.worlds[0].ask(user)
		settle()
		time.Sleep(day + time.Hour)
		b.all(unknown)
		for i, w := range g.worlds {
			w.expect(w.ask(user), "continue 250 - valid -")
			settle()
			rec, _, _ := g.tiers[i].Recall(context.Background(), user)
			if want := i + 1; rec.Doubt.Count != want && i < 2 {
				t.Fatalf("after %d gateways: doubt %+v", want, rec.Doubt)
			}
			time.Sleep(3*time.Hour + time.Minute)
		}
		for _, w := range g.worlds {
			w.expect(w.ask(user), "reject 550 5.1.1 unknown-user -")
		}
	})
}

// TestSharedClasses has one gateway find out how a server says unknown, for all.
func TestSharedClasses(t *testing.T) {
	inGateways(t, 2, nil, func(t *testing.T, g *gateways) {
		b := g.worlds[0].backend(at1)
		b.all(said{code: 553, enhanced: "5.7.1", text: "κανείς %s"})
		b.say(user, good)
		b.takesMadeUp(said{code: 553, enhanced: "5.7.1", text: "κανείς %s"})
		g.worlds[0].ask(user)
		settle()
		g.worlds[1].expect(g.worlds[1].ask("absent@example.com"), "reject 553 5.7.1 unknown-user probe")
		if _, tests := b.counts(); tests != 1 || b.controls != 1 {
			t.Errorf("%d made-up recipients, %d control questions", tests, b.controls)
		}
	})
}

// TestSharedAcceptAll: one gateway's finding serves the others.
func TestSharedAcceptAll(t *testing.T) {
	inGateways(t, 3, nil, func(t *testing.T, g *gateways) {
		b := g.worlds[0].backend(at1)
		b.all(good)
		b.takesMadeUp(good)
		g.worlds[0].ask(user)
		settle()
		for i, w := range g.worlds {
			w.expect(w.ask(fmt.Sprintf("other%d@example.com", i)), "continue 250 - accept-all -")
		}
		settle()
		if asked, tests := b.counts(); asked != 1 || tests != 1 {
			t.Errorf("%d probes and %d tests", asked, tests)
		}
	})
}

// TestSharedAcceptAllTestOnce: gateways that come upon the question at the same moment
// test once, and take back what meant nothing.
func TestSharedAcceptAllTestOnce(t *testing.T) {
	inGateways(t, 3, nil, func(t *testing.T, g *gateways) {
		b := g.worlds[0].backend(at1)
		b.all(good.late(time.Second))
		b.takesMadeUp(good.late(2 * time.Second))
		var all sync.WaitGroup
		for i, w := range g.worlds {
			all.Go(func() { w.ask(fmt.Sprintf("u%d@example.com", i)) })
		}
		all.Wait()
		time.Sleep(5 * time.Second)
		settle()
		if _, tests := b.counts(); tests != 1 {
			t.Errorf("%d tests", tests)
		}
		for i, memory := range g.tiers {
			if rec, _, ok := memory.Recall(context.Background(), fmt.Sprintf("u%d@example.com", i)); ok {
				t.Errorf("gateway %d keeps %+v", i, rec)
			}
		}
	})
}

// TestSharedForget: what one gateway forgets the others ask again, and neither their
// RAM nor a probe begun before brings it back.
func TestSharedForget(t *testing.T) {
	inGateways(t, 3, nil, func(t *testing.T, g *gateways) {
		b := g.worlds[0].backend(at1)
		for _, w := range g.worlds {
			w.expect(w.ask(user), "reject 550 5.1.1 unknown-user -")
		}
		b.say(user, good)
		if _, err := g.tiers[0].Forget(t.Context(), store.Pattern{Address: user}); err != nil {
			t.Fatal(err)
		}
		g.exchange()
		for _, w := range g.worlds {
			w.expect(w.ask(user), "continue 250 - valid -")
		}
		if asked, _ := b.counts(); asked != 2 {
			t.Errorf("%d probes, want 2", asked)
		}
	})
}

func TestSharedForgetDuringProbe(t *testing.T) {
	inGateways(t, 2, nil, func(t *testing.T, g *gateways) {
		b := g.worlds[0].backend(at1)
		b.all(unknown.late(5 * time.Second))
		asked := make(chan struct{})
		go func() { g.worlds[1].ask(user); close(asked) }()
		time.Sleep(time.Second)
		if _, err := g.tiers[0].Forget(t.Context(), store.Pattern{Domain: "example.com"}); err != nil {
			t.Fatal(err)
		}
		b.all(good)
		g.exchange() // while the other's probe is in progress
		<-asked
		settle()
		for _, w := range g.worlds {
			w.expect(w.ask(user), "continue 250 - valid -")
		}
	})
}

// The same, but the other gateway hears of it only after its probe has ended: what it
// has put must not be believed by the one that forgot.
func TestSharedForgetUnheard(t *testing.T) {
	inGateways(t, 2, nil, func(t *testing.T, g *gateways) {
		b := g.worlds[0].backend(at1)
		b.all(unknown.late(5 * time.Second))
		asked := make(chan struct{})
		go func() { g.worlds[1].ask(user); close(asked) }()
		time.Sleep(time.Second)
		if _, err := g.tiers[0].Forget(t.Context(), store.Pattern{Address: user}); err != nil {
			t.Fatal(err)
		}
		<-asked
		b.all(good)
		g.worlds[0].expect(g.worlds[0].ask(user), "continue 250 - valid probe")
		g.exchange()
		g.worlds[1].expect(g.worlds[1].ask(user), "continue 250 - valid memcached")
	})
}

// hanging is a shared place whose servers take everything and answer nothing; each
// question costs what the budget, and 40 ms, allow.
type hanging struct {
	*storetest.Gateway
	mu     sync.Mutex
	hangs  bool
	waited []time.Duration
}

func (h *hanging) hang(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.hangs {
		return nil
	}
	left := rcptgate.BudgetOf(ctx).Left(40 * time.Millisecond)
	if left <= 0 {
		return store.ErrBudget
	}
	h.mu.Unlock()
	time.Sleep(left)
	h.mu.Lock()
	rcptgate.BudgetOf(ctx).Spend(left)
	h.waited = append(h.waited, left)
	return context.DeadlineExceeded
}

func (h *hanging) Get(ctx context.Context, key string) (store.Record, error) {
	if err := h.hang(ctx); err != nil {
		return store.Record{}, err
	}
	return h.Gateway.Get(ctx, key)
}

func (h *hanging) GetMany(ctx context.Context, keys []string) (map[string]store.Record, error) {
	if err := h.hang(ctx); err != nil {
		return nil, err
	}
	return h.Gateway.GetMany(ctx, keys)
}

func (h *hanging) Lease(ctx context.Context, key, route string) (func(), error) {
	if err := h.hang(ctx); err != nil {
		return nil, err
	}
	return h.Gateway.Lease(ctx, key, route)
}

func (h *hanging) Await(ctx context.Context, key, route string) (store.Record, bool, error) {
	if err := h.hang(ctx); err != nil {
		return store.Record{}, false, err
	}
	return h.Gateway.Await(ctx, key, route)
}

// TestSharedHangs holds the time that one answer loses to a memcached which hangs and
// has not been found dead: 50 ms, whatever the answer needs of it.
func TestSharedHangs(t *testing.T) {
	var places []*hanging
	inGateways(t, 1, func(way *storetest.Gateway) store.Shared {
		places = append(places, &hanging{Gateway: way})
		return places[0]
	}, func(t *testing.T, g *gateways) {
		w, h := g.worlds[0], places[0]
		w.backend(at1).all(good)
		w.backend(at1).say("no@example.com", unknown)
		w.expect(w.ask("old@example.com"), "continue 250 - valid probe")
		w.expect(w.ask("no@example.com"), "reject 550 5.1.1 unknown-user probe")
		settle()
		time.Sleep(2 * time.Minute)
		h.mu.Lock()
		h.hangs = true
		h.mu.Unlock()
		for _, c := range []struct{ recipient, want string }{
			{"new@example.com", "continue 250 - valid probe"},
			{"old@example.com", "continue 250 - valid ram"},
			{"no@example.com", "reject 550 5.1.1 unknown-user ram"},
			{"new@example.com", "continue 250 - valid ram"},
			{"new2@elsewhere.example", "continue 0 - not-routed -"},
		} {
			start := time.Now()
			w.expect(w.ask(c.recipient), c.want)
			if d := time.Since(start); d > 50*time.Millisecond {
				t.Errorf("%s: %v longer than without", c.recipient, d)
			}
			settle()
		}
		var all sync.WaitGroup // equal questions wait together, not one after the other
		start := time.Now()
		for range 100 {
			all.Go(func() { w.expect(w.ask("old@example.com"), "continue 250 - valid ram") })
		}
		all.Wait()
		if d := time.Since(start); d > 50*time.Millisecond {
			t.Errorf("100 equal questions: %v", d)
		}
	})
}

// While memcached is down nothing is asked of it, and everything goes on.
func TestSharedDown(t *testing.T) {
	inGateways(t, 2, nil, func(t *testing.T, g *gateways) {
		b := g.worlds[0].backend(at1)
		b.all(good)
		g.worlds[0].ask(user)
		settle()
		g.hub.SetDown(true)
		gets, puts := g.hub.Counts()
		time.Sleep(time.Hour)
		g.worlds[0].expect(g.worlds[0].ask(user), "continue 250 - valid ram")
		g.worlds[1].expect(g.worlds[1].ask(user), "continue 250 - valid probe")
		settle()
		if g2, p2 := g.hub.Counts(); g2 != gets || p2 != puts {
			t.Errorf("%d records were read and %d written", g2-gets, p2-puts)
		}
		g.hub.SetDown(false)
		g.hub.Lose() // it comes back empty, and fills up from what is in use
		g.worlds[0].ask(user)
		if rec, err := g.ways[1].Get(context.Background(), user); err != nil || rec.Standing.Class != store.Valid {
			t.Errorf("it was not put back: %v", err)
		}
	})
}

// The trace names the place and the server.
func TestSharedTrace(t *testing.T) {
	inGateways(t, 2, nil, func(t *testing.T, g *gateways) {
		g.worlds[0].ask(user)
		settle()
		time.Sleep(5 * time.Second)
		q := query(user)
		q.Trace.Explain = true
		chain := rcptgate.Chain{Steps: []rcptgate.Step{{Name: "existence", Check: g.worlds[1].check}}}
		v, _ := chain.Check(t.Context(), q)
		g.worlds[1].expect(v, "reject 550 5.1.1 unknown-user memcached")
		if age := time.Since(v.Learnt); age < 4*time.Second || age > 6*time.Second {
			t.Errorf("learnt %v ago", age)
		}
		notes := q.Trace.Steps[0].Notes
		if !slices.ContainsFunc(notes, func(s string) bool {
			return strings.Contains(s, "known by memcached hub") && strings.Contains(s, "learnt 5s ago")
		}) {
			t.Errorf("notes %q", notes)
		}
	})
}

// What another gateway found out while this one waited was not learnt in the future, and
// what does not say when it was learnt has no age.
func TestSharedTraceAfterWaiting(t *testing.T) {
	notes := func(t *testing.T, w *world, q *rcptgate.Query) []string {
		q.Trace.Explain = true
		chain := rcptgate.Chain{Steps: []rcptgate.Step{{Name: "existence", Check: w.check}}}
		chain.Check(t.Context(), q)
		return q.Trace.Steps[0].Notes
	}
	inGateways(t, 2, nil, func(t *testing.T, g *gateways) {
		g.worlds[0].backend(at1).all(good.late(5 * time.Second))
		var first sync.WaitGroup
		first.Go(func() { g.worlds[0].ask(user) })
		time.Sleep(time.Second)
		waited := notes(t, g.worlds[1], query(user))
		first.Wait()
		if !slices.ContainsFunc(waited, func(s string) bool { return strings.Contains(s, "valid, learnt 0s ago from") }) {
			t.Errorf("notes after waiting: %q", waited)
		}
		settle()
		const script = "script@example.com" // wrote this one, without the time
		rec, err := g.ways[0].Get(context.Background(), user)
		if err != nil {
			t.Fatal(err)
		}
		rec.Standing.Learnt = time.Time{}
		if err := g.ways[0].Put(context.Background(), script, rec); err != nil {
			t.Fatal(err)
		}
		if got := notes(t, g.worlds[1], query(script)); !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "memory: valid from "+at1) }) {
			t.Errorf("notes without a time: %q", got)
		}
	})
}
