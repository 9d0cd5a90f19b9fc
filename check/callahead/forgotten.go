// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"sync"
	"time"

	"rcptgate/store"
)

const (
	// forgottenFor is how long what was forgotten is asked about on fresh connections.
	// Afterwards no connection is left that was open at the forget (see the default of
	// connection_age).
	forgottenFor = 5 * time.Minute
	// maxForgotten bounds the patterns that are told apart; beyond, all questions use
	// fresh connections for a while.
	maxForgotten = 256
)

// forgotten is what was forgotten lately. Something has changed on the server then, and
// the sessions that are open may not have heard of it: Postfix looks for changed tables
// between sessions only.
type forgotten struct {
	mu    sync.Mutex
	list  []forget
	until time.Time // everything was forgotten
}

type forget struct {
	pattern store.Pattern
	until   time.Time
}

func (f *forgotten) add(p store.Pattern, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := f.list[:0]
	for _, old := range f.list {
		if now.Before(old.until) && old.pattern != p {
			kept = append(kept, old)
		}
	}
	f.list = kept
	if len(f.list) >= maxForgotten {
		f.list, f.until = nil, now.Add(forgottenFor)
		return
	}
	f.list = append(f.list, forget{p, now.Add(forgottenFor)})
}

// has reports whether what is under key was forgotten lately.
func (f *forgotten) has(key string, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Before(f.until) {
		return true
	}
	for _, old := range f.list {
		if now.Before(old.until) && old.pattern.Matches(key) {
			return true
		}
	}
	return false
}

// Forget keeps later questions from joining a probe that began before an answer was
// forgotten, and has them asked on fresh connections. Call it after the memory has
// forgotten; the memory itself drops what such probes find out.
func (s *State) Forget(p store.Pattern) {
	s.forgotten.add(p, time.Now())
	if p.Address == "" {
		s.books.RemoveFunc(func(k pair) bool { return p.Domain == "" || p.Domain == k.domain })
	}
	s.flights.Forget(func(k flightKey) bool { return p.Matches(k.key) })
}
