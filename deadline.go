// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Budget is the time that one answer may still spend waiting for memory that other
// gateways share, all its questions together. The chain begins one with the query (see
// [Chain]); whoever waits for such memory takes what it spends from the budget of its
// context. It is safe for concurrent use. A budget ends with its query: work that goes on
// afterwards takes a budget of its own, [WithBudget].
type Budget struct{ left atomic.Int64 }

type budgetKey struct{}

// WithBudget gives a context whose questions to shared memory may wait for d together.
// It is for work that no query waits for.
func WithBudget(ctx context.Context, d time.Duration) context.Context {
	b := &Budget{}
	b.left.Store(int64(d))
	return context.WithValue(ctx, budgetKey{}, b)
}

// BudgetOf gives the budget of ctx; nil when there is none.
func BudgetOf(ctx context.Context) *Budget {
	b, _ := ctx.Value(budgetKey{}).(*Budget)
	return b
}

// Left is what may still be spent; of a nil Budget, limit. Never more than limit.
func (b *Budget) Left(limit time.Duration) time.Duration {
	if b == nil {
		return limit
	}
	return min(limit, time.Duration(b.left.Load()))
}

// Spend takes d off what is left.
func (b *Budget) Spend(d time.Duration) {
	if b != nil {
		b.left.Add(-int64(d))
	}
}

// LazyDeadline is context.WithDeadline for work that mostly ends without waiting:
// its timer starts only when somebody asks for Done. The caller must call stop.
func LazyDeadline(ctx context.Context, at time.Time) (lazy context.Context, stop func()) {
	d := new(lazyDeadline)
	d.begin(ctx, at, 0)
	return d, func() { d.stop() }
}

// Await receives from done, unless ctx ends before: then ok is false. Under a
// [LazyDeadline] it waits with a timer that is used again, which costs a fraction of what
// Done does.
func Await[T any](ctx context.Context, done <-chan T) (v T, ok bool) {
	end, timeout := ctx, (<-chan time.Time)(nil)
	if d, lazy := ctx.(*lazyDeadline); lazy && d.waited.Load() == nil {
		timer := d.takeTimer()
		defer d.giveTimer(timer)
		end, timeout = d.Context, timer.C
	}
	select {
	case v = <-done:
		return v, true
	case <-timeout:
	case <-end.Done():
	}
	return v, false
}

// AfterCancel is context.AfterFunc for those that keep ctx's deadline themselves: under a
// [LazyDeadline], f is called when the context above it ends, and no timer is started.
func AfterCancel(ctx context.Context, f func()) (stop func() bool) {
	if d, lazy := ctx.(*lazyDeadline); lazy {
		ctx = d.Context
	}
	return context.AfterFunc(ctx, f)
}

// lazyDeadline is a context whose timer starts only when somebody waits for it: a
// remembered answer never does, and a timer would cost more than the answer.
type lazyDeadline struct {
	context.Context
	at       time.Time
	budgeted bool
	budget   Budget
	timer    atomic.Pointer[time.Timer] // of Await, when nobody is using it

	waited atomic.Pointer[waitable] // nil until somebody asks for Done
	making sync.Mutex               // held to set waited
}

// waitable is the context with a timer behind a lazyDeadline.
type waitable struct {
	context.Context
	cancel context.CancelFunc
}

// begin makes d the context of one question. Patience is the question's [Budget]; 0
// is none.
func (d *lazyDeadline) begin(ctx context.Context, at time.Time, patience time.Duration) {
	d.Context, d.at = ctx, at
	d.budgeted = patience > 0
	if d.budget.left.Load() != int64(patience) { // a load costs less than a store
		d.budget.left.Store(int64(patience))
	}
}

// takeTimer gives a timer that runs until the deadline.
func (d *lazyDeadline) takeTimer() *time.Timer {
	left := time.Until(d.at)
	timer := d.timer.Swap(nil)
	if timer == nil {
		return time.NewTimer(left)
	}
	timer.Reset(left)
	return timer
}

func (d *lazyDeadline) giveTimer(timer *time.Timer) {
	timer.Stop()
	d.timer.Store(timer)
}

// Value gives the question's budget to [BudgetOf].
func (d *lazyDeadline) Value(key any) any {
	if _, ours := key.(budgetKey); ours && d.budgeted {
		return &d.budget
	}
	return d.Context.Value(key)
}

func (d *lazyDeadline) Deadline() (time.Time, bool) {
	if at, ok := d.Context.Deadline(); ok && at.Before(d.at) {
		return at, true
	}
	return d.at, true
}

func (d *lazyDeadline) Done() <-chan struct{} { return d.wait().Done() }

// AfterFunc is what package context looks for in contexts that are not its own: without it, a
// context made of d would have a goroutine that waits for d's end.
func (d *lazyDeadline) AfterFunc(f func()) (stop func() bool) { return context.AfterFunc(d.wait(), f) }

// wait starts the timer, unless it runs already.
func (d *lazyDeadline) wait() *waitable {
	d.making.Lock()
	defer d.making.Unlock()
	w := d.waited.Load()
	if w == nil {
		ctx, cancel := context.WithDeadline(d.Context, d.at)
		w = &waitable{ctx, cancel}
		d.waited.Store(w)
	}
	return w
}

func (d *lazyDeadline) Err() error {
	if w := d.waited.Load(); w != nil {
		return w.Err()
	}
	if err := d.Context.Err(); err != nil {
		return err
	}
	if !time.Now().Before(d.at) {
		return context.DeadlineExceeded
	}
	return nil
}

// stop ends the wait of those that asked for Done, and reports whether there were none: then
// nothing can be waiting for d, and it may be used again.
func (d *lazyDeadline) stop() (unused bool) {
	w := d.waited.Load()
	if w != nil {
		w.cancel()
	}
	return w == nil
}
