// SPDX-License-Identifier: BSD-2-Clause

package mta

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"rcptgate"
	"rcptgate/front/milter/wire"
)

// begin puts macros into the output. What is there already was not to be answered
// and has not been sent yet, as with Postfix.
func (c *Client) begin(cmd byte, macros []wire.Macro) {
	if len(macros) > 0 {
		c.out = wire.AppendMacros(c.out, cmd, macros)
	}
	c.macros = len(c.out)
}

// skip leaves an event out. Its macros stay in the output: Postfix sends them too.
func (c *Client) skip() (Response, error) { return Response{Skipped: true}, nil }

// command sends an event of strings unless it is switched off.
func (c *Client) command(cmd byte, no, noReply uint32, macros []wire.Macro, strings ...string) (Response, error) {
	c.begin(cmd, macros)
	if c.agreed.Protocol&no != 0 {
		return c.skip()
	}
	start := len(c.out)
	c.out = wire.Begin(c.out, cmd)
	for _, s := range strings {
		c.out = wire.AppendString(c.out, s)
	}
	c.out = wire.End(c.out, start)
	return c.exchange(noReply)
}

// path sends MAIL or RCPT unless it is switched off.
func (c *Client) path(cmd byte, no, noReply uint32, macros []wire.Macro, path string, args []string) (Response, error) {
	c.begin(cmd, macros)
	if c.agreed.Protocol&no != 0 {
		return c.skip()
	}
	start := len(c.out)
	c.out = append(wire.Begin(c.out, cmd), '<')
	c.out = append(append(c.out, path...), '>', 0)
	for _, arg := range args {
		c.out = wire.AppendString(c.out, arg)
	}
	c.out = wire.End(c.out, start)
	return c.exchange(noReply)
}

// exchange sends what is in the output and waits for the answer, if there is one.
func (c *Client) exchange(noReply uint32) (Response, error) {
	if noReply != 0 && c.agreed.Protocol&noReply != 0 {
		var err error
		if c.options.TwoWrites { // Sendmail holds nothing back
			err = c.flush()
		}
		return Response{Skipped: true}, err
	}
	if err := c.flush(); err != nil {
		return Response{}, err
	}
	var changes []wire.Change
	for {
		cmd, data, err := c.read()
		switch {
		case err != nil:
			return Response{}, err
		case cmd == wire.ReplyProgress:
		case wire.Needs(cmd) == 0:
			r, err := response(cmd, data)
			r.Changes = changes
			return r, err
		default:
			change, err := c.change(cmd, data, changes)
			if err != nil {
				return Response{}, err
			}
			changes = append(changes, change)
		}
	}
}

// change takes a change of the message. Those before it are needed because Postfix wants
// the parts of a body together (cleanup_milter.c).
func (c *Client) change(kind byte, data []byte, before []wire.Change) (wire.Change, error) {
	change, err := wire.ParseChange(kind, data)
	switch {
	case err != nil:
		return change, err
	case !c.ending:
		return change, fmt.Errorf("change %q before the end of the message", kind)
	case wire.Needs(kind)&^c.agreed.Actions != 0:
		return change, fmt.Errorf("change %q was not agreed on", kind)
	}
	if n := len(before); kind == wire.ChangeReplaceBody && n > 0 && before[n-1].Kind != kind {
		for i := range before {
			if before[i].Kind == kind {
				return change, errors.New("a part of the body after another change")
			}
		}
	}
	change.Body = bytes.Clone(change.Body)
	return change, nil
}

func response(cmd byte, data []byte) (Response, error) {
	switch cmd {
	case wire.ReplyContinue:
		return Response{}, nil
	case wire.ReplySkip:
		return Response{Skip: true}, nil
	case wire.ReplyAccept:
		return Response{Action: rcptgate.Accept}, nil
	case wire.ReplyDiscard:
		return Response{Action: rcptgate.Discard}, nil
	case wire.ReplyReject:
		return Response{Action: rcptgate.Reject, Code: 550, Enhanced: "5.7.1"}, nil
	case wire.ReplyTempfail, wire.ReplyConnFail:
		return Response{Action: rcptgate.Tempfail, Code: 451, Enhanced: "4.7.1"}, nil
	case wire.ReplyShutdown:
		return Response{Action: rcptgate.Tempfail, Code: 421, Enhanced: "4.7.0"}, nil
	case wire.ReplyCode:
		r, err := wire.ParseReply(data)
		if err != nil {
			return Response{}, err
		}
		action := rcptgate.Reject
		if r.Code < 500 {
			action = rcptgate.Tempfail
		}
		return Response{Action: action, Code: r.Code, Enhanced: r.Enhanced, Text: r.Text}, nil
	}
	return Response{}, fmt.Errorf("the filter answered %q to a command", cmd)
}

// flush sends the output: in one write, or in one for the macros and one for the
// command.
func (c *Client) flush() error {
	out := c.out
	c.out = c.out[:0]
	if err := c.setDeadline(); err != nil {
		return err
	}
	if c.options.TwoWrites && c.macros > 0 && c.macros < len(out) {
		if _, err := c.nc.Write(out[:c.macros]); err != nil {
			return fmt.Errorf("send macros to the milter: %w", err)
		}
		out = out[c.macros:]
	}
	if _, err := c.nc.Write(out); err != nil {
		return fmt.Errorf("send to the milter: %w", err)
	}
	return nil
}

func (c *Client) setDeadline() error {
	if c.options.Timeout <= 0 {
		return nil
	}
	return c.nc.SetDeadline(time.Now().Add(c.options.Timeout))
}

// read waits for one frame.
func (c *Client) read() (cmd byte, data []byte, err error) {
	for {
		cmd, data, ok, err := c.reader.Next()
		if ok || err != nil {
			return cmd, data, err
		}
		if err := c.reader.Fill(); err != nil {
			return 0, nil, fmt.Errorf("wait for the milter's answer: %w", err)
		}
	}
}
