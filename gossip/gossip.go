// SPDX-License-Identifier: BSD-2-Clause

// Package gossip has gateways tell each other which servers behind them are down, through
// the memcached that they share: PREFIX:b:BACKEND (docs/memcached.md), written while a
// breaker is open. What is heard is tried before it is believed ([backend.Set.Suspect]). It
// bounds what it writes and reads: the 1,000 servers asked last.
package gossip

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"rcptgate/backend"
	"rcptgate/unit"
)

// gossip tells and hears hints.
type gossip struct {
	client   client
	backends *backend.Set
	hostname func() string
	log      *slog.Logger
	every    time.Duration // between two looks
	changed  chan struct{} // a breaker has

	written map[backend.Address]time.Time // when a hint that stands was last written
}

// client is what hints need of a *memcached.Client.
type client interface {
	Key(plain, hashed, name string) string
	GetMulti(ctx context.Context, keys []string) (map[string][]byte, error)
	Set(ctx context.Context, key string, value []byte, expire time.Time) error
	Delete(ctx context.Context, key string) error
	Down() bool
}

const (
	life  = 30 * time.Second // of a hint that nobody writes again
	every = 5 * time.Second
	wait  = time.Second      // for memcached, in the background
	use   = 10 * time.Minute // backends not asked for longer are left out
	most  = 1000             // backends written of and looked up at most
	ahead = time.Hour        // an end later than this is no end that a gateway wrote
)

// Unit is the background job. It does nothing when nothing is shared.
func Unit() unit.Unit {
	return unit.Unit{Name: "gossip", Open: func(env *unit.Env) (unit.Live, error) {
		if env.Shared == nil {
			return unit.Live{}, nil
		}
		g := newGossip(env.Shared, env.Backends, env.Host.Hostname, every, env.Log)
		return unit.Live{Run: g.run}, nil
	}}
}

func newGossip(c client, backends *backend.Set, hostname func() string, every time.Duration, log *slog.Logger) *gossip {
	g := &gossip{
		client: c, backends: backends, hostname: hostname, log: log, every: every,
		changed: make(chan struct{}, 1), written: make(map[backend.Address]time.Time),
	}
	backends.WatchBreakers(g.onBreaker)
	return g
}

// onBreaker is the hook of the backends.
func (g *gossip) onBreaker(backend.Address, bool) {
	select {
	case g.changed <- struct{}{}:
	default: // it looks at all of them
	}
}

// run tells and hears until ctx ends. What was written last ends by itself.
func (g *gossip) run(ctx context.Context) {
	ticker := time.NewTicker(g.every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.changed:
			g.tell(ctx, g.used())
		case <-ticker.C:
			used := g.used()
			g.tell(ctx, used)
			g.hear(ctx, used)
		}
	}
}

func (g *gossip) used() []backend.Used {
	used := g.backends.Used(use)
	return used[:min(len(used), most)]
}

func (g *gossip) key(a backend.Address) string { return g.client.Key("b", "bh", a.String()) }

// tell writes what is down, a third of a hint's life after it was written last, and takes
// away what is not any more.
func (g *gossip) tell(ctx context.Context, used []backend.Used) {
	if g.client.Down() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	now := time.Now()
	open := make(map[backend.Address]bool)
	for _, u := range used {
		if !u.Open {
			continue
		}
		open[u.Address] = true
		if now.Sub(g.written[u.Address]) < life/3 {
			continue
		}
		if g.client.Set(ctx, g.key(u.Address), value(now.Add(life), g.hostname()), now.Add(life)) == nil {
			g.written[u.Address] = now
		}
	}
	for a := range g.written {
		if !open[a] {
			_ = g.client.Delete(ctx, g.key(a)) // else it ends by itself
			delete(g.written, a)
		}
	}
}

// hear has the backends tried that others find down.
func (g *gossip) hear(ctx context.Context, used []backend.Used) {
	if g.client.Down() {
		return
	}
	keys := make(map[string]backend.Address)
	list := make([]string, 0, len(used))
	for _, u := range used {
		if !u.Open {
			key := g.key(u.Address)
			keys[key] = u.Address
			list = append(list, key)
		}
	}
	if len(list) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	found, _ := g.client.GetMulti(ctx, list) // with an error, what was found nevertheless
	now := time.Now()
	for key, text := range found {
		if who, ok := read(text, now); ok && g.backends.Suspect(keys[key]) {
			g.log.Debug("another gateway reports the backend down; trying it", "backend", keys[key].String(), "gateway", who)
		}
	}
}

// value is what stands under a hint's key: "rgb1", when it ends (UNIX seconds) and who
// says it, separated by TAB.
func value(ends time.Time, who string) []byte {
	return fmt.Appendf(nil, "rgb1\t%d\t%s\n", ends.Unix(), who)
}

// read gives who says it. One that has ended, however it got there, counts no more.
func read(text []byte, now time.Time) (who string, ok bool) {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	fields := strings.Split(string(line), "\t")
	if len(fields) != 3 || fields[0] != "rgb1" {
		return "", false
	}
	at, err := strconv.ParseInt(fields[1], 10, 64)
	ends := time.Unix(at, 0)
	if err != nil || !ends.After(now) || ends.Sub(now) > ahead {
		return "", false
	}
	return fields[2], true
}
