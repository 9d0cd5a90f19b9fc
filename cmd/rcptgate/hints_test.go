// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/backend"
	"rcptgate/backend/sim"
	"rcptgate/route"
	"rcptgate/store"
	"rcptgate/store/memcached"
	"rcptgate/test/lab"
)

func TestReadHint(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, tc := range []struct {
		value string
		ok    bool
	}{
		{string(hintValue(now.Add(hintLife), "mx1.example")), true},
		{"rgb1\t1800000001\tmx1\nmore\n", true}, // later versions may add lines
		{string(hintValue(now, "mx1")), false},  // ended
		{string(hintValue(now.Add(24*time.Hour), "mx1")), false},
		{"rg1\t1800000010\tmx1\n", false},
		{"rgb1\t1800000010\n", false},
		{"rgb1\tsoon\tmx1\n", false},
		{"", false},
		{"\x00\xff", false},
	} {
		if who, ok := readHint([]byte(tc.value), now); ok != tc.ok {
			t.Errorf("%q: %q, %v", tc.value, who, ok)
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
	server := sim.New(sim.Config{Behaviour: demoUsers()})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	b := &board{values: map[string][]byte{}}
	h := &hints{
		client: b, hostname: func() string { return "mx1.example" }, log: slog.New(slog.DiscardHandler),
		changed: make(chan struct{}, 1), told: make(map[backend.Address]time.Time),
	}
	h.backends = backend.NewSet(backend.Config{}, "mx1.example", nil, append(h.options(), backend.WithTrials(50*time.Millisecond, time.Hour))...)
	defer h.backends.Close()
	a, err := backend.ParseAddress(server.Backend())
	if err != nil {
		t.Fatal(err)
	}
	ask := func() {
		_, _ = h.backends.Get(a).Ask(context.Background(), backend.Probe{Recipient: address.Parse("ann@" + demoDomain)})
	}
	ask()
	h.tell(context.Background(), h.used())
	if len(b.values) != 0 {
		t.Errorf("told of a backend that answers: %v", b.values)
	}
	server.Stop()
	until(t, "the breaker", func() bool { ask(); return h.backends.Get(a).Health().Open })
	<-h.changed
	for range 3 {
		h.tell(context.Background(), h.used())
	}
	if who, ok := readHint(b.values["b:"+a.String()], time.Now()); !ok || who != "mx1.example" || b.sets != 1 {
		t.Errorf("told %d times: %v", b.sets, b.values)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	until(t, "the breaker to close", func() bool { return !h.backends.Get(a).Health().Open })
	<-h.changed
	b.down = true
	h.tell(context.Background(), h.used())
	if len(b.values) != 1 {
		t.Error("a memcached that is down was asked")
	}
	b.down = false
	h.tell(context.Background(), h.used())
	if len(b.values) != 0 {
		t.Errorf("still told: %v", b.values)
	}
}

// TestGatewaysWarnEachOther stops the server behind two gateways: the second one's breaker
// opens before anybody has asked it, through a real memcached.
func TestGatewaysWarnEachOther(t *testing.T) {
	server := sim.New(sim.Config{Behaviour: demoUsers()})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	place := lab.StartMemcached(t, lab.MemcachedOptions{})
	var socket memcached.Server
	if err := socket.UnmarshalText([]byte(place.Socket())); err != nil {
		t.Fatal(err)
	}
	var gates [2]*daemon
	for i := range gates {
		d, err := smallDaemon(t, t.TempDir(), daemonOptions{
			hints: 50 * time.Millisecond, backends: []backend.Option{backend.WithTrials(100*time.Millisecond, time.Hour)},
		}, func(l *loaded) {
			l.Hostname = fmt.Sprintf("mx%d.example", i+1)
			l.Cache.Servers, l.Cache.Prefix, l.Cache.Timeout = []memcached.Server{socket}, memcached.DefaultPrefix, patience
			l.Domain = []DomainConfig{{RouteDomain: route.DomainConfig{Name: demoDomain, Backend: []string{server.Backend()}}}}
		})
		if err != nil {
			t.Fatal(err)
		}
		gates[i] = d
	}
	ask := func(d *daemon, local string) rcptgate.Verdict {
		q := rcptgate.Query{Stage: rcptgate.StageRcpt, Recipient: address.Parse(local + "@" + demoDomain)}
		q.Target = q.Recipient
		return d.gate.Ask(context.Background(), &q)
	}
	open := func(d *daemon) bool { h := d.backends.Health(); return len(h) == 1 && h[0].Open }
	for i, d := range gates {
		if v := ask(d, fmt.Sprint("stranger", i)); v.Reason != rcptgate.ReasonUnknownUser {
			t.Fatalf("gateway %d: %+v", i, v)
		}
	}
	server.Stop()
	n := 0
	until(t, "the first gateway's breaker", func() bool { n++; ask(gates[0], fmt.Sprint("x", n)); return open(gates[0]) })
	until(t, "the second gateway's breaker", func() bool { return open(gates[1]) })
	if h := gates[1].backends.Health()[0]; h.Failures[backend.StageBreaker] != 0 || h.Probes == 0 {
		t.Errorf("the second gateway was asked: %+v", h)
	}
	key := gates[0].hints.key(gates[0].backends.Used(time.Hour)[0].Address)
	if want := "rg:b:" + server.Backend(); key != want {
		t.Errorf("key %q, want %q", key, want)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	until(t, "both breakers to close", func() bool { return !open(gates[0]) && !open(gates[1]) })
	until(t, "the hint's end", func() bool {
		_, _, err := gates[0].shared.client.Get(context.Background(), key)
		return errors.Is(err, store.ErrNotFound)
	})
	place.Kill()
	server.Stop()
	until(t, "the first gateway's breaker", func() bool { n++; ask(gates[0], fmt.Sprint("x", n)); return open(gates[0]) })
	page := httptest.NewRecorder()
	gates[0].web.Handler(false).ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if page.Code != http.StatusOK {
		t.Errorf("without memcached: %d", page.Code)
	}
}
