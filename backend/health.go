// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"log/slog"
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
	// LastError is the last failure that concerned the backend; empty: none.
	LastError   string
	LastErrorAt time.Time
	LastAnswer  time.Time // when MAIL was last answered

	// Connections at this moment.
	Idle, Busy, Opening, Closing int
	Overdue                      int // of the busy ones, those for which nobody waits any more
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

// counts is the part of Health that adds up. Backend.mu guards it.
type counts struct {
	probes, refusals uint64
	failures         [len(stages)]uint64
	latency          time.Duration
	lastError        *Failure
	lastErrorAt      time.Time
}

// add counts a reply to RCPT.
func (n *counts) add(out *outcome) {
	if out.reply.Code == 0 {
		return
	}
	n.probes++
	if out.reply.Code >= 400 {
		n.refusals++
	}
	took := out.reply.Elapsed
	if n.latency > 0 {
		// One stall (ours as likely as the backend's) must not look like slowness.
		took = n.latency + (min(took, 4*n.latency)-n.latency)/8
	}
	n.latency = max(took, time.Microsecond)
}

func (n *counts) stage(s Stage) {
	for i := range stages {
		if stages[i] == s {
			n.failures[i]++
		}
	}
}

func (n *counts) fail(f *Failure) {
	n.stage(f.Stage)
	if !f.harmless() {
		n.lastError, n.lastErrorAt = f, time.Now()
	}
}

func (b *Backend) count(s Stage) {
	b.mu.Lock()
	b.counts.stage(s)
	b.mu.Unlock()
}

// Health says how the backend is.
func (b *Backend) Health() Health {
	know := b.known()
	b.mu.Lock()
	defer b.mu.Unlock()
	h := Health{
		Backend: b.name, Open: b.isOpen.Load(), Since: b.since,
		Idle: len(b.idle), Busy: b.busy, Opening: b.opening, Closing: b.quits,
		Overdue: len(b.overdue), Limit: b.limit, Waiting: b.queue.n + b.late.n,
		Connections: b.opened.Load(), Dials: b.dialled.Load(),
		Probes: b.counts.probes, Refusals: b.counts.refusals,
		Failures: make(map[Stage]uint64), Latency: b.counts.latency,
		Adaptations: know.words(),
	}
	if at := b.lastMail.Load(); at != 0 {
		h.LastAnswer = time.Unix(0, at)
	}
	if f := b.counts.lastError; f != nil {
		h.LastError, h.LastErrorAt = f.Error(), b.counts.lastErrorAt
	}
	for i, n := range b.counts.failures {
		if n > 0 {
			h.Failures[stages[i]] = n
		}
	}
	return h
}

// A backend's log lines: a few at once, then one in ten seconds, so that one that
// comes and goes does not fill the disk.
const (
	sayEvery = 10 * time.Second
	sayBurst = 6
)

// say logs something that the postmaster should know of the backend.
func (b *Backend) say(level slog.Level, msg string, args ...any) {
	if !b.said.Allow() {
		b.unsaid.Add(1)
		return
	}
	args = append([]any{"backend", b.name}, args...)
	if n := b.unsaid.Swap(0); n > 0 {
		args = append(args, "left_out", n)
	}
	b.set.log.Log(b.base, level, msg, args...)
}
