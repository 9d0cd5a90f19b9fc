// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.starlark.net/starlark"

	"rcptgate"
	"rcptgate/check/script/star"
)

// function is one function of a script, as a check.
type function struct {
	p    *Program
	name string
	f    *starlark.Function
}

// Error is a call that failed.
type Error struct {
	Function  string
	Place     string // the line: "/etc/rcptgate/filter.star:12:5"
	Text      string
	Backtrace string
}

// Error gives the place and the text.
func (e *Error) Error() string {
	return fmt.Sprintf("script: %s: %s(): %s", e.Place, e.Function, e.Text)
}

// Check calls the function. The error is an [Error].
func (f *function) Check(ctx context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
	r := f.p.runners.take(q.Lane())
	v, err := r.call(ctx, q, f)
	steps := r.steps
	f.p.runners.give(r) // it is another call's from here on
	if err != nil {
		if q.Trace.Explain {
			q.Trace.Note(err.Error())
		}
		if !q.Inquiry { // whoever asks reads it in the trace
			f.p.report.failed(f, err)
		}
		return rcptgate.Verdict{}, err
	}
	if !q.Inquiry {
		f.p.report.called(f.name)
	}
	if q.Trace.Explain {
		q.Trace.Note(fmt.Sprintf("%s() took %d steps", f.name, steps))
	}
	return v, nil
}

// runner is what a call needs; it is used again.
type runner struct {
	thread  *starlark.Thread
	call0   star.Call
	args    [1]starlark.Value
	steps   uint64
	shard   *shard
	lanes   chan struct{}   // of the runners
	inLane  bool            // it has taken one of the lanes
	entered time.Time       // when it did
	ctx     context.Context //nolint:containedctx // of the call
	began   time.Time       // the call
	limit   uint64          // steps of the call
	due     uint64          // steps at which it pauses
	// state is when the call has to end, in nanoseconds since 1970; 0 between calls, -1 once
	// the watch has ended it.
	state atomic.Int64
	why   atomic.Pointer[string] // it was ended
}

func newRunner(p *Program) *runner {
	r := new(runner)
	r.call0.Env = p.env
	r.thread = r.call0.NewThread("call")
	r.thread.OnMaxSteps = r.pause
	r.call0.Waits, r.call0.Works = r.leave, r.work
	return r
}

// farOff is a deadline for a question without one.
const farOff = time.Minute

// call runs a function of one argument. It never panics.
func (r *runner) call(ctx context.Context, q *rcptgate.Query, f *function) (v rcptgate.Verdict, err error) {
	if err := ctx.Err(); err != nil {
		return v, f.failure(err, "")
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(farOff)
	}
	r.thread.Steps = 0
	r.ctx, r.began, r.limit = ctx, q.Now(), uint64(f.p.config.Steps) // #nosec G115 -- above 0
	r.goOn(slice)
	r.args[0] = r.call0.Begin(ctx, q)
	r.state.Store(deadline.UnixNano())
	defer func() {
		r.leave()
		r.call0.End()
		r.args[0], r.ctx = nil, nil
		if p := recover(); p != nil {
			r.state.Store(-1) // the thread is in no state to be used again
			v, err = rcptgate.Verdict{}, f.failure(fmt.Errorf("%v", p), string(debug.Stack()))
		}
	}()
	result, err := starlark.Call(r.thread, f.f, r.args[:], nil)
	r.steps = r.thread.Steps
	if err != nil {
		return v, f.failure(err, "")
	}
	if v, err = star.Result(result, q.Stage); err != nil {
		return rcptgate.Verdict{}, f.failure(err, "")
	}
	if q.Message != nil && !v.Action.Refuses() && !v.Action.Discards() {
		if err := r.call0.Apply(); err != nil {
			return rcptgate.Verdict{}, f.failure(err, "")
		}
	}
	return v, nil
}

// failure makes an Error of what Starlark says.
func (f *function) failure(err error, stack string) error {
	e := &Error{Function: f.name, Place: f.f.Position().String(), Text: err.Error(), Backtrace: stack}
	var eval *starlark.EvalError
	if errors.As(err, &eval) {
		e.Text, e.Backtrace = eval.Msg, eval.Backtrace()
		if at := place(eval); at.IsValid() {
			e.Place = at.String()
		}
	}
	return e
}

// shards of runners: calls on one connection use one of them mostly.
const shardCount = 16

// spareMax bounds the runners that wait in one shard.
const spareMax = 32

// runners has those that wait, and watches those that work.
type runners struct {
	p      *Program
	memory int64
	shards [shardCount]shard
	lanes  chan struct{} // places for long calls

	asleep atomic.Bool
	wake   chan struct{}
	stop   chan struct{}
	done   sync.WaitGroup
}

type shard struct {
	mu    sync.Mutex
	spare []*runner
	all   map[*runner]struct{}
}

func newRunners(p *Program, memory int64) *runners {
	rs := &runners{p: p, memory: memory, lanes: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-1)), wake: make(chan struct{}, 1), stop: make(chan struct{})}
	for i := range rs.shards {
		rs.shards[i].all = make(map[*runner]struct{})
	}
	rs.done.Go(rs.watch)
	return rs
}

func (rs *runners) close() {
	close(rs.stop)
	rs.done.Wait()
}

func (rs *runners) take(lane uint32) *runner {
	if rs.asleep.Load() {
		select {
		case rs.wake <- struct{}{}:
		default:
		}
	}
	s := &rs.shards[lane%shardCount]
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.spare); n > 0 {
		r := s.spare[n-1]
		s.spare = s.spare[:n-1]
		return r
	}
	r := newRunner(rs.p)
	r.shard, r.lanes = s, rs.lanes
	s.all[r] = struct{}{}
	return r
}

// give puts a runner back, unless its call was ended from outside: the end might reach the
// next call.
func (rs *runners) give(r *runner) {
	ended := r.state.Swap(0) < 0
	s := r.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	if ended || len(s.spare) >= spareMax {
		delete(s.all, r)
		return
	}
	s.spare = append(s.spare, r)
}
