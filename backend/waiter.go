// SPDX-License-Identifier: BSD-2-Clause

package backend

import "time"

// waiter is a probe that waits for a connection.
type waiter struct {
	ready      chan grant // of capacity 1; gets exactly one grant once w is in no queue
	due        time.Time
	since      time.Time
	in         *waiters // nil once it has been given something
	prev, next *waiter
}

// grant is a connection, or why there will be none.
type grant struct {
	c    *conn
	fail *Failure
}

// newWaiter makes a waiter, or takes one that freeWaiter gave back.
func (p *pool) newWaiter(due time.Time) *waiter {
	w, ok := p.free.Get().(*waiter)
	if !ok {
		w = &waiter{ready: make(chan grant, 1)}
	}
	w.due, w.since = due, time.Now()
	return w
}

// freeWaiter is called when the grant was taken, or none will come.
func (p *pool) freeWaiter(w *waiter) { p.free.Put(w) }

// waiters is a queue from whose middle one can leave.
type waiters struct {
	first, last *waiter
	n           int
}

func (q *waiters) push(w *waiter) {
	w.in, w.prev, w.next = q, q.last, nil
	if q.last != nil {
		q.last.next = w
	} else {
		q.first = w
	}
	q.last = w
	q.n++
}

func (q *waiters) remove(w *waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		q.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		q.last = w.prev
	}
	w.in, w.prev, w.next = nil, nil, nil
	q.n--
}

// pop gives the first, nil when there is none.
func (q *waiters) pop() *waiter {
	w := q.first
	if w != nil {
		q.remove(w)
	}
	return w
}
