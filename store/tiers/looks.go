// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate"
	"rcptgate/store"
)

// Bounds of the looks in the background.
const (
	maxLooks   = 4096 // that wait
	lookBatch  = 100  // keys of one question
	lookGather = 10 * time.Millisecond
	lookWithin = time.Second
)

// looks are the copies that are to be compared with the shared place.
type looks struct {
	queue   chan string
	pause   time.Duration // for more to come
	known   sync.Map      // keys that wait, or are being compared
	dropped atomic.Uint64
}

func newLooks() looks { return looks{queue: make(chan string, maxLooks), pause: lookGather} }

func (l *looks) enqueue(key string) {
	if _, waits := l.known.Load(key); waits || len(l.queue) == cap(l.queue) {
		return
	}
	key = strings.Clone(key) // it may lie in a caller's buffer
	if _, waits := l.known.LoadOrStore(key, struct{}{}); waits {
		return
	}
	select {
	case l.queue <- key:
	default: // the next use of the copy comes again
		l.known.Delete(key)
		l.dropped.Add(1)
	}
}

// gather gives the keys that wait, the first included, after a moment for more to come.
func (l *looks) gather(first string, quit <-chan struct{}) []string {
	keys := append(make([]string, 0, lookBatch), first)
	select {
	case <-time.After(l.pause):
	case <-quit:
	}
	for len(keys) < lookBatch {
		select {
		case key := <-l.queue:
			keys = append(keys, key)
		default:
			return keys
		}
	}
	return keys
}

// compareAll is the goroutine that compares copies with the shared place.
func (s *sharing) compareAll(quit <-chan struct{}) {
	for {
		select {
		case <-quit:
			return
		case first := <-s.looks.queue:
			s.compare(s.looks.gather(first, quit))
		}
	}
}

// compare asks the shared place for several keys at once.
func (s *sharing) compare(keys []string) {
	ctx, cancel := context.WithTimeout(context.Background(), lookWithin)
	defer cancel()
	defer func() {
		for _, key := range keys {
			s.looks.known.Delete(key)
		}
	}()
	marks := make(map[string]int64, len(keys))
	asked := make([]string, 0, len(keys))
	for _, key := range keys {
		if mark, believed := s.local.forgets.look(key); believed {
			marks[key] = mark
			asked = append(asked, key)
		}
	}
	found, err := s.place.GetMany(ctx, asked)
	for _, key := range asked {
		there, ok := found[key]
		if !ok && err != nil {
			continue // unknown: the copy gets its turn again
		}
		s.compared(ctx, key, marks[key], there)
	}
}

// compared brings a copy and what the shared place has, zero for nothing, together.
func (s *sharing) compared(ctx context.Context, key string, mark int64, there store.Record) {
	unlock, err := s.local.lock(ctx, key)
	if err != nil {
		return
	}
	defer unlock()
	here, _, err := s.local.peek(key)
	switch {
	case err != nil: // evicted: the next query asks for it
	case s.local.believe(&there):
		s.settle(ctx, key, mark, here, rcptgate.SourceRAM, there)
	case s.stands(ctx, key, mark, &here):
		s.addBack(ctx, key, mark, here)
	}
}
