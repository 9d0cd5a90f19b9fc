// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"rcptgate"
	"rcptgate/store"
)

// Texts of our own. They never name a server: what stands behind a gateway is not
// the sender's business.
const (
	textUnknown     = rcptgate.TextUnknownUser
	textFull        = "Mailbox is full"
	textRefused     = rcptgate.TextRefused
	textDeferred    = "Recipient cannot take mail at the moment"
	textUnreachable = "Recipient cannot be verified at the moment, please try again later"
	textLoop        = "Recipient cannot be verified: the question came back to us"
	textBadPath     = "Bad recipient address syntax"
	textTooLong     = "Recipient address is too long"
	textNoUTF8      = "The mail system behind takes no addresses beyond ASCII"
)

// situation is what the verdict on an answer depends on, besides the answer.
type situation struct {
	*settings
	cautious bool // only the MTA named the route
	exempt   bool // postmaster, abuse
	proven   bool // a refusal is about this recipient
}

// verdict says what the sender gets as a reply to an answer.
func (s *situation) verdict(a *store.Answer, source string) rcptgate.Verdict {
	v := rcptgate.Verdict{
		Code: a.Code, Enhanced: a.Enhanced, Text: a.Text,
		Source: source, Backend: a.Backend, Learnt: a.Learnt, Expires: a.Expire,
	}
	switch a.Class {
	case store.Valid:
		v.Reason = rcptgate.ReasonValid
	case store.AcceptAll:
		v.Reason = rcptgate.ReasonAcceptAll
	case store.Unknown:
		v.Reason = rcptgate.ReasonUnknownUser
		s.refuse(&v, 550, "5.1.1", textUnknown)
	case store.Full:
		v.Reason = rcptgate.ReasonMailboxFull
		s.full(&v)
	case store.Refused:
		v.Reason = rcptgate.ReasonRefused
		s.refused(&v)
	case store.Deferred:
		v.Reason = rcptgate.ReasonDeferred
		v.Action = rcptgate.Tempfail
		v.Fit(450, "", textDeferred)
	}
	return v
}

// refuse is for good, but never for those whom every domain must have (RFC 5321
// section 4.5.1, RFC 2142): an answer about them is a guess about a
// misconfiguration.
func (s *situation) refuse(v *rcptgate.Verdict, code int, enhanced, text string) {
	if s.exempt {
		*v = rcptgate.Verdict{Reason: rcptgate.ReasonExempt, Source: v.Source, Backend: v.Backend, Learnt: v.Learnt, Expires: v.Expires}
		return
	}
	v.Action = rcptgate.Reject
	v.Fit(code, enhanced, text)
}

func (s *situation) full(v *rcptgate.Verdict) {
	v.Action, v.Code, v.Enhanced = rcptgate.Tempfail, 452, "4.2.2"
	if s.rejectFull && !s.exempt {
		v.Action, v.Code, v.Enhanced = rcptgate.Reject, 552, "5.2.2"
	}
	v.Fit(v.Code, v.Enhanced, textFull)
}

// refused passes a 5xx on only when it is about this recipient. What is about us
// would refuse everybody's mail for good.
func (s *situation) refused(v *rcptgate.Verdict) {
	switch {
	case s.cautious:
		v.Action = rcptgate.Continue
	case s.proven:
		s.refuse(v, 550, "", textRefused)
	default: // the server's words are about us: names and addresses of ours may be in them
		v.Action, v.Code, v.Enhanced, v.Text = rcptgate.Tempfail, 451, "4.7.1", textUnreachable
	}
}

// unreachable is the verdict when no server could be asked and no remembered answer serves.
func (s *situation) unreachable() rcptgate.Verdict {
	v := rcptgate.Verdict{Reason: rcptgate.ReasonUnreachable, Source: rcptgate.SourceProbe}
	if !s.acceptUnreachable {
		v.Action, v.Code, v.Enhanced, v.Text = rcptgate.Tempfail, 451, "4.4.1", textUnreachable
	}
	return v
}

// badAddress refuses what cannot be asked about.
func badAddress(text string) rcptgate.Verdict {
	return rcptgate.Verdict{
		Action: rcptgate.Reject, Code: 501, Enhanced: "5.1.3", Text: text,
		Reason: rcptgate.ReasonBadAddress, Source: rcptgate.SourceConfig,
	}
}
