// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"cmp"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate/kit/notice"
	"rcptgate/kit/recent"
	"rcptgate/metric"
	"rcptgate/view"
)

// sayEvery is the least time between two log lines about one line of the script.
const sayEvery = time.Minute

// reporter counts calls and failures, and logs the latter. It outlives configurations. A nil
// reporter does nothing.
type reporter struct {
	log   *slog.Logger
	board *notice.Board
	said  atomic.Pointer[recent.Map[string, time.Time]]

	mu   sync.Mutex
	read atomic.Pointer[map[string]*count] // copied when it changes
}

// count is what became of the calls of one function.
type count struct {
	calls, failed atomic.Uint64
	last          atomic.Pointer[Error]
	at            atomic.Int64
}

func newReporter(log *slog.Logger, board *notice.Board) *reporter {
	r := &reporter{log: log, board: board}
	r.said.Store(newSaid())
	r.read.Store(&map[string]*count{})
	return r
}

// countsMax bounds the functions that are counted.
const countsMax = 1000

// of gives the count of a function.
func (r *reporter) of(name string) *count {
	if c := (*r.read.Load())[name]; c != nil {
		return c
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old := *r.read.Load()
	if c := old[name]; c != nil {
		return c
	}
	if len(old) >= countsMax {
		return new(count)
	}
	next := make(map[string]*count, len(old)+1)
	for k, v := range old {
		next[k] = v
	}
	next[name] = new(count)
	r.read.Store(&next)
	return next[name]
}

func (r *reporter) called(name string) {
	if r != nil {
		r.of(name).calls.Add(1)
	}
}

// failed counts a failure, and logs it at most once a minute for each line of the script.
func (r *reporter) failed(f *function, err error) {
	var e *Error
	if r == nil || !errors.As(err, &e) {
		return
	}
	c := r.of(f.name)
	c.calls.Add(1)
	c.failed.Add(1)
	c.last.Store(e)
	now := time.Now()
	c.at.Store(now.UnixNano())
	due := false
	r.said.Load().Update(e.Place, func(last time.Time) time.Time {
		if due = now.Sub(last) >= sayEvery; due {
			return now
		}
		return last
	})
	if !due {
		return
	}
	r.log.Error("a function of the script failed", "function", f.name, "place", e.Place, "error", e.Text, "on_error", f.p.config.OnError, "backtrace", e.Backtrace)
	r.board.Warn(matter+e.Place, "a function of the script fails", "function", f.name, "place", e.Place, "error", e.Text)
}

// renewed has what failed in the script before no longer need attention: it may be mended. If
// it is not, its next failure is logged and reported at once.
func (r *reporter) renewed() {
	r.board.ClearAll(matter)
	r.said.Store(newSaid())
}

// matter begins the keys of notices about lines of the script.
const matter = "script: "

func newSaid() *recent.Map[string, time.Time] { return recent.New[string, time.Time](1000) }

func (r *reporter) names() []string {
	var list []string
	for name := range *r.read.Load() {
		list = append(list, name)
	}
	slices.SortFunc(list, cmp.Compare[string])
	return list
}

func (r *reporter) metrics() []metric.Family {
	family := func(name, help string, of func(*count) uint64) metric.Family {
		return metric.Family{Kind: metric.Counter, Name: name, Help: help, Labels: []string{"function"}, Read: func(emit metric.Emit) {
			for _, n := range r.names() {
				emit(float64(of(r.of(n))), n)
			}
		}}
	}
	return []metric.Family{
		family("script_calls_total", "Calls of the script's functions.", func(c *count) uint64 { return c.calls.Load() }),
		family("script_failures_total", "Calls of the script's functions that failed.", func(c *count) uint64 { return c.failed.Load() }),
	}
}

// show lists the functions that were called.
func (r *reporter) show() view.Table {
	t := scriptTable()
	for _, n := range r.names() {
		c := r.of(n)
		if e := c.last.Load(); e != nil {
			t.Add("", n, c.calls.Load(), c.failed.Load(), time.Unix(0, c.at.Load()), e.Place, e.Text)
		} else {
			t.Add("", n, c.calls.Load(), c.failed.Load(), nil, nil, nil)
		}
	}
	return t
}

// scriptTable is the table "script" without rows.
func scriptTable() view.Table {
	return view.Table{
		Name: "script", Title: "Script", Empty: "nothing was called",
		Doc: "functions of the script; shown if there is one",
		Columns: view.Explained(
			"function", "Function", "its name",
			"calls", "Calls", "how often it was called",
			"failed", "Failed", "calls that ended with an error",
			"at", "Last failure", "when one last did",
			"place", "Place", "file and line of it",
			"error", "Error", "what it said",
		),
	}
}
