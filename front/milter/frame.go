// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"context"

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
		return false, c.endOfMessage(ctx)
	case wire.CmdAbort:
		c.endMail()
		return false, nil
	case wire.CmdQuitNewConn:
		c.endMail()
		c.session.reset()
		return false, nil
	case wire.CmdHelo: // ends a transaction (RFC 5321 section 4.1.4)
		c.endMail()
		if err := c.session.hello(data); err != nil {
			return false, err
		}
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
	agreed, err := negotiate(offer, wants)
	if err != nil {
		return err
	}
	c.endMail()
	c.session.reset()
	c.negotiated, c.wants, c.actions, c.silent = true, wants, agreed.Actions, silentUnder(agreed.Protocol)
	return c.write(wire.AppendOptions(nil, agreed))
}

// connect asks about the client where the gate wants to be asked. The answer is kept for
// each MAIL: an MTA shows a filter's text there, and not for a connection (libmilter,
// smfi_setreply).
func (c *conn) connect(ctx context.Context, data []byte) error {
	s := &c.session
	if err := s.connect(data); err != nil {
		return err
	}
	if c.wants&rcptgate.WantConnect != 0 {
		s.atConnect = c.ask(ctx, s.question(rcptgate.StageConnect))
	}
	return c.goOn(wire.CmdConnect)
}

// mail begins a transaction, unless the client or the sender is refused.
func (c *conn) mail(ctx context.Context, data []byte) error {
	s := &c.session
	c.inMail, c.lingering = true, false
	c.counts.transactions.Add(1)
	if err := s.mail(data); err != nil {
		return err
	}
	v := &s.atConnect
	if v.Action == rcptgate.Hold {
		c.holdAll(v)
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

// endOfMessage ends the transaction. Where the gate wants to be asked about messages it
// is asked here, without header and body: these are not negotiated.
func (c *conn) endOfMessage(ctx context.Context) error {
	var v rcptgate.Verdict
	if c.wants&rcptgate.WantMessage != 0 {
		v = c.ask(ctx, c.session.question(rcptgate.StageMessage))
	}
	if v.Action == rcptgate.Hold {
		c.holdAll(&v)
	}
	c.out = c.out[:0]
	if passes(&v) {
		v = c.appendChanges(v)
	}
	utf8ok := c.session.smtputf8
	c.endMail()
	return c.reply(&v, utf8ok)
}

// appendChanges forms what is done to a message that is taken: the recipients that are
// removed, and its quarantine. Nothing is done to one that all its recipients discard.
func (c *conn) appendChanges(v rcptgate.Verdict) rcptgate.Verdict {
	mail := &c.session.state.Mail
	if len(mail.Dropped) > 0 {
		list, all := c.session.removals()
		if all {
			return rcptgate.Verdict{Action: rcptgate.Discard}
		}
		for _, address := range list {
			c.out = wire.AppendChange(c.out, &wire.Change{Kind: wire.ChangeDelRcpt, Name: "<" + address + ">"})
		}
	}
	if mail.Hold != "" {
		c.out = wire.AppendChange(c.out, &wire.Change{Kind: wire.ChangeQuarantine, Name: quarantineReason(mail.Hold)})
	}
	return v
}

func (c *conn) endMail() {
	c.inMail = false
	c.session.endMail()
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
