// SPDX-License-Identifier: BSD-2-Clause

package live

import (
	"fmt"
	"time"

	"rcptgate/table/index"
)

// When a text counts as half written, and for how long.
const (
	// stillLong is how long a text must not have changed that lacks its last line end, or
	// that lost many names: a script may be writing it, or the disk may have been full.
	stillLong = 10 * time.Minute
	// stillShort is the same for a text that lost a few names and was not replaced but
	// written in place, which may go on after a pause.
	stillShort = 10 * time.Second
	// manyLost names and a tenth of all are many.
	manyLost = 10
)

// draft is a text that may be only half written. The names that it has count. Those
// that it lacks are neither known nor absent: they are an error if the active content
// has them, or if there is none.
type draft struct {
	*index.Index
	last  string        // key of its last line, which may go on
	still time.Duration // how long it must stay as it is to become active
	err   error         // what a look-up of a name says that it lacks
}

func (d *draft) lookup(active *index.Index, key string) (value string, found bool, err error) {
	value, found = d.Get(key)
	if found && key != d.last {
		return value, true, nil
	}
	if active == nil {
		return "", false, d.err
	}
	was, known := active.Get(key)
	switch {
	case !known && !found:
		return "", false, nil
	case known && found && was == value:
		return value, true, nil
	}
	return "", false, d.err
}

// doubt says why a text may be only half written, and how long it must stay as it is
// to become active all the same; "" if it is whole.
func (l *Live) doubt(c *content, sig signature) (why string, still time.Duration) {
	if !l.cfg.Spec.IsText() {
		return "", 0
	}
	if c.cut {
		why, still = "its last line has no line end", stillLong
	}
	old := l.current.Load()
	if old == nil || old.Index == nil {
		return why, still
	}
	lost := old.Lost(c.Index, l.breather())
	switch {
	case lost == 0:
	case c.entries() == 0:
		return "it is empty", stillLong
	case lost >= manyLost && lost > old.Len()/10:
		return "it lost many names", stillLong
	case why != "":
	case old.draft != nil && old.draft.still == stillLong:
		return "names are still missing", stillLong
	case sig.device == old.device && sig.inode == old.inode:
		return "it lost names and was written in place", stillShort
	}
	return why, still
}

// since is when a text last changed, or when that was first seen if its time stamps lie
// ahead of our clock.
func (a *attempt) since(sig signature, now time.Time) time.Time {
	if a.seen.IsZero() || a.seenSig != sig {
		a.seenSig, a.seen = sig, now
	}
	last := sig.modified
	if changed := time.Unix(sig.changed.Unix()); changed.After(last) {
		last = changed
	}
	if last.After(a.seen) {
		return a.seen
	}
	return last
}

// due reports whether a draft has stayed as it is for long enough.
func (l *Live) due(sig signature) bool {
	c := l.current.Load()
	if c == nil || c.draft == nil {
		return false
	}
	now := l.now()
	return now.Sub(l.try.since(sig, now)) >= c.draft.still
}

// hold keeps a text as a draft next to the active content.
func (l *Live) hold(c *content, why string, still time.Duration) error {
	err := fmt.Errorf("%w: %s; names that it lacks are deferred until it has not changed for %s", ErrRebuild, why, still)
	next := &content{}
	if old := l.current.Load(); old != nil {
		*next = *old // shares the index
	}
	next.draft = &draft{Index: c.Index, last: c.last, still: still, err: fmt.Errorf("%s: %w", l.cfg.Spec, err)}
	l.current.Store(next)
	return l.failed(err)
}

// settle drops a draft: the file is again what is active.
func (l *Live) settle(c *content) {
	if c.draft != nil {
		whole := *c
		whole.draft = nil
		l.current.Store(&whole)
	}
}
