// SPDX-License-Identifier: BSD-2-Clause

package room

import "sync"

// Storm guards one source against saying of everybody that the mailbox is full: after a
// change of units, a lost limit, another default. Over an hour it counts the mailboxes that
// had room at the answer before, and those of them that are full now although the gate let
// too little through for that. Above a share of them refusals are held back. It is safe for
// concurrent use.
type Storm struct {
	mu       sync.Mutex
	buckets  [stormBuckets]stormBucket
	holding  bool
	reported bool // what of holding was last reported

	reports sync.Mutex // one at a time; locked before mu
}

type stormBucket struct {
	number      Tick
	asked, full int
}

const (
	stormBucketTicks = Tick(6000) // 10 min
	stormBuckets     = 6
	stormLeast       = 20 // newly full mailboxes
)

// Bits of Entry.marks: the bucket that counted the mailbox, and as what.
const (
	markFull   = 1 << 7
	markBucket = 1<<7 - 1
)

// Note counts an answer about the mailbox of e, and reports whether refusals by this source
// are held back. Share is that of newly full mailboxes above which they are; 1 is never.
func (s *Storm) Note(e *Entry, l *Learnt, now Tick, share float64) (holds bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.WasRoom {
		b := s.bucket(now)
		if mark := uint8(b.number%markBucket) + 1; e.marks&markBucket != mark { //nolint:gosec // below 128
			e.marks = mark
			b.asked++
		}
		if l.NewlyFull && e.marks&markFull == 0 {
			e.marks |= markFull
			b.full++
		}
	}
	s.judge(now, share)
	if s.holding && l.NewlyFull {
		e.Hold()
	}
	return s.holding
}

// Holds reports whether refusals are held back.
func (s *Storm) Holds(now Tick, share float64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.judge(now, share)
	return s.holding
}

// Turned calls report if holding refusals back has begun or ended since the last report.
// Reports are made one after the other, so that the last one is what holds.
func (s *Storm) Turned(report func(holds bool)) {
	if _, turned := s.turned(false); !turned {
		return
	}
	s.reports.Lock()
	defer s.reports.Unlock()
	if holds, turned := s.turned(true); turned {
		report(holds)
	}
}

func (s *Storm) turned(taken bool) (holds, turned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	turned = s.holding != s.reported
	if taken {
		s.reported = s.holding
	}
	return s.holding, turned
}

// Unreported has Turned report again that refusals are held back, if they still are.
func (s *Storm) Unreported() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reported = false
}

// Held reports whether refusals were held back when the source was last heard.
func (s *Storm) Held() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holding
}

// Counts gives the mailboxes counted within the last hour.
func (s *Storm) Counts(now Tick) (asked, full int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sum(now)
}

func (s *Storm) judge(now Tick, share float64) {
	asked, full := s.sum(now)
	s.holding = share < 1 && full >= stormLeast && float64(full) > share*float64(asked)
}

func (s *Storm) sum(now Tick) (asked, full int) {
	number := now / stormBucketTicks
	for i := range s.buckets {
		if b := &s.buckets[i]; number-b.number < stormBuckets {
			asked, full = asked+b.asked, full+b.full
		}
	}
	return asked, full
}

func (s *Storm) bucket(now Tick) *stormBucket {
	number := now / stormBucketTicks
	b := &s.buckets[number%stormBuckets]
	if b.number != number {
		*b = stormBucket{number: number}
	}
	return b
}
