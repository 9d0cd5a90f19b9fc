// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"sync"
	"sync/atomic"
	"time"

	"rcptgate"
	"rcptgate/metric"
)

// hits counts how often a rule matched since the daemon started. It outlives
// configurations: a rule is known by its name.
type hits struct {
	lanes [8]struct { // by Query.Lane: a rule that matches everything must not be what all processors write to
		n    atomic.Uint64
		last atomic.Int64 // seconds since 1970; 0: never
		_    [48]byte
	}
}

// add counts a hit, unless a person asks.
func (h *hits) add(q *rcptgate.Query) {
	if q.Inquiry {
		return
	}
	l := &h.lanes[q.Lane()%uint32(len(h.lanes))]
	l.n.Add(1)
	if s := q.Now().Unix(); s > l.last.Load() {
		l.last.Store(s)
	}
}

// read gives the number of hits, and the time of the last; the zero time is never.
func (h *hits) read() (n uint64, last time.Time) {
	seconds := int64(0)
	for i := range h.lanes {
		n += h.lanes[i].n.Load()
		seconds = max(seconds, h.lanes[i].last.Load())
	}
	if seconds > 0 {
		last = time.Unix(seconds, 0)
	}
	return n, last
}

// counters are the hits of all rules by name and action.
type counters struct {
	mu  sync.Mutex
	all map[counted]*hits
}

type counted struct {
	name string
	act  Action
}

// keep forgets rules that a configuration does not have.
func (c *counters) keep(check *Check) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.all {
		if check == nil || !check.has(key) {
			delete(c.all, key)
		}
	}
}

// metrics emits the hits of each rule.
func (c *counters) metrics(emit metric.Emit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, h := range c.all {
		n, _ := h.read()
		emit(float64(n), key.name, key.act.String())
	}
}

// of gives the counter of a rule, made when it is new.
func (c *counters) of(name string, act Action) *hits {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = make(map[counted]*hits)
	}
	h := c.all[counted{name, act}]
	if h == nil {
		h = new(hits)
		c.all[counted{name, act}] = h
	}
	return h
}
