// SPDX-License-Identifier: BSD-2-Clause

// Package recent has a bounded map for what was learnt on the way: who was asked last, what
// was logged an hour ago. It forgets what was not updated for the longest time, and costs
// nothing but its entries.
package recent

import "sync"

// Map is a bounded map in two halves: when the younger is full it becomes the older, and
// the older one is dropped. Make one with New; it is safe for concurrent use.
type Map[K comparable, V any] struct {
	half int // entries in one half

	mu         sync.Mutex
	young, old map[K]V
}

// New makes a Map of at most limit entries.
func New[K comparable, V any](limit int) *Map[K, V] {
	return &Map[K, V]{half: max(limit/2, 1), young: make(map[K]V)}
}

// Update gives f what is kept under k, zero if nothing is, and keeps what it gives
// back. No other update comes between; f must not call the map.
func (r *Map[K, V]) Update(k K, f func(v V) V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, known := r.young[k]
	if !known {
		v = r.old[k]
		if len(r.young) >= r.half {
			r.young, r.old = make(map[K]V), r.young
		}
	}
	r.young[k] = f(v)
}

// Get gives what is kept under k, zero if nothing is.
func (r *Map[K, V]) Get(k K) V {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v, known := r.young[k]; known {
		return v
	}
	return r.old[k]
}

// Remove forgets k.
func (r *Map[K, V]) Remove(k K) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.young, k)
	delete(r.old, k)
}

// RemoveFunc forgets every key that matches.
func (r *Map[K, V]) RemoveFunc(matches func(k K) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, half := range []map[K]V{r.young, r.old} {
		for k := range half {
			if matches(k) {
				delete(half, k)
			}
		}
	}
}

// Len is how many entries there are.
func (r *Map[K, V]) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.young)
	for k := range r.old {
		if _, twice := r.young[k]; !twice {
			n++
		}
	}
	return n
}
