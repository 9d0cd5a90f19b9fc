// SPDX-License-Identifier: BSD-2-Clause

package callahead

import "time"

// When a directory fails, everybody looks unknown. Demotion stops while more than
// one in heldShare of a domain's refreshes within an hour say so, and at least
// heldLeast.
const (
	windowSpan    = time.Hour
	windowBuckets = 12
	heldLeast     = 10
	heldShare     = 20
	windowNames   = 4096 // recipients told apart
)

// window counts a domain's refreshes over the last hour, in steps of five minutes.
// A recipient that is unknown counts once an hour, though it is asked about every
// ten minutes and the valid ones once a day: else two deleted accounts would look
// like a directory that fails.
type window struct {
	slots   [windowBuckets]slot
	unknown map[string]time.Time // when a recipient was last counted as unknown
	until   time.Time            // nothing is demoted before
}

type slot struct {
	number         int64 // of the five minutes since 1970
	total, unknown int
}

func slotNumber(now time.Time) int64 {
	return now.UnixNano() / int64(windowSpan/windowBuckets)
}

func (w *window) slot(now time.Time) *slot {
	n := slotNumber(now)
	s := &w.slots[n%windowBuckets]
	if s.number != n {
		*s = slot{number: n}
	}
	return s
}

// count adds one refresh.
func (w *window) count(key string, unknown bool, now time.Time) {
	if !unknown {
		w.slot(now).total++
		return
	}
	if last, seen := w.unknown[key]; seen && now.Sub(last) < windowSpan {
		return
	}
	if len(w.unknown) >= windowNames {
		for k, last := range w.unknown {
			if now.Sub(last) >= windowSpan {
				delete(w.unknown, k)
			}
		}
	}
	if w.unknown == nil {
		w.unknown = make(map[string]time.Time)
	}
	if len(w.unknown) < windowNames {
		w.unknown[key] = now
	}
	s := w.slot(now)
	s.total++
	s.unknown++
}

// over reports whether too many refreshes say unknown.
func (w *window) over(now time.Time) bool {
	total, unknown := 0, 0
	for _, s := range w.slots {
		if slotNumber(now)-s.number < windowBuckets {
			total += s.total
			unknown += s.unknown
		}
	}
	return unknown >= heldLeast && unknown*heldShare > total
}

// held reports whether demotion stops: while too many refreshes say unknown, and
// until the window has seen an hour without, since a failure that lasts begins every
// hour with few.
func (w *window) held(now time.Time) bool {
	if w.over(now) {
		w.until = now.Add(windowSpan + windowSpan/windowBuckets)
	}
	return now.Before(w.until)
}

// countRefresh adds a refresh to its domain's window. It reports whether demotion
// stops with it.
func (s *State) countRefresh(domain, key string, unknown bool, now time.Time) (begins bool) {
	s.windows.Update(domain, func(w *window) *window {
		if w == nil {
			w = new(window)
		}
		before := now.Before(w.until)
		w.count(key, unknown, now)
		begins = unknown && !before && w.held(now)
		return w
	})
	return begins
}

// held reports whether nothing of the domain may be demoted at the moment.
func (s *State) held(domain string, now time.Time) bool {
	held := false
	s.windows.Update(domain, func(w *window) *window {
		if w == nil {
			return new(window)
		}
		held = w.held(now)
		return w
	})
	return held
}
