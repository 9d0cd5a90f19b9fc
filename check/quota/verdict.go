// SPDX-License-Identifier: BSD-2-Clause

package quota

import (
	"fmt"
	"log/slog"
	"sync/atomic"

	"rcptgate"
	"rcptgate/check/quota/room"
	"rcptgate/check/quota/source"
	"rcptgate/kit/term"
	"rcptgate/view"
)

// stepName is the step's word in traces, and the source of its verdicts.
const stepName = "quota"

// verdict says what the sender hears. Texts hold no numbers: how full a mailbox is, is not
// the sender's business.
func (a *asking) verdict(use room.Use, e *room.Entry, remembered bool) rcptgate.Verdict {
	s := a.check.State
	k := e.Known()
	by := s.sources.ByNumber(k.Source)
	if a.q.Trace.Explain {
		a.explain(use, &k)
	}
	if use != room.UseFull && use != room.UseTooLarge {
		return rcptgate.Verdict{}
	}
	v := rcptgate.Verdict{Source: stepName}
	if by != nil {
		v.Backend = by.Name
		if s.holds(by, s.clock.At(a.q.Now()), a.check.Config.Hold.Share()) {
			a.count(&s.count.held)
			a.q.Trace.Note("held back: the source reports too many mailboxes as full at once")
			return rcptgate.Verdict{}
		}
	}
	if remembered {
		v.Learnt, v.Expires = s.clock.Time(k.Asked), s.clock.Time(k.FullEnd)
	}
	if use == room.UseTooLarge && a.check.Config.TooLarge != "tempfail" {
		return a.tooLarge(v)
	}
	return a.full(v)
}

// holds reports whether a source's refusals are held back.
func (s *State) holds(by *source.Guarded, now room.Tick, share float64) bool {
	holds := by.Storm.Holds(now, share)
	s.reportStorm(by)
	return holds
}

// reportStorm has a storm on the board of notices while it lasts.
func (s *State) reportStorm(by *source.Guarded) {
	by.Storm.Turned(func(holds bool) {
		matter := "quota: storm " + by.Name
		if !holds {
			s.board.Clear(matter, "quota source's refusals are no longer held back", "source", by.Name)
			return
		}
		asked, full := by.Storm.Counts(s.now())
		s.board.Raise(slog.LevelError, matter, "quota source reports many mailboxes as full at once; its refusals are held back. Have units, limits or defaults changed?",
			"source", by.Name, "newly_full", full, "asked", asked)
	})
}

// count counts a verdict, unless a person asks.
func (a *asking) count(n *atomic.Uint64) {
	if !a.q.Inquiry {
		n.Add(1)
	}
}

func (a *asking) full(v rcptgate.Verdict) rcptgate.Verdict {
	a.count(&a.check.State.count.full)
	v.Action, v.Code, v.Enhanced = rcptgate.Tempfail, 452, "4.2.2"
	if a.rejectFull && !rcptgate.Reserved(a.q.Target.Local) {
		v.Action, v.Code, v.Enhanced = rcptgate.Reject, 552, "5.2.2"
	}
	v.Text, v.Reason = rcptgate.TextFull, rcptgate.ReasonMailboxFull
	return v
}

func (a *asking) tooLarge(v rcptgate.Verdict) rcptgate.Verdict {
	if a.check.Config.TooLarge == "accept" {
		a.q.Trace.Note("larger than the mailbox may hold; accepted, because too_large = \"accept\"")
		return rcptgate.Verdict{}
	}
	a.count(&a.check.State.count.tooLarge)
	v.Text, v.Reason = rcptgate.TextTooLarge, rcptgate.ReasonTooLarge
	v.Action, v.Code, v.Enhanced = rcptgate.Reject, 552, "5.2.3"
	if rcptgate.Reserved(a.q.Target.Local) {
		v.Action, v.Code, v.Enhanced = rcptgate.Tempfail, 452, "4.2.3"
	}
	return v
}

// onError is the verdict when no source could be asked.
func (c *Check) onError(_ *rcptgate.Query, _ error) rcptgate.Verdict {
	if c.Config.Unreachable == "tempfail" {
		v := rcptgate.CouldNotFindOut
		v.Source = stepName
		c.rehearse(&v)
		return v
	}
	return rcptgate.Verdict{Reason: rcptgate.ReasonError, Source: stepName}
}

// explainRoom notes what is known of the mailbox that has room.
func (a *asking) explainRoom() {
	if e, ok := a.check.State.known.Get(a.key); ok {
		k := e.Known()
		a.explain(room.UseRoom, &k)
	}
}

func (a *asking) explainAsk(e *room.Entry) {
	k := e.Known()
	now := a.check.State.now()
	switch {
	case k.Asked == 0:
		a.q.Trace.Note("nothing is remembered about the mailbox: asked")
	case now >= k.RoomEnd && now >= k.FullEnd:
		a.q.Trace.Note("the remembered answer has ended: asked again")
	default:
		a.q.Trace.Note("the remembered answer does not cover this size: asked again")
	}
}

// explain notes the numbers, for the postmaster.
func (a *asking) explain(use room.Use, k *room.Known) {
	s := a.check.State
	words := map[room.Use]string{room.UseRoom: "room", room.UseFull: "full", room.UseTooLarge: "larger than the mailbox may hold", room.UseUnknown: "no source knows the mailbox", room.UseDoubted: "full by a limit that is not believed yet"}
	note := fmt.Sprintf("%s, for %s", words[use], term.Count(a.size, "octet"))
	if by := s.sources.ByNumber(k.Source); by != nil {
		note += "; " + by.Name + " said"
		switch {
		case k.NoLimit:
			note += fmt.Sprintf(" %d used, no limit", k.Used)
		case k.Numbers:
			note += fmt.Sprintf(" %d used, soft limit %d, limit %d", k.Used, k.Soft, k.Hard)
			if k.Doubted {
				note += " (implausible: a larger message is refused only if more is used than that)"
			}
		case k.State == room.Full:
			note += fmt.Sprintf(" no to %s", term.Count(k.Hard, "octet"))
		default:
			note += fmt.Sprintf(" yes to %s", term.Count(k.Soft, "octet"))
		}
		now := s.now()
		note += fmt.Sprintf(" %s; %s let through since", view.Ago(s.clock.Time(now), s.clock.Time(k.Asked)), term.Count(k.Debits, "octet"))
		for _, end := range []struct {
			word string
			at   room.Tick
		}{{"room", k.RoomEnd}, {"a refusal", k.FullEnd}} {
			if end.at > now {
				note += fmt.Sprintf("; %s is kept for %s", end.word, view.Left(s.clock.Time(now), s.clock.Time(end.at)))
			}
		}
	}
	a.q.Trace.Note(note)
}
