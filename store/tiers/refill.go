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

// refillWhen gives p what RAM knows each time p has lost what it knew: else the
// known-good recipients that RAM answers for would be gone with the next restart.
func (t *Tiers) refillWhen(renewed <-chan struct{}, p *place) {
	t.background.Go(func() {
		for {
			select {
			case <-t.quit:
				return
			case <-renewed:
				t.refill(p)
			}
		}
	})
}

// refill copies down what RAM knows of living mailboxes, and findings. Refusals are
// asked again soon anyway.
func (t *Tiers) refill(p *place) {
	ctx := context.Background()
	var keys []string
	_ = t.ram.Range(ctx, store.Pattern{}, func(key string, rec store.Record) bool {
		if !rec.Refuses() {
			keys = append(keys, key)
		}
		return true
	})
	for i, key := range keys {
		if i%refillBatch == 0 {
			select {
			case <-t.quit:
				return
			case <-time.After(refillPause):
			}
		}
		if err := t.copyDown(ctx, p, key); errors.Is(err, store.ErrClosed) {
			return
		}
	}
}

// copyDown gives p the record under key as it is now. A forget meanwhile has taken it
// from RAM, or reaches p after it.
func (t *Tiers) copyDown(ctx context.Context, p *place, key string) error {
	unlock, err := t.lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	t.graves.mu.RLock()
	defer t.graves.mu.RUnlock()
	rec, _, err := t.ram.Peek(key)
	if err != nil {
		return err
	}
	return p.Put(ctx, key, rec)
}
