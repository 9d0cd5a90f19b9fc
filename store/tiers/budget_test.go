// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"context"
	"sync"
	"testing"
	"time"

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
	h.asked <- store.BudgetOf(ctx).Left(time.Hour)
	<-h.hold
	return store.Record{}, store.ErrBudget
}

// TestWaitingForAnothersQuestion: whoever waited while somebody else asked a server that hangs has spent its time.
func TestWaitingForAnothersQuestion(t *testing.T) {
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
	second := store.WithBudget(t.Context(), m.Patience())
	all.Go(func() { m.Recall(second, "user@example.com") })
	time.Sleep(2 * timing.Budget)
	close(h.hold)
	left := <-h.asked
	all.Wait()
	// The second may have come late on a busy machine; then it has not waited, nor spent.
	if left > 0 && left < m.Patience() {
		t.Logf("the second had waited for %v", m.Patience()-left)
	} else if left > 0 {
		t.Errorf("the second asker, who waited for the first, may wait %v more", left)
	}
	if m.Patience() >= timing.Budget {
		t.Errorf("nothing of the budget of %v is left for learning", timing.Budget)
	}
}
