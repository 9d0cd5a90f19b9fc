// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"sync"
	"sync/atomic"
	"time"
)

// Health is what is known of one backend at one moment. Counters count from the
// start of the daemon.
type Health struct {
	Backend string
	// Open: the breaker is open, nothing is asked. Since is when that last changed
	// (or when the backend was first used).
	Open  bool
	Since time.Time
	// LastError is why the last failure happened that concerned the backend; empty: none.
	LastError   string
	LastErrorAt time.Time
	LastAnswer  time.Time // when MAIL was last answered

	// Connections at this moment.
	Idle, Busy, Opening, Closing int
	Overdue                      int // busy ones whose asker no longer waits
	Limit                        int // lower than configured after a 421 at the banner
	Waiting                      int // probes that wait for a connection

	Connections uint64 // opened successfully, trials included
	Dials       uint64 // attempts to connect
	Probes      uint64 // replies to RCPT
	Refusals    uint64 // of these, 4xx and 5xx
	Failures    map[Stage]uint64
	// Latency is a moving average of a probe's time on its connection.
	Latency     time.Duration
	Adaptations []string // words such as "helo" and "no-pipelining"
}

// State is what the last contact showed: "up", "failed" (it is still asked), "down" (it is
// not), or "not asked yet".
func (h *Health) State() string {
	switch {
	case h.Open:
		return "down"
	case h.LastErrorAt.After(h.LastAnswer):
		return "failed"
	case h.LastAnswer.IsZero():
		return "not asked yet"
	}
	return "up"
}

// stats is the part of Health that adds up. It is safe for concurrent use.
type stats struct {
	dialled atomic.Uint64 // connections tried
	opened  atomic.Uint64 // connections made ready

	mu               sync.Mutex // guards what follows
	probes, refusals uint64
	failures         [len(stages)]uint64
	lastError        *Failure
	lastErrorAt      time.Time
}

// add counts a reply to RCPT.
func (s *stats) add(rep *Reply) {
	if rep.Code == 0 {
		return
	}
	s.mu.Lock()
	s.probes++
	if rep.Code >= 400 {
		s.refusals++
	}
	s.mu.Unlock()
}

func (s *stats) stage(at Stage) {
	s.mu.Lock()
	s.stageLocked(at)
	s.mu.Unlock()
}

func (s *stats) stageLocked(at Stage) {
	for i := range stages {
		if stages[i] == at {
			s.failures[i]++
		}
	}
}

func (s *stats) fail(f *Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stageLocked(f.Stage)
	if !f.harmless() {
		s.lastError, s.lastErrorAt = f, time.Now()
	}
}

// health fills in what was counted.
func (s *stats) health(h *Health) {
	h.Connections, h.Dials = s.opened.Load(), s.dialled.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	h.Probes, h.Refusals = s.probes, s.refusals
	if f := s.lastError; f != nil {
		h.LastError, h.LastErrorAt = f.Why(), s.lastErrorAt
	}
	h.Failures = make(map[Stage]uint64)
	for i, n := range s.failures {
		if n > 0 {
			h.Failures[stages[i]] = n
		}
	}
}

// Health says how the backend is.
func (b *Backend) Health() Health {
	h := Health{Backend: b.name, Adaptations: b.habits.known().words()}
	b.breaker.health(&h)
	b.pool.health(&h)
	b.stats.health(&h)
	return h
}
