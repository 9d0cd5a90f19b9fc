// SPDX-License-Identifier: BSD-2-Clause

package gossip

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"rcptgate/address"
	"rcptgate/backend"
	"rcptgate/backend/sim"
	"rcptgate/kit/testkit"
)

func TestReadHint(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, tc := range []struct {
		text string
		ok   bool
	}{
		{string(value(now.Add(life), "mx1.example")), true},
		{"rgb1\t1800000001\tmx1\nmore\n", true}, // later versions may add lines
		{string(value(now, "mx1")), false},      // ended
		{string(value(now.Add(24*time.Hour), "mx1")), false},
		{"rg1\t1800000010\tmx1\n", false},
		{"rgb1\t1800000010\n", false},
		{"rgb1\tsoon\tmx1\n", false},
		{"", false},
		{"\x00\xff", false},
	} {
		if who, ok := read([]byte(tc.text), now); ok != tc.ok {
			t.Errorf("%q: %q, %v", tc.text, who, ok)
		}
	}
}

// board is a memcached without a server.
type board struct {
	mu     sync.Mutex
	values map[string][]byte
	sets   int
	down   bool
}

func (b *board) Key(plain, _, name string) string { return plain + ":" + name }
func (b *board) Down() bool                       { return b.down }

func (b *board) GetMulti(_ context.Context, keys []string) (map[string][]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := map[string][]byte{}
	for _, key := range keys {
		if v, ok := b.values[key]; ok {
			found[key] = v
		}
	}
	return found, errors.New("one of the servers has failed")
}

func (b *board) Set(_ context.Context, key string, value []byte, _ time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.values[key] = value
	b.sets++
	return nil
}

func (b *board) Delete(_ context.Context, key string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.values, key)
	return nil
}

// What is down is told once in a third of a hint's life, and taken away when it is up.
// Nothing is asked of a memcached that is down.
func TestHintsAreToldAndTakenAway(t *testing.T) {
	server := sim.New(sim.Config{Behaviour: sim.Behaviour{Users: []string{"ann@demo.example"}}})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	b := &board{values: map[string][]byte{}}
	backends := backend.NewSet(backend.Config{}, "mx1.example", nil, backend.WithTrials(50*time.Millisecond, time.Hour))
	defer backends.Close()
	g := newGossip(b, backends, func() string { return "mx1.example" }, every, slog.New(slog.DiscardHandler))
	a, err := backend.ParseAddress(server.Backend())
	if err != nil {
		t.Fatal(err)
	}
	ask := func() {
		_, _ = g.backends.Get(a).Ask(context.Background(), backend.Probe{Recipient: address.Parse("ann@demo.example")})
	}
	ask()
	g.tell(context.Background(), g.used())
	if len(b.values) != 0 {
		t.Errorf("told of a backend that answers: %v", b.values)
	}
	server.Stop()
	testkit.Eventually(t, "the breaker", func() bool { ask(); return g.backends.Get(a).Health().Open })
	<-g.changed
	for range 3 {
		g.tell(context.Background(), g.used())
	}
	if who, ok := read(b.values["b:"+a.String()], time.Now()); !ok || who != "mx1.example" || b.sets != 1 {
		t.Errorf("told %d times: %v", b.sets, b.values)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the breaker to close", func() bool { return !g.backends.Get(a).Health().Open })
	<-g.changed
	b.down = true
	g.tell(context.Background(), g.used())
	if len(b.values) != 1 {
		t.Error("a memcached that is down was asked")
	}
	b.down = false
	g.tell(context.Background(), g.used())
	if len(b.values) != 0 {
		t.Errorf("still told: %v", b.values)
	}
}
