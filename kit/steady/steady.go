// SPDX-License-Identifier: BSD-2-Clause

// Package steady has a wall clock that does not follow jumps at once. A clock that is
// wrong for seconds, because an administrator mistyped a date or a time server was wrong,
// must not end what is remembered, nor date what is learnt and forgotten meanwhile.
//
// The kernel's monotonic clock (clock_gettime(2), CLOCK_MONOTONIC) shows jumps: it goes on
// evenly. A new time is believed when it has lasted for [Believe].
package steady

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Believe is how long a new time must last until it is followed.
	Believe = 2 * time.Minute
	// Settle is how long after that the clock is not Settled.
	Settle = time.Hour
	// jump is the least difference that is not followed at once. Time servers correct
	// smaller ones in steps or by slowing the clock.
	jump = 30 * time.Second
)

// Clock is a wall clock. Make one with New; it is safe for concurrent use.
type Clock struct {
	read func() (wall time.Time, mono time.Duration)

	now     atomic.Pointer[base]
	mu      sync.Mutex
	jump    base         // what the machine's clocks said when the jump that is not followed yet was seen; guarded by mu
	since   atomic.Int64 // when that was, nanoseconds of mono; 0: there is none
	settled atomic.Int64 // from when on the clock is settled, nanoseconds of mono
}

// base is a moment on both clocks.
type base struct {
	wall time.Time // with the monotonic reading that time.Now gives
	mono time.Duration
}

// off is how far the clocks have come apart since.
func (b *base) off(wall time.Time, mono time.Duration) time.Duration {
	return time.Duration(wall.UnixNano()-b.wall.UnixNano()) - (mono - b.mono)
}

// New makes a Clock that starts with the machine's time.
func New() *Clock {
	start := time.Now()
	return Of(func() (time.Time, time.Duration) {
		now := time.Now()
		return now, now.Sub(start)
	})
}

// Of makes a Clock of a machine whose wall clock and monotonic clock read gives. Read is
// called concurrently.
func Of(read func() (wall time.Time, mono time.Duration)) *Clock {
	c := &Clock{read: read}
	wall, mono := read()
	c.now.Store(&base{wall, mono})
	return c
}

// Now gives the time.
func (c *Clock) Now() time.Time {
	b := c.now.Load()
	wall, mono := c.read()
	off := b.off(wall, mono)
	if off >= jump || off <= -jump {
		return c.jumped(wall, mono, b.wall.Add(mono-b.mono))
	}
	if c.since.Load() != 0 {
		c.since.Store(0) // it was undone
	}
	if off >= time.Second || off <= -time.Second {
		c.now.Store(&base{wall, mono})
	}
	return wall
}

// jumped decides about a jump.
func (c *Clock) jumped(wall time.Time, mono time.Duration, steady time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled.Store(int64(mono + Believe + Settle))
	switch since := c.since.Load(); {
	case since == 0, c.jump.off(wall, mono).Abs() >= jump: // a new one, or yet another
		c.since.Store(max(int64(mono), 1))
		c.jump = base{wall, mono}
		return steady
	case int64(mono)-since < int64(Believe):
		return steady
	}
	c.since.Store(0)
	c.now.Store(&base{wall, mono})
	return wall
}

// Drift is how far the machine's time is ahead of the Clock's: 0 unless it has just
// jumped.
func (c *Clock) Drift() time.Duration {
	now := c.Now()
	wall, _ := c.read()
	if off := time.Duration(wall.UnixNano() - now.UnixNano()); off.Abs() >= jump {
		return off
	}
	return 0
}

// Settled reports whether the machine's time has not jumped lately. While it has, what
// seems to have ended should not be deleted for good.
func (c *Clock) Settled() bool {
	c.Now()
	_, mono := c.read()
	return int64(mono) >= c.settled.Load()
}
