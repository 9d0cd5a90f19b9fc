// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"rcptgate/backend"
)

// hints tell other gateways which servers behind this one finds down, and hear what they
// find: PREFIX:b:BACKEND in memcached (docs/memcached.md), kept up while the breaker is
// open. What is heard is tried before it is believed ([backend.Set.Suspect]). A nil one
// tells and hears nothing.
type hints struct {
	client   hintClient
	backends *backend.Set
	hostname func() string
	log      *slog.Logger
	every    time.Duration // between two looks
	changed  chan struct{} // a breaker has

	told map[backend.Address]time.Time // when a hint that stands was last written
}

// hintClient is what hints need of a *memcached.Client.
type hintClient interface {
	Key(plain, hashed, name string) string
	GetMulti(ctx context.Context, keys []string) (map[string][]byte, error)
	Set(ctx context.Context, key string, value []byte, expire time.Time) error
	Delete(ctx context.Context, key string) error
	Down() bool
}

const (
	hintLife  = 30 * time.Second // of a hint that nobody writes again
	hintEvery = 5 * time.Second
	hintWait  = time.Second      // for memcached, in the background
	hintUse   = 10 * time.Minute // backends not asked for longer are left out
	hintMost  = 1000             // backends told of and looked up at most
	hintAhead = time.Hour        // an end later than this is no end that a gateway wrote
)

// newHints gives nil when nothing is shared.
func newHints(s *shared, hostname func() string, every time.Duration, log *slog.Logger) *hints {
	if s == nil {
		return nil
	}
	return &hints{
		client: s.client, hostname: hostname, log: log, every: every,
		changed: make(chan struct{}, 1), told: make(map[backend.Address]time.Time),
	}
}

// onBreaker is the hook of the backends.
func (h *hints) onBreaker(backend.Address, bool) {
	select {
	case h.changed <- struct{}{}:
	default: // it looks at all of them
	}
}

// options are those of the set that the hints are about.
func (h *hints) options() []backend.Option {
	if h == nil {
		return nil
	}
	return []backend.Option{backend.OnBreaker(h.onBreaker)}
}

// run tells and hears until ctx ends. What was told last ends by itself.
func (h *hints) run(ctx context.Context) {
	ticker := time.NewTicker(h.every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.changed:
			h.tell(ctx, h.used())
		case <-ticker.C:
			used := h.used()
			h.tell(ctx, used)
			h.hear(ctx, used)
		}
	}
}

func (h *hints) used() []backend.Used {
	used := h.backends.Used(hintUse)
	return used[:min(len(used), hintMost)]
}

func (h *hints) key(a backend.Address) string { return h.client.Key("b", "bh", a.String()) }

// tell writes what is down, a third of a hint's life after it was written last, and takes
// away what is not any more.
func (h *hints) tell(ctx context.Context, used []backend.Used) {
	if h.client.Down() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, hintWait)
	defer cancel()
	now := time.Now()
	open := make(map[backend.Address]bool)
	for _, u := range used {
		if !u.Open {
			continue
		}
		open[u.Address] = true
		if now.Sub(h.told[u.Address]) < hintLife/3 {
			continue
		}
		if h.client.Set(ctx, h.key(u.Address), hintValue(now.Add(hintLife), h.hostname()), now.Add(hintLife)) == nil {
			h.told[u.Address] = now
		}
	}
	for a := range h.told {
		if !open[a] {
			_ = h.client.Delete(ctx, h.key(a)) // else it ends by itself
			delete(h.told, a)
		}
	}
}

// hear has the backends tried that others find down.
func (h *hints) hear(ctx context.Context, used []backend.Used) {
	if h.client.Down() {
		return
	}
	keys := make(map[string]backend.Address)
	list := make([]string, 0, len(used))
	for _, u := range used {
		if !u.Open {
			key := h.key(u.Address)
			keys[key] = u.Address
			list = append(list, key)
		}
	}
	if len(list) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, hintWait)
	defer cancel()
	found, _ := h.client.GetMulti(ctx, list) // with an error, what was found nevertheless
	now := time.Now()
	for key, value := range found {
		if who, ok := readHint(value, now); ok && h.backends.Suspect(keys[key]) {
			h.log.Debug("another gateway finds the backend down: trying it", "backend", keys[key].String(), "gateway", who)
		}
	}
}

// hintValue is what stands under a hint's key: "rgb1", when it ends (UNIX seconds) and who
// says it, separated by TAB.
func hintValue(ends time.Time, who string) []byte {
	return fmt.Appendf(nil, "rgb1\t%d\t%s\n", ends.Unix(), who)
}

// readHint gives who says it. One that has ended, however it got there, counts no more.
func readHint(value []byte, now time.Time) (who string, ok bool) {
	line, _, _ := bytes.Cut(value, []byte("\n"))
	fields := strings.Split(string(line), "\t")
	if len(fields) != 3 || fields[0] != "rgb1" {
		return "", false
	}
	at, err := strconv.ParseInt(fields[1], 10, 64)
	ends := time.Unix(at, 0)
	if err != nil || !ends.After(now) || ends.Sub(now) > hintAhead {
		return "", false
	}
	return fields[2], true
}
