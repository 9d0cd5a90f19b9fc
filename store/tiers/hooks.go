// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"sync"

	"rcptgate/store"
)

// hooks are the subscribers to what is forgotten.
type hooks struct {
	mu   sync.Mutex
	list []func(store.Pattern)
}

func (h *hooks) add(f func(store.Pattern)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list[:len(h.list):len(h.list)], f) // calls in progress keep the old list
}

func (h *hooks) call(p store.Pattern) {
	h.mu.Lock()
	list := h.list
	h.mu.Unlock()
	for _, f := range list {
		f(p)
	}
}
