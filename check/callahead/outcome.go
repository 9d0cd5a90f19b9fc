// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"fmt"
	"time"

	"rcptgate"
	"rcptgate/backend"
	"rcptgate/route"
	"rcptgate/store"
)

// outcome is what one probe found out.
type outcome struct {
	// answer is the backend's; its Class is None when no server could be asked, and its
	// times are set when it is remembered.
	answer store.Answer
	// proven: the backend that refused takes other recipients of the domain, so the
	// refusal is about this one.
	proven bool
	// brief: an unknown user that nothing but words speaks for.
	brief bool
	// noRoom is a refusal of a message of this size, and of that alone: it is for the asker,
	// and is not remembered. The answer is then what the backend says without a size. Nil:
	// there is no such refusal.
	noRoom *store.Answer
	// refusesUs: the backend refuses a recipient in the same way that is known to be good.
	refusesUs bool
	// before5xx: no server could be asked because a backend said 5xx before RCPT.
	before5xx     bool
	senderRefused bool  // it was to MAIL
	badPath       bool  // the recipient cannot be written into an SMTP command
	noUTF8        bool  // it needs SMTPUTF8, which the backend does not offer (RFC 6531)
	err           error // why no server could be asked
	by            route.Backend
	elapsed       time.Duration
	story         []string // how the class was found out, for people

	// The reply to RCPT, when there was one.
	replied bool
	rep     backend.Reply
	words   reading
	sender  string // that was used
}

// means gives the outcome's reply a class.
func (o *outcome) means(class store.Class, at string) {
	if class == store.None {
		o.answer = store.Answer{}
		o.err = fmt.Errorf("%s said %d %s %s to RCPT, which is not about the recipient", at, o.rep.Code, o.rep.Enhanced, o.rep.Text)
		return
	}
	o.err = nil
	o.answer = store.Answer{
		Class: class, Code: o.rep.Code, Enhanced: o.rep.Enhanced, Text: rcptgate.CleanText(o.rep.Text), Backend: at,
	}
}

// unproven makes the outcome a refusal that may be about us.
func (o *outcome) unproven(at string) {
	o.means(store.Refused, at)
	o.proven = false
}

// refusedForGood reports a 5xx reply to RCPT.
func (o *outcome) refusedForGood() bool { return o.replied && o.rep.Code/100 == 5 }

// conclusive reports whether another backend need not be asked: an MTA would not try
// another host either. After a 4xx it would (RFC 5321 section 5.1).
func (o *outcome) conclusive() bool {
	return o.badPath || o.noUTF8 || (o.answer.Class != store.None && o.answer.Code/100 != 4)
}

// better reports whether o says more than other: a temporary answer more than none.
func (o *outcome) better(other *outcome) bool {
	if o.conclusive() != other.conclusive() {
		return o.conclusive()
	}
	return o.answer.Class != store.None && other.answer.Class == store.None
}

// Demotion of valid answers.
const (
	refreshApart = 10 * time.Minute // between refreshes of one answer, and between confirmations
	doubtCount   = 3                // confirmations
	doubtSpan    = 6 * time.Hour    // from the first of them to the last
)

// change is one probe's outcome on its way into memory.
type change struct {
	*settings
	out   *outcome
	began time.Time
	now   time.Time
	// acceptAll: the backend takes every name of the domain, its "valid" says nothing
	// of this mailbox.
	acceptAll bool
	// cautious: the route is one that only the MTA named.
	cautious bool
	// held: too many of the domain's refreshes say unknown; nothing is demoted.
	held bool
}

// effect is what a change did, for counters and for the postmaster.
type effect struct {
	rec       store.Record  // what is known from here on
	old       *store.Record // what was known; nil: nothing
	refreshed bool          // a valid answer stood
	doubted   bool          // and this one said unknown
	demoted   bool          // the valid answer is gone
	held      bool          // it would be, if the domain did not have so many unknowns
}

// before is the valid answer that stood; zero if none did.
func (e *effect) before() store.Answer {
	if !e.refreshed {
		return store.Answer{}
	}
	return e.old.Standing
}

// apply gives what shall be known, given what was. It has no side effects: a store
// may call it again when another gateway was faster.
func (c *change) apply(old store.Record) effect {
	standing := old.Standing.Class == store.Valid && old.Standing.Alive(c.now)
	e := effect{rec: old, refreshed: standing}
	if !old.IsZero() {
		was := old
		e.old = &was
	}
	if !standing {
		e.rec.Standing, e.rec.Doubt = store.Answer{}, store.Doubt{}
	}
	e.rec.Tried = c.began
	switch c.out.answer.Class {
	case store.Valid:
		e.rec.Transient, e.rec.Doubt = store.Answer{}, store.Doubt{}
		if !c.acceptAll {
			e.rec.Standing = c.dated(c.expire)
			e.rec.Standing.Refresh = c.now.Add(c.refresh)
		}
	case store.Unknown:
		c.unknownUser(&e)
	case store.Full:
		e.rec.Doubt = store.Doubt{} // a mailbox that is full exists
		e.rec.Transient = c.refusal(c.full)
	case store.Refused:
		if c.out.proven || c.cautious {
			e.rec.Transient = c.refusal(c.refused)
		}
	case store.Deferred:
		e.rec.Transient = c.refusal(c.deferred)
	}
	if c.positiveOnly {
		e.rec.Transient = store.Answer{}
	}
	return e
}

// unknownUser remembers "no such mailbox". Beside a valid answer it is a doubt: a
// directory that fails for ten minutes says it of everybody.
func (c *change) unknownUser(e *effect) {
	if !e.refreshed {
		life := c.unknown
		if c.out.brief {
			life = min(life, briefLife)
		}
		e.rec.Standing, e.rec.Transient = c.refusal(life), store.Answer{}
		return
	}
	e.doubted = true
	doubt := &e.rec.Doubt
	switch {
	case doubt.Count == 0:
		*doubt = store.Doubt{Count: 1, First: c.now, Last: c.now}
	case c.now.Sub(doubt.Last) >= refreshApart:
		doubt.Count++
		doubt.Last = c.now
	}
	if doubt.Count < doubtCount || doubt.Last.Sub(doubt.First) < doubtSpan {
		return
	}
	if c.held {
		e.held = true
		return
	}
	e.demoted = true
	e.rec = store.Record{Standing: c.refusal(c.unknown), Tried: c.began}
}

// refusal is the answer as it is kept: not at all with positive_only.
func (c *change) refusal(life time.Duration) store.Answer {
	if c.positiveOnly || life <= 0 {
		return store.Answer{}
	}
	return c.dated(life)
}

func (c *change) dated(life time.Duration) store.Answer {
	a := c.out.answer
	a.Learnt, a.Refresh, a.Expire = c.now, c.now.Add(life), c.now.Add(life)
	return a
}
