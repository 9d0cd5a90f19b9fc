// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"fmt"
	"runtime"
	"runtime/metrics"
	"time"

	"rcptgate/config/setting"
)

// tick is how often calls are looked at while there are any; a call that ends before is not
// seen at all. restAfter is how many looks without a call send the watch to sleep.
const (
	tick      = 10 * time.Millisecond
	restAfter = 100
)

// watch ends calls whose time is over, and all of them when memory grows beyond its bound.
// It sleeps while nothing is called.
func (rs *runners) watch() {
	timer := time.NewTicker(tick)
	defer timer.Stop()
	m := newHeap(rs.memory)
	idle := 0
	for {
		select {
		case <-rs.stop:
			return
		case <-timer.C:
		}
		if rs.look(time.Now(), m) {
			idle = 0
			continue
		}
		if idle++; idle < restAfter {
			continue
		}
		timer.Stop()
		rs.asleep.Store(true)
		select {
		case <-rs.stop:
			return
		case <-rs.wake:
		}
		rs.asleep.Store(false)
		timer.Reset(tick)
		idle = 0
	}
}

// look looks at all calls once, and reports whether there are any.
func (rs *runners) look(now time.Time, m *heap) (busy bool) {
	grown := uint64(0)
	for pass := range 2 {
		for i := range rs.shards {
			s := &rs.shards[i]
			s.mu.Lock()
			for r := range s.all {
				ends := r.state.Load()
				if ends <= 0 {
					continue
				}
				busy = true
				switch {
				case now.UnixNano() > ends:
					r.cancel(ends, "its time is over")
				case grown > 0:
					r.cancel(ends, m.words(grown))
				}
			}
			s.mu.Unlock()
		}
		if pass == 0 {
			if !busy {
				m.rest()
				return false
			}
			if grown = m.excess(now); grown == 0 {
				return true
			}
		}
	}
	return busy
}

// cancel ends the call that has to end at that time.
func (r *runner) cancel(ends int64, why string) {
	if r.state.CompareAndSwap(ends, -1) {
		r.why.Store(&why)
		r.thread.Cancel(why)
	}
}

// heap watches the memory of the process.
type heap struct {
	limit   int64
	base    uint64 // what lives while no call is seen
	sample  []metrics.Sample
	checked time.Time
}

const (
	heapObjects = "/memory/classes/heap/objects:bytes"
	heapLive    = "/gc/heap/live:bytes"
)

// checkEvery is the least time between two collections that the watch asks for.
const checkEvery = time.Second

func newHeap(limit int64) *heap {
	h := &heap{limit: limit, sample: []metrics.Sample{{Name: heapObjects}, {Name: heapLive}}}
	h.rest()
	return h
}

func (h *heap) read() (objects, live uint64) {
	metrics.Read(h.sample)
	return h.sample[0].Value.Uint64(), h.sample[1].Value.Uint64()
}

// rest notes what the process needs without calls.
func (h *heap) rest() { _, h.base = h.read() }

// excess is by how much memory has grown, if that is beyond the limit; else 0. What is only
// garbage does not count: a collection tells.
func (h *heap) excess(now time.Time) uint64 {
	objects, live := h.read()
	limit := h.base + uint64(h.limit) // #nosec G115 -- above 0
	if live > limit {
		return live - h.base
	}
	// Between collections a heap doubles.
	if objects <= max(2*h.base, h.base+uint64(h.limit)/2)+uint64(h.limit) || now.Sub(h.checked) < checkEvery { // #nosec G115 -- as above
		return 0
	}
	h.checked = now
	runtime.GC()
	if _, live = h.read(); live > limit {
		return live - h.base
	}
	return 0
}

// words say by how much memory has grown.
func (h *heap) words(grown uint64) string {
	return fmt.Sprintf("memory has grown by %s while it ran: [script] memory is %s", setting.Size(grown&^(1<<20-1)), setting.Size(h.limit)) // #nosec G115 -- octets
}
