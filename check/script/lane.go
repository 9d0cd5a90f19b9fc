// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"errors"
	"runtime"
	"time"

	"go.starlark.net/starlark"
)

// Calls take steps, slice at a time. A call of more than shortSteps, or of more time than
// shortTime, goes on in a lane, of which there are one fewer than processors, and lets others
// go first after each slice: however many calls there are that do not end, a processor is
// left for the rest. A call keeps its lane for laneTime: one that waits for it would go before
// all others, which wait for the processor.
const (
	slice      = 250
	shortSteps = 10_000
	shortTime  = time.Millisecond
	laneTime   = 10 * time.Millisecond
)

// pause is called when a call has taken the steps that it was allowed.
func (r *runner) pause(t *starlark.Thread) {
	switch {
	case t.Steps >= r.limit:
		r.end("too many steps")
		return
	case t.Steps < shortSteps && time.Since(r.began) < shortTime:
		r.goOn(slice)
		return
	}
	if !r.inLane || time.Since(r.entered) >= laneTime {
		r.leave()
	}
	runtime.Gosched()
	if r.inLane && r.ctx.Err() == nil {
		r.goOn(shortSteps)
		return
	}
	r.leave()
	select {
	case r.lanes <- struct{}{}:
		r.inLane, r.entered = true, time.Now()
		r.goOn(shortSteps)
	case <-r.ctx.Done():
		r.end("its time is over")
	}
}

// goOn allows the call more steps before the next pause.
func (r *runner) goOn(steps uint64) {
	r.due = min(r.limit, r.thread.Steps+steps)
	r.thread.SetMaxExecutionSteps(r.due)
}

var errEnded = errors.New("the call was ended")

// work counts the steps of a word that takes long, and pauses as often as a function's own steps
// would.
func (r *runner) work(steps int) error {
	r.thread.Steps += uint64(steps) // #nosec G115 -- a length
	if r.thread.Steps >= r.due {
		r.pause(r.thread)
	}
	if r.state.Load() >= 0 {
		return nil
	}
	if why := r.why.Load(); why != nil {
		return errors.New(*why)
	}
	return errEnded
}

// end cancels the call from within. A thread stays cancelled: the runner is not used again.
func (r *runner) end(why string) {
	r.leave()
	r.why.Store(&why)
	r.state.Store(-1)
	r.thread.Cancel(why)
}

// leave gives the lane back: at the end, or before the call waits for something else. The
// next step takes one again.
func (r *runner) leave() {
	if r.inLane {
		r.inLane = false
		<-r.lanes
		r.goOn(0)
	}
}
