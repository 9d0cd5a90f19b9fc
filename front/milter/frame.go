// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"context"
	"fmt"

	"rcptgate"
	"rcptgate/front/milter/wire"
)

// handle takes one frame; quit is true at the end of the connection.
func (c *conn) handle(ctx context.Context, cmd byte, data []byte) (quit bool, err error) {
	switch cmd {
	case wire.CmdOptions:
		return false, c.options(data)
	case wire.CmdQuit:
		return true, nil
	}
	if !c.negotiated {
		return false, errNotNegotiated
	}
	switch cmd {
	case wire.CmdMacro:
		return false, c.session.macros(data)
	case wire.CmdRcpt:
		return false, c.rcpt(ctx, data)
	case wire.CmdConnect:
		return false, c.connect(ctx, data)
	case wire.CmdMail:
		return false, c.mail(ctx, data)
	case wire.CmdEndOfMsg:
		return false, c.endOfMessage(ctx, data)
	case wire.CmdHeader:
		return false, c.header(data)
	case wire.CmdBody:
		return false, c.body(data)
	case wire.CmdAbort:
		c.endMail()
		return false, nil
	case wire.CmdQuitNewConn:
		c.endMail()
		c.session.reset()
		return false, nil
	case wire.CmdHelo:
		return false, c.helo(ctx, data)
	}
	return false, c.goOn(cmd)
}

// options answers the option negotiation. A second one begins anew.
func (c *conn) options(data []byte) error {
	offer, err := wire.ParseOptions(data)
	if err != nil {
		return err
	}
	wants := c.l.srv.gate.Wants()
	if wants&rcptgate.EditHeader != 0 {
		wants |= rcptgate.WantHeader // where a field goes depends on those that are there
	}
	agreed, err := negotiate(offer, wants)
	if err != nil {
		return err
	}
	c.endMail()
	c.session.reset()
	c.agree(wants, &agreed)
	return c.write(wire.AppendOptions(nil, agreed))
}

// agree notes what was agreed on with the MTA.
func (c *conn) agree(wants rcptgate.Wants, o *wire.Options) {
	c.negotiated, c.wants, c.version, c.actions, c.silent = true, wants, o.Version, o.Actions, silentUnder(o.Protocol)
	c.leadSpace, c.canSkip = o.Protocol&wire.HeaderLeadSpace != 0, o.Protocol&wire.CanSkip != 0
	c.takes = wants & (rcptgate.WantHeader | rcptgate.WantBody)
	c.can = c.takes
	for _, change := range changesWanted {
		if change.wanted&wants != 0 && o.Actions&change.actions == change.actions {
			c.can |= change.wanted
		}
	}
	if c.takes != 0 {
		c.reader.Use(&c.l.srv.letterLimits, &c.l.srv.buffers)
	}
}

// header takes a field of the header.
func (c *conn) header(data []byte) error {
	if c.takes&rcptgate.WantHeader != 0 {
		if err := c.letter.header(data); err != nil {
			return err
		}
	}
	return c.goOn(wire.CmdHeader)
}

// body takes a part of the body. The MTA hears when the rest is not wanted.
func (c *conn) body(data []byte) error {
	if c.takes&rcptgate.WantBody != 0 {
		if c.letter.part(data, c.l.srv.bodyMax()); c.letter.skip && c.canSkip && !c.silent.has(wire.CmdBody) {
			return c.write(skipFrame)
		}
	}
	return c.goOn(wire.CmdBody)
}

// connect ends what the client before has left, if the MTA did not, and asks about the client
// where the gate wants to be asked. The answer is kept for each MAIL: an MTA shows a filter's text there, and not for a connection (libmilter,
// smfi_setreply).
func (c *conn) connect(ctx context.Context, data []byte) error {
	s := &c.session
	c.endMail()
	if err := s.connect(data); err != nil {
		return err
	}
	if c.wants&rcptgate.WantConnect != 0 {
		s.atConnect = c.ask(ctx, s.question(rcptgate.StageConnect))
	}
	return c.goOn(wire.CmdConnect)
}

// helo ends a transaction (RFC 5321 section 4.1.4), and asks about the client's name where
// the gate wants to be asked. The answer is kept for each MAIL, as that of connect is: a
// client that is refused here would take the server for broken, and Sendmail would refuse
// it everything, without the text. A client that has been refused already is not asked
// about.
func (c *conn) helo(ctx context.Context, data []byte) error {
	s := &c.session
	c.endMail()
	if err := s.hello(data); err != nil {
		return err
	}
	s.atHelo = rcptgate.Verdict{}
	if c.wants&rcptgate.WantHelo != 0 && passes(&s.atConnect) {
		s.atHelo = c.ask(ctx, s.question(rcptgate.StageHelo))
	}
	return c.goOn(wire.CmdHelo)
}

// mail begins a transaction, unless the client or the sender is refused.
func (c *conn) mail(ctx context.Context, data []byte) error {
	s := &c.session
	c.inMail, c.lingering = true, false
	c.counts.transactions.Add(1)
	c.letter.reset()
	if err := s.mail(data); err != nil {
		return err
	}
	v := &s.atConnect
	if v.Action == rcptgate.Hold {
		c.holdAll(v)
	}
	if passes(v) && s.atHelo.Action != rcptgate.Continue {
		if v = &s.atHelo; v.Action == rcptgate.Hold {
			c.holdAll(v)
		}
	}
	if passes(v) && c.wants&rcptgate.WantMail != 0 {
		if v = new(c.ask(ctx, s.question(rcptgate.StageMail))); v.Action == rcptgate.Hold {
			c.holdAll(v)
		}
	}
	if passes(v) {
		return c.goOn(wire.CmdMail)
	}
	utf8ok := s.smtputf8
	c.endMail()
	return c.reply(v, utf8ok)
}

// holdAll has the message held for what was said about its client or its sender.
func (c *conn) holdAll(v *rcptgate.Verdict) {
	if !c.hold(v) {
		c.l.srv.cannot(v)
		*v = notNow
	}
}

// rcpt asks about a recipient and answers.
func (c *conn) rcpt(ctx context.Context, data []byte) error {
	q, argument, err := c.session.recipient(data)
	if err != nil {
		return err
	}
	c.counts.recipients.Add(1)
	v := c.ask(ctx, q)
	c.take(q, &v, argument)
	return c.reply(&v, c.session.smtputf8)
}

// endOfMessage ends the transaction: the gate is asked where it wants to be, and the message
// is changed if it is taken.
func (c *conn) endOfMessage(ctx context.Context, data []byte) error {
	if c.takes&rcptgate.WantBody != 0 {
		c.letter.part(data, c.l.srv.bodyMax()) // libmilter knows a last part here
	}
	v, err := c.askMessage(ctx)
	if err != nil {
		return err
	}
	if v.Action == rcptgate.Hold {
		c.holdAll(&v)
	}
	c.out = c.out[:0]
	if passes(&v) {
		if v, err = c.appendChanges(v); err != nil {
			return err
		}
	}
	utf8ok := c.session.smtputf8
	c.endMail()
	return c.reply(&v, utf8ok)
}

// askMessage asks about the message. The MTA hears meanwhile that it takes time. A step that
// came with a reload is asked on older connections too: whether a message without header and
// body may pass is for the step to say.
func (c *conn) askMessage(ctx context.Context) (rcptgate.Verdict, error) {
	mail := &c.session.state.Mail
	switch {
	case c.session.refused.Action.Refuses():
		return c.session.refused, nil
	case (c.wants|c.l.srv.gate.Wants())&rcptgate.WantMessage == 0:
		return rcptgate.Verdict{}, nil
	case len(mail.Dropped) > 0 && len(mail.Dropped) == len(mail.Recipients):
		return rcptgate.Verdict{Action: rcptgate.Discard}, nil // it reaches no one
	case c.letter.failed != nil:
		c.l.srv.cannotSpool(c.letter.failed)
		return noSpace, nil
	}
	q := c.session.question(rcptgate.StageMessage)
	q.Message = c.letter.finish(&c.session, c.can)
	busy := c.beginProgress()
	v := c.ask(ctx, q)
	if err := busy.stop(); err != nil {
		return v, fmt.Errorf("write progress: %w", err)
	}
	return v, nil
}

func (c *conn) endMail() {
	c.inMail = false
	c.session.endMail()
	c.letter.reset()
}

func (c *conn) ask(ctx context.Context, q *rcptgate.Query) rcptgate.Verdict {
	c.setMark(phaseBusy)
	return c.l.srv.gate.Ask(ctx, q)
}

// goOn answers a frame about which nothing is decided, if it is to be answered.
func (c *conn) goOn(cmd byte) error {
	if c.silent.has(cmd) {
		return nil
	}
	return c.write(continueFrame)
}

// reply answers a frame with a verdict, after the changes that c.out has.
func (c *conn) reply(v *rcptgate.Verdict, utf8ok bool) error {
	switch {
	case passes(v) && len(c.out) == 0:
		return c.write(continueFrame)
	case passes(v):
		c.out = append(c.out, continueFrame...)
	case v.Action.Discards():
		return c.write(discardFrame)
	default:
		c.out = appendRefusal(c.out[:0], v, utf8ok)
	}
	err := c.write(c.out)
	c.out = c.out[:0]
	if cap(c.out) > keepMax {
		c.out = nil
	}
	return err
}
