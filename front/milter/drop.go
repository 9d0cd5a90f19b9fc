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

// record adds a recipient to the transaction.
func (s *session) record(q *rcptgate.Query, argument []byte, drop bool) {
	mail := &s.state.Mail
	if drop {
		mail.Dropped = append(mail.Dropped, len(mail.Recipients))
	}
	mail.Recipients = append(mail.Recipients, q.Recipient)
	s.arguments = append(s.arguments, again(q.Recipient.Path, argument))
}

// forgetRecipients empties the transaction, and keeps memory of ordinary size.
func (s *session) forgetRecipients() {
	s.taken = 0
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

// removals are the recipients to remove because they were discarded, as the MTA knows
// them. All is true if that is everybody.
//
// Both MTAs remove with a recipient what it stands for: Postfix knows of every address from
// which recipient it comes, and Sendmail follows aliases only after the message if a filter
// may remove recipients (srvrsmtp.c, milter_can_delrcpts). One that was also taken under
// the same name stays.
func (s *session) removals() (list []string, all bool) {
	mail := &s.state.Mail
	if n := len(mail.Dropped); n == 0 || n == len(mail.Recipients) {
		return nil, n > 0
	}
	met := make(map[string]bool, len(mail.Recipients))
	next := 0
	for i, argument := range s.arguments {
		if next < len(mail.Dropped) && mail.Dropped[next] == i {
			next++
			continue
		}
		met[argument] = true
	}
	for _, at := range mail.Dropped {
		if argument := s.arguments[at]; !met[argument] {
			met[argument] = true
			list = append(list, argument)
		}
	}
	return list, false
}
