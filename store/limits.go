// SPDX-License-Identifier: BSD-2-Clause

package store

import "time"

// Ahead is how far the clock of another gateway may be ahead of ours. What was learnt later
// than that was learnt by a clock that is wrong, and is not known.
const Ahead = 5 * time.Minute

// Limits are the longest lives that answers have, by class; 0 is no limit.
type Limits [Selective + 1]time.Duration

// Clamp makes rec what may be believed of it at now: answers learnt in the future are
// taken out, as are doubts and refreshes of the future, and the others end when their
// class's life ends, whatever they say. It reports whether anything is left.
func (l *Limits) Clamp(rec *Record, now time.Time) bool {
	l.clamp(&rec.Standing, now)
	l.clamp(&rec.Transient, now)
	latest := now.Add(Ahead)
	if rec.Doubt.Last.After(latest) {
		rec.Doubt = Doubt{}
	}
	if rec.Tried.After(latest) {
		rec.Tried = time.Time{}
	}
	return !rec.IsZero()
}

func (l *Limits) clamp(a *Answer, now time.Time) {
	if a.Class == None {
		return
	}
	if a.Learnt.After(now.Add(Ahead)) {
		*a = Answer{}
		return
	}
	life := l[a.Class]
	if life == 0 {
		return
	}
	from := now
	if !a.Learnt.IsZero() && a.Learnt.Before(now) {
		from = a.Learnt
	}
	if ends := from.Add(life); a.Expire.After(ends) {
		a.Expire = FromSeconds(Seconds(ends))
		if a.Refresh.After(ends) {
			a.Refresh = a.Expire
		}
	}
}

// Shift moves the times of the answers in rec that are not in old by d: they were dated by
// a clock that is d off.
func Shift(rec *Record, old Record, d time.Duration) {
	move := func(t *time.Time) {
		if !t.IsZero() {
			*t = t.Add(d)
		}
	}
	for _, a := range []struct{ now, was *Answer }{{&rec.Standing, &old.Standing}, {&rec.Transient, &old.Transient}} {
		if *a.now != *a.was {
			move(&a.now.Learnt)
			move(&a.now.Refresh)
			move(&a.now.Expire)
		}
	}
	if rec.Doubt != old.Doubt {
		if rec.Doubt.First != old.Doubt.First {
			move(&rec.Doubt.First)
		}
		move(&rec.Doubt.Last)
	}
	if rec.Tried != old.Tried {
		move(&rec.Tried)
	}
}
