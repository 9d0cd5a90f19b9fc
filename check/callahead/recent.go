// SPDX-License-Identifier: BSD-2-Clause

package callahead

import "sync"

// recent is a bounded map that forgets what was not used for the longest time, in
// two halves: when the younger is full it becomes the older, and the older goes. It
// is safe for concurrent use.
type recent[K comparable, V any] struct {
	half int // entries in one half

	mu         sync.Mutex
	young, old map[K]V
}

func newRecent[K comparable, V any](limit int) *recent[K, V] {
	return &recent[K, V]{half: max(limit/2, 1), young: make(map[K]V)}
}

// update gives f what is kept under k, zero if nothing is, and keeps what it gives
// back. No other update comes between.
func (r *recent[K, V]) update(k K, f func(v V) V) {
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

// get gives what is kept under k, zero if nothing is.
func (r *recent[K, V]) get(k K) V {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v, known := r.young[k]; known {
		return v
	}
	return r.old[k]
}

// remove forgets k.
func (r *recent[K, V]) remove(k K) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.young, k)
	delete(r.old, k)
}
