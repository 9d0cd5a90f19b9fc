// SPDX-License-Identifier: BSD-2-Clause

package steady

import (
	"testing"
	"time"
)

// clocks are the machine's, to be turned.
type clocks struct {
	wall time.Time
	mono time.Duration
}

func (m *clocks) pass(d time.Duration) { m.wall, m.mono = m.wall.Add(d), m.mono+d }

func machine() (*clocks, *Clock) {
	m := &clocks{wall: time.Unix(1_800_000_000, 0)}
	return m, Of(func() (time.Time, time.Duration) { return m.wall, m.mono })
}

func TestShortJump(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, by := range []time.Duration{year, -year, time.Hour, -time.Minute} {
		m, c := machine()
		began := m.wall
		m.pass(time.Hour)
		m.wall = m.wall.Add(by)
		for range 20 {
			m.pass(time.Second)
			if c.Now().Sub(began) > 2*time.Hour || c.Now().Before(began) || c.Drift() != by || c.Settled() {
				t.Fatalf("after a jump of %v it is %v, drift %v", by, c.Now(), c.Drift())
			}
		}
		m.wall = m.wall.Add(-by)
		if got := c.Now().Sub(began); got != time.Hour+20*time.Second || c.Drift() != 0 {
			t.Errorf("after the jump was undone %v have passed", got)
		}
		m.pass(Believe + Settle)
		if !c.Settled() {
			t.Error("the clock is not settled an hour later")
		}
	}
}

func TestLastingJump(t *testing.T) {
	m, c := machine()
	m.pass(time.Hour)
	m.wall = m.wall.Add(24 * time.Hour)
	c.Now()
	m.pass(Believe)
	if !c.Now().Equal(m.wall) || c.Drift() != 0 {
		t.Errorf("a jump that lasts is not followed: %v, not %v", c.Now(), m.wall)
	}
	if c.Settled() {
		t.Error("the clock is settled at once")
	}
	m.pass(Believe + Settle)
	if !c.Settled() || !c.Now().Equal(m.wall) {
		t.Error("the clock is not settled in the end")
	}
}

// TestTwoJumps: one that was undone does not help the next to be believed.
func TestTwoJumps(t *testing.T) {
	m, c := machine()
	for range 3 {
		m.wall = m.wall.Add(time.Hour)
		c.Now()
		m.wall = m.wall.Add(-time.Hour)
		m.pass(Believe)
		if c.Now() != m.wall {
			t.Fatalf("%v, not %v", c.Now(), m.wall)
		}
	}
}

// TestSlewing: small corrections are followed at once, however many there are.
func TestSlewing(t *testing.T) {
	m, c := machine()
	for range 1000 {
		m.pass(time.Minute)
		m.wall = m.wall.Add(2 * time.Second)
		if !c.Now().Equal(m.wall) {
			t.Fatalf("%v, not %v", c.Now(), m.wall)
		}
	}
	if !c.Settled() {
		t.Error("slewing unsettles the clock")
	}
}

func BenchmarkNow(b *testing.B) {
	c := New()
	for b.Loop() {
		c.Now()
	}
}

// TestSecondJump holds that a time is believed when that time has lasted, not when the machine
// has been wrong in several ways for as long.
func TestSecondJump(t *testing.T) {
	m, c := machine()
	began := m.wall
	m.wall = m.wall.Add(24 * time.Hour)
	c.Now()
	m.pass(Believe - time.Second)
	m.wall = m.wall.Add(365 * 24 * time.Hour)
	c.Now()
	m.pass(2 * time.Second)
	if got := c.Now().Sub(began); got > time.Hour {
		t.Errorf("%v have passed: a time that has lasted for 2 s is believed", got)
	}
	m.pass(Believe)
	if !c.Now().Equal(m.wall) {
		t.Error("the last jump is not followed though it lasts")
	}
}
