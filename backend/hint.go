// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"cmp"
	"slices"
	"time"
)

// OnBreaker has f called whenever a backend's breaker opens or closes, in the order in
// which that happens to one backend. The backend is locked meanwhile: f must return at
// once and must not call the Set.
func OnBreaker(f func(a Address, open bool)) Option {
	return func(s *Set) { s.tune.onBreaker = f }
}

// WatchBreakers is OnBreaker for a set that was made already, before it has any backend.
// It may be called several times: all hear of each change.
func (s *Set) WatchBreakers(f func(a Address, open bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.tune.onBreaker
	s.tune.onBreaker = func(a Address, open bool) {
		if first != nil {
			first(a, open)
		}
		f(a, open)
	}
}

// Used is a backend and whether its breaker is open.
type Used struct {
	Address Address
	Open    bool
}

// Used lists the backends that were asked within the time given, in the order of
// their names.
func (s *Set) Used(within time.Duration) []Used {
	since := time.Now().Add(-within).UnixNano()
	var list []Used
	s.mu.RLock()
	for a, b := range s.backends {
		if b.lastUse.Load() >= since {
			list = append(list, Used{a, b.breaker.isOpen.Load()})
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(list, func(a, b Used) int { return cmp.Compare(a.Address.String(), b.Address.String()) })
	return list
}

// Suspect reports that another gateway has found the backend at a down. That alone
// changes nothing: the backend is tried once in the background, up to MAIL and
// without naming a recipient, and only if that fails the breaker opens, before a
// question has paid for it. Nothing is tried while the breaker is open, when the
// backend has answered or was tried for this reason within the time between two
// trials, when all its connections are in use, or when it was never used here. It
// reports whether a trial has begun.
func (s *Set) Suspect(a Address) bool {
	s.mu.RLock()
	b := s.backends[a]
	s.mu.RUnlock()
	return b != nil && b.pool.hasRoom() && b.breaker.suspect(trialUsual)
}
