// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"context"
	"errors"
	"time"

	"rcptgate/store"
)

// A refill gives a place at most refillBatch records every refillPause, less than a
// disk store writes meanwhile: its queue is bounded, and answers go on.
const (
	refillBatch = 500
	refillPause = 100 * time.Millisecond
)

// refillWhen is the goroutine that gives p what RAM knows each time p has lost what it
// knew: else the known-good recipients that RAM answers for would be gone with the next
// restart.
func (l *local) refillWhen(renewed <-chan struct{}, p *place, quit <-chan struct{}) {
	for {
		select {
		case <-quit:
			return
		case <-renewed:
			l.refill(p, quit)
		}
	}
}

// refill copies down what RAM knows of living mailboxes, and findings. Refusals are
// asked again soon anyway.
func (l *local) refill(p *place, quit <-chan struct{}) {
	ctx := context.Background()
	var keys []string
	_ = l.ram.Range(ctx, store.Pattern{}, func(key string, rec store.Record) bool {
		if !rec.Refuses() {
			keys = append(keys, key)
		}
		return true
	})
	for i, key := range keys {
		if i%refillBatch == 0 {
			select {
			case <-quit:
				return
			case <-time.After(refillPause):
			}
		}
		if err := l.copyDown(ctx, p, key); errors.Is(err, store.ErrClosed) {
			return
		}
	}
}

// copyDown gives p the record under key as it is now. A forget meanwhile has taken it
// from RAM, or reaches p after it.
func (l *local) copyDown(ctx context.Context, p *place, key string) error {
	unlock, err := l.lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	l.forgets.mu.RLock()
	defer l.forgets.mu.RUnlock()
	rec, _, err := l.ram.Peek(key)
	if err != nil {
		return err
	}
	return p.Put(ctx, key, rec)
}
