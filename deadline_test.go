// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestAwait holds that Await ends with whatever comes first, under a lazy deadline as
// under any other context, and that the deadline can be waited for again and again.
func TestAwait(t *testing.T) {
	contexts := map[string]func(ctx context.Context, at time.Time) (context.Context, func()){
		"lazy": LazyDeadline,
		"usual": func(ctx context.Context, at time.Time) (context.Context, func()) {
			ctx, cancel := context.WithDeadline(ctx, at)
			return ctx, cancel
		},
		"lazy, somebody waits for Done": func(ctx context.Context, at time.Time) (context.Context, func()) {
			ctx, stop := LazyDeadline(ctx, at)
			ctx.Done()
			return ctx, stop
		},
	}
	for name, with := range contexts {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, cancel := context.WithCancel(context.Background())
				start, done := time.Now(), make(chan int, 2)
				ctx, stop := with(parent, start.Add(3*time.Second))
				defer stop()
				time.AfterFunc(time.Second, func() { done <- 7 })
				if v, ok := Await(ctx, done); v != 7 || !ok || time.Since(start) != time.Second {
					t.Errorf("got %d, %v after %v", v, ok, time.Since(start))
				}
				if _, ok := Await(ctx, done); ok || time.Since(start) != 3*time.Second {
					t.Errorf("the deadline: got something %v after %v", ok, time.Since(start))
				}
				later, stopLater := with(parent, start.Add(time.Hour))
				defer stopLater()
				time.AfterFunc(time.Second, cancel)
				if _, ok := Await(later, done); ok || time.Since(start) != 4*time.Second {
					t.Errorf("cancelled: got something %v after %v", ok, time.Since(start))
				}
			})
		})
	}
}

// TestAwaitAgainAllocatesNothing holds that a question which waits leaves its timer to the
// next one.
func TestAwaitAgainAllocatesNothing(t *testing.T) {
	chain := &Chain{Deadline: time.Minute, Steps: []Step{{Name: "waits", Check: CheckFunc(func(ctx context.Context, _ *Query) (Verdict, error) {
		Await(ctx, closedChannel())
		return valid, nil
	})}}}
	var q Query
	ask := func() {
		q.Reset()
		_, _ = chain.Check(t.Context(), &q)
	}
	if n := testing.AllocsPerRun(100, ask); n > 1 { // the channel
		t.Errorf("%v allocations", n)
	}
}

func closedChannel() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// TestAfterCancel holds that f is called for the context above a lazy deadline, and that no
// timer is started for it.
func TestAfterCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancel(context.Background())
		ctx, stop := LazyDeadline(parent, time.Now().Add(time.Hour))
		defer stop()
		called := make(chan struct{})
		AfterCancel(ctx, func() { close(called) })
		unwanted := AfterCancel(ctx, func() { t.Error("called although it was stopped") })
		if !unwanted() {
			t.Error("called before the context ended")
		}
		if ctx.(*lazyDeadline).waited.Load() != nil {
			t.Error("a timer runs")
		}
		cancel()
		<-called
	})
}
