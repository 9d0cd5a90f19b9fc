// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"time"

	"rcptgate/store"
)

// recalled is what a remembered record is good for.
type recalled uint8

const (
	askNow     recalled = iota // nothing serves: ask, and wait
	serve                      // the answer serves
	serveAsk                   // it serves, and is to be asked again in the background
	askWithNet                 // ask and wait; if no server can be asked, the answer serves
)

// backends reports whether a server is still responsible: a *route.Route.
type backends interface {
	Has(domain, answered string) bool
}

// judge decides what a record is good for at now, and which of its answers.
//
// A refusal serves until it ends, or its backend is no longer routed. A valid answer
// serves until it ends; what is kept next to it (full, refused, deferred) must be asked
// again when it has ended, since the mailbox may still be full. With room in the section, so
// must a valid answer of that age: the mailbox may have filled up.
func (s *settings) judge(rec *store.Record, rt backends, domain string, now time.Time) (recalled, *store.Answer) {
	passing := rec.Transient.Class != store.None
	if passing && !s.positiveOnly && rec.Transient.Alive(now) && rt.Has(domain, rec.Transient.Backend) {
		return serve, &rec.Transient
	}
	if !rec.Standing.Alive(now) {
		return askNow, nil
	}
	routed := rt.Has(domain, rec.Standing.Backend)
	if rec.Standing.Class != store.Valid {
		if s.positiveOnly || !routed || rec.Standing.Class != store.Unknown {
			return askNow, nil
		}
		return serve, &rec.Standing
	}
	switch {
	case passing, s.room > 0 && now.Sub(rec.Standing.Learnt) >= s.room:
		return askWithNet, &rec.Standing
	case (rec.Standing.Due(now) || !routed) && now.Sub(rec.Tried) >= refreshApart:
		return serveAsk, &rec.Standing
	}
	return serve, &rec.Standing
}
