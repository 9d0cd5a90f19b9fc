// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"rcptgate/store"
)

// queue is what waits to be written, by key: the newest order for each, in the
// order in which the keys came. Reads look here first, so what was put is seen at
// once. It is bounded: when the disk cannot keep up the oldest orders are dropped,
// and counted. Refusals wait in a lane of their own, so that no flood of them makes
// the others drop.
type queue struct {
	mu      sync.Mutex
	ops     map[string]*op
	lanes   [lanes]lane
	dropped uint64
	forgets []*forget // not yet carried out, in order
}

type lane struct {
	order []string // keys that wait; may name some that no longer do
	ops   int      // orders of this lane, those that are being written included
	limit int
}

const (
	laneKeep = iota
	laneRefuse
	lanes
)

func newQueue(limit int) *queue {
	q := &queue{ops: map[string]*op{}}
	q.lanes[laneRefuse].limit = limit / 4
	q.lanes[laneKeep].limit = limit - limit/4
	return q
}

type opKind uint8

const (
	opPut opKind = iota
	opDelete
	opProve // the line is in use: move it to partProven
)

// op is one order. Once it is queued, nothing but queued changes: the writer reads the
// rest without the queue's lock. What changes an order puts another in its place.
type op struct {
	key    string
	kind   opKind
	rec    store.Record
	proven bool // a put: the key's valid answer was learnt anew
	lane   int
	queued bool // its key is in its lane's order; otherwise it is being written
}

// forget is an order to forget, which masks what is in the file until it is done.
type forget struct {
	tomb store.Tombstone
	keys []string // records that were waiting to be written and match
	n    int      // records forgotten
	// Lines below this id are hidden: all of them until the writer has begun.
	hides int64
	begun bool
	at    page       // the last line looked at
	done  chan error // has room for one; the first attempt's outcome
}

// tell gives the first attempt's outcome to the caller that ordered it.
func (f *forget) tell(err error) {
	select {
	case f.done <- err:
	default:
	}
}

// maxForgets bounds the forgets that a failing disk leaves undone. Beyond it they
// become one that forgets everything: that is always safe.
const maxForgets = 1000

// forgetsAtOnce is how many orders may be carried out in one transaction.
const forgetsAtOnce = 256

// set and remove keep the lanes' counts.
func (q *queue) set(o *op) {
	q.remove(o.key)
	q.ops[o.key] = o
	q.lanes[o.lane].ops++
}

func (q *queue) remove(key string) {
	if o, ok := q.ops[key]; ok {
		q.lanes[o.lane].ops--
		delete(q.ops, key)
	}
}

// put queues an order and reports how many wait.
func (q *queue) put(o *op) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	old, exists := q.ops[o.key]
	if exists && o.kind == opProve {
		q.prove(old)
		return len(q.ops)
	}
	if o.kind == opPut && o.rec.Refuses() {
		o.lane = laneRefuse
	}
	if exists && old.kind == opPut && !old.rec.Refuses() {
		o.proven = old.proven || o.rec.Standing.Learnt.After(old.rec.Standing.Learnt)
	}
	o.queued = !exists || old.queued
	q.set(o)
	lane := &q.lanes[o.lane]
	if o.queued && (!exists || old.lane != o.lane) {
		lane.order = append(lane.order, o.key)
	}
	if len(lane.order) > 2*lane.limit {
		q.compact(o.lane)
	}
	for lane.ops > lane.limit && q.dropOldest(o.lane) {
	}
	return len(q.ops)
}

// prove has an order that waits write a record that is in use. One that is being written
// is written once more.
func (q *queue) prove(old *op) {
	if old.kind != opPut || old.proven || old.rec.Refuses() {
		return
	}
	o := *old
	o.proven = true
	q.ops[o.key] = &o
}

// compact leaves each key that waits in a lane's order once.
func (q *queue) compact(lane int) {
	l := &q.lanes[lane]
	seen := make(map[string]bool, l.ops)
	l.order = slices.DeleteFunc(l.order, func(key string) bool {
		o, ok := q.ops[key]
		if seen[key] || !ok || !o.queued || o.lane != lane {
			return true
		}
		seen[key] = true
		return false
	})
}

// next takes the first key that waits out of a lane's order.
func (q *queue) next(lane int) (o *op, ok bool) {
	l := &q.lanes[lane]
	for len(l.order) > 0 {
		o, ok = q.ops[l.order[0]]
		l.order = l.order[1:]
		if ok && o.queued && o.lane == lane {
			return o, true
		}
	}
	return nil, false
}

func (q *queue) dropOldest(lane int) bool {
	o, ok := q.next(lane)
	if ok {
		q.remove(o.key)
		q.dropped++
	}
	return ok
}

// get gives the order that waits for key, nil for none, and the id below which the file's
// line under it has been forgotten already.
func (q *queue) get(key string) (o *op, hides int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	o = q.ops[key]
	for _, f := range q.forgets {
		if f.tomb.Pattern.Matches(key) {
			hides = max(hides, f.hides)
		}
	}
	return o, hides
}

// begin marks where the lines end that f is about.
func (q *queue) begin(f *forget, next int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f.hides, f.begun = next, true
}

// take appends up to n orders to write to list, of both lanes in turn. They stay visible
// until done or failed.
func (q *queue) take(list []*op, n int) []*op {
	q.mu.Lock()
	defer q.mu.Unlock()
	for empty := 0; len(list) < n && empty < lanes; {
		empty = 0
		for lane := range q.lanes {
			o, ok := q.next(lane)
			if !ok {
				empty++
				continue
			}
			o.queued = false
			list = append(list, o)
		}
	}
	return list
}

// done removes what was written; what changed meanwhile waits again.
func (q *queue) done(list []*op) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, written := range list {
		switch o, ok := q.ops[written.key]; {
		case !ok || o.queued:
		case o == written:
			q.remove(o.key)
		default:
			o.queued = true
			q.lanes[o.lane].order = append(q.lanes[o.lane].order, o.key)
		}
	}
}

// failed puts orders back to the front.
func (q *queue) failed(list []*op) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var keys [lanes][]string
	for _, tried := range list {
		if o, ok := q.ops[tried.key]; ok && !o.queued {
			o.queued = true
			keys[o.lane] = append(keys[o.lane], o.key)
		}
	}
	for lane := range q.lanes {
		l := &q.lanes[lane]
		l.order = append(keys[lane], l.order...)
	}
}

// forget takes out what matches and masks the file until the order is done.
func (q *queue) forget(tomb store.Tombstone) *forget {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := &forget{tomb: tomb, done: make(chan error, 1), hides: math.MaxInt64}
	if key := tomb.Pattern.Address; key != "" {
		q.drop(f, key)
	} else {
		for key := range q.ops {
			if tomb.Pattern.Matches(key) {
				q.drop(f, key)
			}
		}
		for lane := range q.lanes {
			q.compact(lane)
		}
	}
	if len(q.forgets) >= maxForgets {
		f.tomb.Pattern, f.tomb.Spare = store.Pattern{}, time.Time{}
		for _, old := range q.forgets {
			old.tell(errUnavailable)
		}
		q.forgets = nil
	}
	q.forgets = append(q.forgets, f)
	return f
}

// drop takes out the order that waits for key, if one does, since f is newer.
func (q *queue) drop(f *forget, key string) {
	o, waits := q.ops[key]
	if waits && o.kind == opPut {
		if f.tomb.Spares(&o.rec) {
			return
		}
		f.keys = append(f.keys, key)
	}
	q.remove(key)
}

// nextForgets gives the forgets to apply next, none if there are none.
func (q *queue) nextForgets() []*forget {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.forgets[:min(len(q.forgets), forgetsAtOnce)])
}

// forgotten takes out orders that have been carried out, and wakes their callers.
func (q *queue) forgotten(orders []*forget) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.forgets = slices.DeleteFunc(q.forgets, func(f *forget) bool { return slices.Contains(orders, f) })
	for _, f := range orders {
		f.tell(nil)
	}
}

// waiting gives a copy of the orders.
func (q *queue) waiting() map[string]*op {
	q.mu.Lock()
	defer q.mu.Unlock()
	return maps.Clone(q.ops)
}

func (q *queue) len() (ops int, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.ops), q.dropped
}
