// SPDX-License-Identifier: BSD-2-Clause

package room

import "time"

// Learnt is what an answer means for the message that was asked about, and for the guards.
type Learnt struct {
	Use Use
	// WasRoom: the answer before was room. NewlyFull: and now the mailbox is full, which what
	// the gate let through does not account for.
	WasRoom, NewlyFull bool
	Shrunk             bool   // the limit fell below a tenth, and is not believed yet
	Implausible        string // why the numbers are doubted, for the postmaster; empty when they are not
}

// Learn takes an answer about a message of size octets, from the source of that number.
func (e *Entry) Learn(a Answer, size int64, now Tick, source uint16, r *Rules) (l Learnt) {
	size = min(max(size, 1), most)
	e.roll(now)
	old := *e
	if old.source != source || old.state == Unknown {
		old = Entry{} // another source counts in other units, perhaps
	}
	doubted, why := a.tidy(size)
	l.Implausible = why
	if a.State == Unknown {
		*e = Entry{recent: e.recent, before: e.before, minute: e.minute, asked: now, roomEnd: now + ticks(unknownFor), source: source}
		l.Use = UseUnknown
		return l
	}
	l.WasRoom = old.asked > 0 && (old.state == Room || old.flags&held != 0)
	next := entryOf(&a, size, doubted, r)
	if e.shrinks(&old, &a, now) {
		l.Shrunk = true
		if l.Use = next.says(size); l.Use != UseRoom {
			l.Use = UseDoubted
		}
		return l
	}
	next.recent, next.before, next.minute, next.marks = e.recent, e.before, e.minute, e.marks
	next.asked, next.source = now, source
	if next.flags&hasNumbers != 0 {
		next.dateNumbers(&old, &a, now, r)
	} else {
		next.dateBounds(&old, &a, size, now, r)
	}
	l.NewlyFull = l.WasRoom && next.state == Full && (old.flags&held != 0 || !old.accountsFor(&next))
	l.Use = next.says(size)
	*e = next
	return l
}

// says is what an answer that has just come means for the size it was asked about.
func (e *Entry) says(size int64) Use {
	if e.flags&hasNumbers != 0 && e.refuses(size) || e.flags&hasNumbers == 0 && e.state == Full {
		return e.refusal(size)
	}
	return UseRoom
}

// Of says what an answer about a message of size asked, which had that use, means for one of
// another size. It is not ok when the answer says nothing of it.
func (e *Entry) Of(size, asked int64, use Use) (_ Use, ok bool) {
	size = min(max(size, 1), most)
	switch {
	case e.flags&hasNumbers != 0 && use != UseDoubted:
		return e.says(size), true
	case size >= asked && use != UseRoom, size <= asked && use == UseRoom:
		return use, true
	}
	return Ask, false
}

// Hold has the storm guard go on counting a full mailbox as one that had room.
func (e *Entry) Hold() { e.flags |= held }

// entryOf makes an entry of an answer about size, without its times. Where a source's word
// and its numbers differ, its word counts, and is kept as a bound: it knows something that
// the numbers do not show. Numbers that are doubted are not made worse by its word.
func entryOf(a *Answer, size int64, doubted bool, r *Rules) (e Entry) {
	e = Entry{flags: hasNumbers, used: max(a.Used, 0), hard: a.Hard}
	if !a.HasNumbers() || a.Hard == 0 {
		e.flags |= noLimit
		e.hard = noSize
	}
	if doubted {
		e.flags |= odd
	}
	if a.MaxCount > 0 && a.Count >= a.MaxCount {
		e.flags |= countFull
	}
	e.soft = int64(float64(e.hard) * r.Soft)
	if a.Soft > 0 && a.Hard > 0 {
		e.soft = min(a.Soft, e.hard)
	}
	e.state = Room
	if e.refuses(1) {
		e.state = Full
	}
	differ := e.refuses(size) != (a.State == Full) && !doubted
	if e.flags&countFull == 0 && (!a.HasNumbers() || differ) {
		e = Entry{state: a.State}
		if a.TooLarge {
			e.flags = tooLarge
		}
	}
	return e
}

// full reports whether not even the smallest message fits.
func (e *Entry) full() bool {
	if e.flags&hasNumbers == 0 {
		return e.state == Full
	}
	return e.refuses(1)
}

// dateNumbers gives an answer with numbers its times.
func (e *Entry) dateNumbers(old *Entry, a *Answer, now Tick, r *Rules) {
	e.debits = min(int64(e.recent)+int64(e.before), max(e.hard, 0))
	if old.flags&hasNumbers != 0 && now-old.asked < gap && old.used == e.used && old.step&letThrough != 0 {
		e.flags |= quiet
	}
	life := fullLife(0, r)
	if e.full() {
		e.since = now
		if old.flags&hasNumbers != 0 && old.state == Full && old.since > 0 {
			e.since = old.since
		}
		life = fullLife(now-e.since, r)
	}
	e.fullEnd = now + ticks(a.capped(life))
	if e.flags&noLimit != 0 {
		e.roomEnd = now + ticks(a.capped(r.Keep))
		return
	}
	left := e.soft - e.used
	if left <= 0 || e.full() {
		e.roomEnd = now
		return
	}
	rate := float64(e.hard) / fillTime.Seconds() // octets a second
	if dt := float64(now-old.asked) / 10; old.flags&hasNumbers != 0 && dt > 0 {
		rate = max(rate, float64(e.used-old.used)/dt)
	}
	keep := r.Keep
	if a.MaxCount > 0 { // messages are not debited: one a second is assumed
		keep = min(keep, time.Duration(max(float64(a.MaxCount)*r.Soft-float64(a.Count), 0))*time.Second)
		if keep == 0 {
			e.roomEnd = now
			return
		}
	}
	if s := float64(left) / (4 * rate); s < keep.Seconds() {
		keep = time.Duration(s * float64(time.Second))
	}
	e.roomEnd = now + ticks(a.capped(min(max(keep, roomLeast), r.Keep)))
}

// dateBounds gives an answer without numbers its bounds and times.
func (e *Entry) dateBounds(old *Entry, a *Answer, size int64, now Tick, r *Rules) {
	known := old.asked > 0 && old.flags&hasNumbers == 0
	e.used, e.soft, e.hard, e.since = NotKnown, 0, noSize, old.since
	if !known {
		old, e.since = &Entry{hard: noSize}, 0
	}
	e.soft, e.roomEnd, e.hard, e.fullEnd = old.soft, old.roomEnd, old.hard, old.fullEnd
	if a.State == Full {
		if old.state != Full || e.since == 0 {
			e.since = now
		}
		e.hard, e.fullEnd = size, now+ticks(a.capped(fullLife(now-e.since, r)))
		if e.soft >= size { // it fitted before
			e.soft, e.roomEnd = 0, now
		}
		return
	}
	failed := e.since > 0 && now-e.since < ticks(failedFor)
	switch {
	case old.state == Full:
		e.since = now // it was refused until now
	case !failed && old.state == Room:
		e.step = min(old.step&^(letThrough|recentlyUsed)+1, steps)
	}
	life := min(time.Minute<<e.step, yesMost, r.Keep)
	e.soft, e.roomEnd = size, now+ticks(a.capped(life))
	if e.hard <= size {
		e.hard, e.fullEnd = noSize, now
	} else {
		e.flags |= old.flags & tooLarge
	}
}

// fullLife is how long a refusal holds, of a mailbox that has been full for so long: who
// cleans up is let in soon, and a mailbox that nobody reads costs little.
func fullLife(since Tick, r *Rules) time.Duration {
	d := time.Duration(since) * 100 * time.Millisecond / 10
	return min(max(d, fullLeast), max(r.FullKeep, 0))
}

// capped is a life, at most what the source allows, less the age of its numbers.
func (a *Answer) capped(life time.Duration) time.Duration {
	if a.Keep > 0 {
		life = min(life, a.Keep)
	}
	return max(life-a.Age, 0)
}

// shrinks reports whether the limit has fallen below a tenth of what it was, and is not to
// be believed yet: only the second such answer is, a minute later or more.
func (e *Entry) shrinks(old *Entry, a *Answer, now Tick) bool {
	fell := old.flags&hasNumbers != 0 && old.flags&noLimit == 0 && a.HasNumbers() && a.Hard > 0 && a.Hard < old.hard/10
	switch {
	case !fell:
		return false
	case old.flags&shrunk == 0:
		e.since = now
		e.flags |= shrunk
	case now-old.since >= ticks(time.Minute):
		return false
	}
	e.asked, e.roomEnd, e.fullEnd = now, now, now
	return true
}

// accountsFor reports whether what the gate let through explains that the mailbox is full
// now.
func (e *Entry) accountsFor(now *Entry) bool {
	if e.flags&hasNumbers == 0 || now.flags&hasNumbers == 0 {
		return false
	}
	return e.used+e.debits >= now.hard || e.soft <= e.used // it was nearly full before
}

// tidy bounds the numbers, and says whether they are doubted, and why, if that matters for a
// message of size octets.
func (a *Answer) tidy(size int64) (doubted bool, why string) {
	for _, n := range []*int64{&a.Used, &a.Soft, &a.Hard, &a.Count, &a.MaxCount} {
		if *n < NotKnown {
			why = "a negative number"
		}
		*n = min(max(*n, NotKnown), most)
	}
	switch {
	case why != "":
		a.Used = max(a.Used, 0)
	case !a.HasNumbers() || a.Hard == 0:
	case a.Hard < a.Used/100:
		why = "a hundred times more is used than the limit allows"
	case a.Hard < plausible:
		if doubted = true; size > a.Hard {
			why = "the limit is below 1 MiB, and a message is larger"
		}
	}
	a.Age, a.Keep = max(a.Age, 0), max(a.Keep, 0)
	return doubted || why != "", why
}
