// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"context"
	"sync"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/store"
	"rcptgate/store/ram"
	"rcptgate/store/storetest"
)

// hanging is a shared place whose first question hangs; what each asker may still wait is noted.
type hanging struct {
	*storetest.Gateway
	asked chan time.Duration
	hold  chan struct{}
}

func (h *hanging) Get(ctx context.Context, _ string) (store.Record, error) {
	h.asked <- rcptgate.BudgetOf(ctx).Left(time.Hour)
	<-h.hold
	return store.Record{}, store.ErrBudget
}

// TestWaitingForAnothersQuestion: a caller that waited while another asked a server that hangs has spent its time.
func TestWaitingForAnothersQuestion(t *testing.T) {
	// On a busy machine the second asker may come when the first has gone: it has not waited, and may ask.
	for _, held := range []time.Duration{2 * DefaultTiming().Budget, time.Second, 10 * time.Second} {
		left, patience := secondAsker(t, held)
		if left <= 0 {
			return
		}
		t.Logf("the first asker was held for %v, and the second may wait %v of %v", held, left, patience)
	}
	t.Error("the second asker, who waited for the first, may wait as long again")
}

// secondAsker gives what the second of two equal questions may still wait, the first of which is held.
func secondAsker(t *testing.T, held time.Duration) (left, patience time.Duration) {
	t.Helper()
	h := &hanging{storetest.NewHub(time.Now).Gateway(), make(chan time.Duration, 2), make(chan struct{})}
	m := New(ram.New(ram.Options{Entries: 1000}), h)
	defer func() { _ = m.Close() }()
	timing := DefaultTiming()
	m.Join(timing)
	var all sync.WaitGroup
	all.Go(func() { m.Recall(t.Context(), "user@example.com") })
	if left := <-h.asked; left <= 0 {
		t.Errorf("the first asker may wait %v", left)
	}
	second := rcptgate.WithBudget(t.Context(), m.Patience())
	all.Go(func() { m.Recall(second, "user@example.com") })
	time.Sleep(held)
	close(h.hold)
	left = <-h.asked
	all.Wait()
	if m.Patience() >= timing.Budget {
		t.Errorf("nothing of the budget of %v is left for learning", timing.Budget)
	}
	return left, m.Patience()
}
