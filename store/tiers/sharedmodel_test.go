// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/store/disk"
	"rcptgate/store/ram"
	"rcptgate/store/storetest"
)

// TestSharedModel drives the tiers of two gateways over one hub through learning,
// asking, forgetting, exchanging, time, restarts, and a hub that dies, evicts and loses
// everything, and holds what they answer against three rules:
//
//   - What was forgotten is never served again: on the gateway that forgot, from then
//     on; on the other, once it has exchanged.
//   - What a gateway has learnt or served it serves until it ends or is forgotten, or
//     something newer does, or did; only refusals may go when the hub has lost its list.
//   - What the other has learnt is served at the latest 60 s later, if the hub has it.
func TestSharedModel(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the full run without the race detector has it")
	}
	base := testkit.Dir(t)
	var run atomic.Int64
	rapid.Check(t, func(t *rapid.T) {
		m := newSharedModel(t, fmt.Sprintf("%s/%d", base, run.Add(1)))
		defer m.close()
		t.Repeat(map[string]func(*rapid.T){
			"learn":    m.learn,
			"late":     m.learnLate,
			"ask":      m.ask,
			"ask all":  m.askAll,
			"forget":   func(t *rapid.T) { m.forget(t, m.anyGateway(t), m.anyPattern(t)) },
			"exchange": func(t *rapid.T) { m.exchange(m.anyGateway(t)) },
			"wait": func(t *rapid.T) {
				m.turn(rapid.SampledFrom([]time.Duration{time.Second, 20 * time.Second, 45 * time.Second, 2 * time.Minute, 20 * 24 * time.Hour}).Draw(t, "wait"))
			},
			"down": func(t *rapid.T) { m.setDown(rapid.Bool().Draw(t, "down")) },
			"lose": func(*rapid.T) {
				m.hub.Lose()
				m.listed = map[int]bool{}
				m.inHub, m.refused = map[string]int{}, map[string]int{}
				m.hasList = false
			},
			"drop":    func(t *rapid.T) { key := m.anyKey(t); m.hub.Drop(key); delete(m.inHub, key) },
			"evict":   func(t *rapid.T) { _ = m.anyGateway(t).tiers.local.ram.Delete(context.Background(), modelKeys...) },
			"restart": func(t *rapid.T) { g := m.anyGateway(t); _ = g.tiers.Close(); m.open(t, g) },
			"":        func(*rapid.T) { m.settle() },
		})
		m.setDown(false)
		m.askAll(t)
	})
}

type sharedModel struct {
	hub      *storetest.Hub
	clock    atomic.Int64
	seq      int // of everything that happens
	gateways [2]*sharedGateway
	versions map[int]*version // by when they were learnt
	forgets  map[int]*order
	down     bool
	listed   map[int]bool   // forgets in the hub's list
	hasList  bool           // the hub has one at all
	inHub    map[string]int // the version that was put last, by key
	refused  map[string]int // the last one that refuses
}

type sharedGateway struct {
	dir   string
	tiers *Tiers
	way   *storetest.Gateway
	known map[int]bool   // forgets
	holds map[string]int // by key: a version that must not get lost
}

type version struct {
	key        string
	began      int // seq
	learnt     time.Time
	expire     time.Time
	refuses    bool
	generation int // the last forget of the key that its writer knew
}

type order struct{ match store.Pattern }

func newSharedModel(t *rapid.T, dir string) *sharedModel {
	m := &sharedModel{versions: map[int]*version{}, forgets: map[int]*order{}, listed: map[int]bool{}, inHub: map[string]int{}, refused: map[string]int{}}
	m.clock.Store(time.Now().Truncate(time.Second).UnixNano())
	m.hub = storetest.NewHub(m.now)
	for i := range m.gateways {
		m.gateways[i] = &sharedGateway{dir: fmt.Sprintf("%s-%d", dir, i), known: map[int]bool{}, holds: map[string]int{}}
		m.open(t, m.gateways[i])
	}
	return m
}

func (m *sharedModel) now() time.Time { return time.Unix(0, m.clock.Load()) }

func (m *sharedModel) turn(by time.Duration) { m.clock.Add(int64(by)) }

// happen gives every event a number and a second of its own.
func (m *sharedModel) happen() int {
	m.turn(time.Second)
	m.seq++
	return m.seq
}

func (m *sharedModel) open(t *rapid.T, g *sharedGateway) {
	d, err := disk.Open(disk.Options{Dir: g.dir, Entries: 1000, Now: m.now})
	if err != nil {
		t.Fatal(err)
	}
	g.way = m.hub.Gateway()
	g.tiers = unhurried(New(ram.New(ram.Options{Entries: 1000, Now: m.now}), g.way, d))
	patientAndQuick(g.tiers)
	m.exchanged(g)
	g.tiers.Join(patientTiming())
	m.settle()
}

func (m *sharedModel) close() {
	for _, g := range m.gateways {
		_ = g.tiers.Close()
	}
}

// settle waits for what goes on in the background.
func (m *sharedModel) settle() {
	for _, g := range m.gateways {
		if g == nil || g.tiers == nil {
			continue
		}
		for busy := true; busy; {
			g.tiers.local.forgets.mu.RLock()
			busy = len(g.tiers.local.forgets.open) > 0
			g.tiers.local.forgets.mu.RUnlock()
			g.tiers.shared.orders.mu.Lock()
			busy = busy || g.tiers.shared.orders.revoke || g.tiers.shared.orders.busy
			g.tiers.shared.orders.mu.Unlock()
			g.tiers.shared.looks.known.Range(func(any, any) bool { busy = true; return false })
			if busy {
				time.Sleep(100 * time.Microsecond)
			}
		}
	}
}

func (m *sharedModel) anyGateway(t *rapid.T) *sharedGateway {
	return m.gateways[rapid.IntRange(0, 1).Draw(t, "gateway")]
}

func (m *sharedModel) anyKey(t *rapid.T) string { return rapid.SampledFrom(modelKeys).Draw(t, "key") }

func (m *sharedModel) anyPattern(t *rapid.T) store.Pattern {
	return rapid.SampledFrom([]store.Pattern{
		{Address: modelKeys[0]}, {Address: modelKeys[1]}, {Address: modelKeys[3]}, {Domain: "b.example"}, {},
	}).Draw(t, "match")
}

func (m *sharedModel) setDown(down bool) {
	m.down = down
	m.hub.SetDown(down)
}

func (m *sharedModel) learn(t *rapid.T) { m.learnFrom(t, m.anyGateway(t), m.anyKey(t), m.happen()) }

// learnLate learns from a probe that began before a forget, here or there.
func (m *sharedModel) learnLate(t *rapid.T) {
	key, began := m.anyKey(t), m.happen()
	match := rapid.SampledFrom([]store.Pattern{{Address: key}, {Domain: store.Domain(key)}, {}}).Draw(t, "match")
	m.forget(t, m.anyGateway(t), match)
	if rapid.Bool().Draw(t, "exchanged") {
		m.exchange(m.anyGateway(t))
	}
	m.settle()
	m.learnFrom(t, m.anyGateway(t), key, began)
}

func (m *sharedModel) learnFrom(t *rapid.T, g *sharedGateway, key string, began int) {
	beganAt := m.now().Add(-time.Duration(m.seq-began) * time.Second) // a second for each event
	n := m.happen()
	v := &version{key: key, began: began, learnt: m.now(), refuses: rapid.IntRange(0, 3).Draw(t, "kind") == 0}
	rec := storetest.Valid(m.now())
	if v.refuses {
		rec = storetest.Unknown(key, m.now())
	}
	rec.Standing.Text, rec.Standing.Backend = strconv.Itoa(n), "smtp:[10.0.0.5]:25"
	v.expire = rec.Standing.Expire
	for f := range g.known {
		if m.forgets[f].match.Matches(key) {
			v.generation = max(v.generation, f)
		}
	}
	m.versions[n] = v
	g.tiers.Learn(key, beganAt, func(store.Record) store.Record { return rec })
	if m.forgotten(g, v) {
		return // it was not kept
	}
	g.holds[key] = n
	if !m.down {
		m.inHub[key] = n
		if v.refuses {
			m.refused[key] = n
		}
	}
}

// forgotten reports whether g knows that v was forgotten.
func (m *sharedModel) forgotten(g *sharedGateway, v *version) bool {
	for f := range g.known {
		if f > v.began && m.forgets[f].match.Matches(v.key) {
			return true
		}
	}
	return false
}

func (m *sharedModel) forget(t *rapid.T, g *sharedGateway, match store.Pattern) {
	f := m.happen()
	m.forgets[f] = &order{match}
	m.know(g, f)
	m.exchanged(g) // forgetting informs the hub
	_, err := g.tiers.Forget(context.Background(), match)
	if (err != nil) != m.down {
		t.Fatalf("forgetting %s with the hub down %v: %v", match, m.down, err)
	}
}

// know lets go of what g may lose when it learns of a forget: it cannot tell what was
// learnt since.
func (m *sharedModel) know(g *sharedGateway, f int) {
	if g.known[f] {
		return
	}
	g.known[f] = true
	for key := range g.holds {
		if m.forgets[f].match.Matches(key) {
			delete(g.holds, key)
		}
	}
}

func (m *sharedModel) exchange(g *sharedGateway) {
	m.exchanged(g)
	_ = g.way.Exchange()
}

// exchanged is what an exchange does to the model.
func (m *sharedModel) exchanged(g *sharedGateway) {
	if m.down {
		return
	}
	if !m.hasList {
		for key, n := range g.holds {
			if m.versions[n].refuses {
				delete(g.holds, key)
			}
		}
	}
	for f := range m.listed {
		m.know(g, f)
	}
	for f := range g.known {
		m.listed[f] = true
	}
	m.hasList = true
}

func (m *sharedModel) askAll(t *rapid.T) {
	for _, g := range m.gateways {
		for _, key := range modelKeys {
			m.askOne(t, g, key)
		}
	}
}

func (m *sharedModel) ask(t *rapid.T) { m.askOne(t, m.anyGateway(t), m.anyKey(t)) }

func (m *sharedModel) askOne(t *rapid.T, g *sharedGateway, key string) {
	rec, source, ok := g.tiers.Recall(context.Background(), key)
	n := 0
	if ok && rec.Standing.Alive(m.now()) {
		n, _ = strconv.Atoi(rec.Standing.Text)
		if m.forgotten(g, m.versions[n]) {
			t.Fatalf("%s: version %d from %s was forgotten", key, n, source)
		}
	}
	if g.holds[key] < m.refused[key] && n == 0 {
		delete(g.holds, key) // the other gateway has replaced it
	}
	if held := g.holds[key]; held > n && m.versions[held].expire.After(m.now()) {
		t.Fatalf("%s: %d from %q was served, %d got lost", key, n, source, held)
	}
	if there := m.inHub[key]; there > n && !m.down && m.visible(g, m.versions[there]) {
		t.Fatalf("%s: %d from %q was served, %d from the other gateway is not seen", key, n, source, there)
	}
	if n > m.inHub[key] && !m.down {
		// Learnt while the hub was down: it may get there now, in the place of what it had.
		delete(m.inHub, key)
		if m.versions[n].refuses {
			m.refused[key] = n
		}
	}
	if n > 0 {
		g.holds[key] = max(g.holds[key], n)
		if m.versions[n].refuses && n != g.holds[key] {
			t.Fatal("the model is wrong")
		}
	}
}

// visible reports whether g must know what was put into the hub.
func (m *sharedModel) visible(g *sharedGateway, v *version) bool {
	if !v.expire.After(m.now()) || m.now().Sub(v.learnt) < DefaultTiming().Stale || v.refuses {
		return false // refusals may be sifted out after a loss
	}
	for f := range g.known {
		if f > v.generation && m.forgets[f].match.Matches(v.key) {
			return false // its writer knew less than g
		}
	}
	return true
}
