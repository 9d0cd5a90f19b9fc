// SPDX-License-Identifier: BSD-2-Clause

package room

import (
	"math"
	"time"
)

// Tick is a moment in tenths of a second after the start of a [Clock]. 0 is "never".
type Tick uint32

// ticks makes ticks of a duration.
func ticks(d time.Duration) Tick {
	return Tick(min(max(d/(100*time.Millisecond), 0), math.MaxUint32/2))
} //nolint:gosec // bounded

// Clock counts ticks. Its zero value is not of use; make one with NewClock.
type Clock struct{ start time.Time }

// NewClock starts a clock at the moment now.
func NewClock(now time.Time) Clock { return Clock{now.Add(-time.Hour)} }

// At gives the tick of a moment.
func (c Clock) At(t time.Time) Tick { return max(ticks(t.Sub(c.start)), 1) }

// Time gives the moment of a tick.
func (c Clock) Time(t Tick) time.Time { return c.start.Add(time.Duration(t) * 100 * time.Millisecond) }

// How long answers hold.
const (
	gap        = Tick(20)            // 2 s: questions within it share an answer, less its debits
	roomLeast  = 10 * time.Second    // an answer below the soft limit holds so long at least
	fullLeast  = 25 * time.Second    // a refusal does, unless Rules.FullKeep is less: 30 s with what agents and MTAs add
	unknownFor = time.Minute         // a mailbox that no source knows is not asked about
	steps      = 4                   // an answer without numbers: a minute, doubled so many times,
	yesMost    = 10 * time.Minute    // up to this
	failedFor  = 24 * time.Hour      // unless something was refused within it
	fillTime   = 30 * 24 * time.Hour // the least rate assumed is a mailbox filled in this time
	plausible  = 1 << 20             // a limit below this is perhaps a unit mistake
	most       = 1 << 60             // numbers above this are not believed
	noSize     = math.MaxInt64 / 4   // of Entry.hard: no size is known to fail
)

// Rules are what a configuration says of keeping.
type Rules struct {
	Soft     float64       // share of the hard limit below which answers are kept, if the source does not say
	Keep     time.Duration // at most
	FullKeep time.Duration // a refusal, at most
	// Grace is added to the limit of sources that show the nominal one, while less than the
	// limit is used (Dovecot's quota_storage_grace).
	Grace int64
}

// Entry is what is known of one mailbox. The zero Entry knows nothing.
type Entry struct {
	// Octets used, below which an answer is kept, and allowed. Of a source without numbers,
	// soft is the largest size that is known to fit and hard the least that is known not to.
	used, soft, hard int64
	debits           int64  // let through since the answer, and shortly before it
	recent, before   uint32 // let through in this minute and in the one before, octets
	asked            Tick   // when the answer came
	roomEnd, fullEnd Tick   // until when it says room, and when full
	since            Tick   // full: since when; without numbers: when something was last refused; shrunk: since when
	minute           uint16 // of recent
	source           uint16
	state            State
	flags            uint8
	step             uint8 // how often the life of an answer without numbers has doubled; and two bits
	marks            uint8 // the storm guard's: which bucket counted it, and as what
}

// Flags of an entry.
const (
	hasNumbers uint8 = 1 << iota
	noLimit
	countFull // by the number of messages
	quiet     // asked again within the gap, and nothing had arrived
	shrunk    // the limit fell so far that it is not believed yet
	odd       // implausible numbers: nothing is ever too large for them
	tooLarge  // the store itself said so
	held      // full, but not believed: to the storm guard it still has room
)

// Bits of an entry's step.
const (
	letThrough   uint8 = 1 << 6 // something was, since the answer
	recentlyUsed uint8 = 1 << 7 // of Table: asked about since the clock's hand passed
)

// Expire ends what the entry serves: it is asked about again, and what it knew still counts
// for the guards.
func (e *Entry) Expire() { e.roomEnd, e.fullEnd, e.asked = 1, 1, 1 }

// Use is what an entry is good for.
type Use uint8

// The uses.
const (
	Ask         Use = iota // nothing that is known says enough: ask
	UseRoom                // there is room
	UseFull                // there is not
	UseTooLarge            // there never will be
	UseUnknown             // no source knows the mailbox
	UseDoubted             // it would be full, but the limit has just fallen too far to be believed
)

// Serve says what is known about a message of size octets. A message without a size is of
// one octet.
func (e *Entry) Serve(now Tick, size int64) Use {
	size = min(max(size, 1), most)
	switch {
	case e.state == Unknown:
		if now < e.roomEnd {
			return UseUnknown
		}
		return Ask
	case e.flags&hasNumbers == 0:
		return e.serveBounds(now, size)
	case e.flags&noLimit != 0 && e.flags&countFull == 0:
		if now < e.roomEnd {
			return UseRoom
		}
		return Ask
	case now < e.fullEnd && e.refuses(size):
		return e.refusal(size)
	}
	left := e.soft - e.used
	if now < e.roomEnd && size <= left-e.debits && (now-e.asked < ticks(roomLeast) || 4*e.debits < left) {
		return UseRoom
	}
	if now-e.asked < gap && !e.refuses(size) && (e.flags&quiet != 0 || size <= e.hard-e.used-e.debits) {
		return UseRoom
	}
	return Ask
}

// Early reports whether a question now comes before the end of the answer: the message is too
// large for it, or too much was let through since.
func (e *Entry) Early(now Tick) bool { return e.state != Unknown && now < e.roomEnd }

// serveBounds is Serve by what is known to fit and to fail.
func (e *Entry) serveBounds(now Tick, size int64) Use {
	switch {
	case now < e.fullEnd && size >= e.hard:
		return e.refusal(size)
	case now < e.roomEnd && size <= e.soft:
		return UseRoom
	}
	return Ask
}

// refuses reports whether the store, by its own numbers, has no room for size. Debits have
// no say in it.
func (e *Entry) refuses(size int64) bool {
	switch {
	case e.flags&countFull != 0:
		return true
	case e.flags&noLimit != 0:
		return false
	case e.flags&odd != 0 && size > e.hard: // perhaps the limit is in another unit
		return e.used > e.hard
	}
	return size > e.hard-e.used
}

// refusal tells a mailbox that is full from a message that never fits.
func (e *Entry) refusal(size int64) Use {
	switch {
	case e.flags&tooLarge != 0:
		return UseTooLarge
	case e.flags&hasNumbers != 0 && e.flags&(odd|noLimit) == 0 && size > e.hard:
		return UseTooLarge
	}
	return UseFull
}

// Debit takes a message that was let through off the room that is left. It brings the next
// question forward, and never refuses.
func (e *Entry) Debit(now Tick, size int64) {
	size = min(max(size, 1), most)
	e.roll(now)
	e.recent = uint32(min(int64(e.recent)+size, math.MaxUint32)) //nolint:gosec // bounded
	e.debits = min(e.debits+size, max(e.hard, size))
	e.step |= letThrough
}

// roll moves the minutes on.
func (e *Entry) roll(now Tick) {
	minute := uint16(now / 600) //nolint:gosec // wraps after 45 days
	switch minute - e.minute {
	case 0:
		return
	case 1:
		e.before = e.recent
	default:
		e.before = 0
	}
	e.recent, e.minute = 0, minute
}

// Known is what an entry knows, for people.
type Known struct {
	State            State
	Numbers, NoLimit bool
	Used, Soft, Hard int64 // octets; without Numbers, Soft is known to fit and Hard to fail (0: nothing is)
	Debits           int64
	Asked, RoomEnd   Tick
	FullEnd          Tick
	Source           uint16
	Shrunk           bool
	Doubted          bool // implausible numbers: they never say that a message is too large
}

// Known describes the entry.
func (e *Entry) Known() Known {
	k := Known{
		State: e.state, Numbers: e.flags&hasNumbers != 0, NoLimit: e.flags&noLimit != 0, Used: e.used, Soft: e.soft, Hard: e.hard, Debits: e.debits,
		Asked: e.asked, RoomEnd: e.roomEnd, FullEnd: e.fullEnd, Source: e.source, Shrunk: e.flags&shrunk != 0, Doubted: e.flags&odd != 0,
	}
	if !k.Numbers && k.Hard == noSize {
		k.Hard = 0
	}
	return k
}
