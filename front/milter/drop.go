// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"cmp"

	"rcptgate"
	"rcptgate/front/milter/wire"
)

// Replies to recipients that cannot be treated as was decided.
var (
	tooMany = rcptgate.Verdict{Action: rcptgate.Tempfail, Code: 452, Enhanced: "4.5.3", Text: "Too many recipients"}
	notNow  = rcptgate.Verdict{Action: rcptgate.Tempfail, Code: 451, Enhanced: "4.3.0", Text: rcptgate.TextDeferred}
)

// recipientsMax bounds the recipients that are recorded in one transaction.
const recipientsMax = 50_000

// take records a recipient that is not refused, and what is to become of it at the end of
// the message. It changes the verdict of one that cannot be treated so.
func (c *conn) take(q *rcptgate.Query, v *rcptgate.Verdict, argument []byte) {
	s := &c.session
	if v.Action.Refuses() && s.state.Local {
		s.refuseLater(q, v)
		return
	}
	if v.Action.Refuses() || v.Action == rcptgate.Discard {
		return
	}
	if v.Action == rcptgate.Hold && !c.hold(v) || v.Action == rcptgate.DiscardRecipient && c.actions&wire.ActDelRcpt == 0 {
		c.l.srv.cannot(v)
		*v = notNow
		return
	}
	if c.wants.Recipients() {
		if len(s.arguments) >= recipientsMax {
			*v = tooMany
			return
		}
		s.record(q, argument, v.Action == rcptgate.DiscardRecipient)
	}
	if v.Action == rcptgate.DiscardRecipient {
		v.Action = rcptgate.Continue // for the MTA
	}
	s.taken++
}

// refuseLater keeps the refusal of a recipient for the end of the message. A permanent one
// is stronger: the user is to hear it now.
func (s *session) refuseLater(q *rcptgate.Query, v *rcptgate.Verdict) {
	if s.refused.Action != rcptgate.Reject {
		s.refused = *v
		s.refused.Text = rcptgate.CleanText("<" + q.Recipient.Path + ">: " + v.Text)
	}
	*v = rcptgate.Verdict{}
}

// record adds a recipient to the transaction.
func (s *session) record(q *rcptgate.Query, argument []byte, drop bool) {
	mail := &s.state.Mail
	if drop {
		mail.Dropped = append(mail.Dropped, len(mail.Recipients))
	}
	mail.Recipients = append(mail.Recipients, q.Recipient) // its strings are made for this recipient alone: see session.recipient
	s.arguments = append(s.arguments, again(q.Recipient.Path, argument))
}

// forgetRecipients empties the transaction, and keeps memory of ordinary size.
func (s *session) forgetRecipients() {
	s.taken, s.refused = 0, rcptgate.Verdict{}
	s.state.Mail.Reset()
	clear(s.arguments)
	if s.arguments = s.arguments[:0]; cap(s.arguments) > 64 {
		s.arguments = nil
	}
}

// hold notes that the message is held at its end, and why.
func (c *conn) hold(v *rcptgate.Verdict) bool {
	if c.actions&wire.ActQuarantine == 0 {
		return false
	}
	mail := &c.session.state.Mail
	mail.Hold = cmp.Or(mail.Hold, v.Text, string(v.Reason), "held")
	return true
}
