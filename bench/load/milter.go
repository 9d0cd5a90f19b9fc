// SPDX-License-Identifier: BSD-2-Clause

package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"rcptgate"
	"rcptgate/front/milter/mta"
	"rcptgate/front/milter/wire"
)

// Milter says how the questions are put to a milter.
type Milter struct {
	Network, Address string
	// Sender is the reverse-path without brackets.
	Sender string
	// NextHop is {rcpt_host}, for instance "[127.0.0.1]:2525".
	NextHop string
	// PerTransaction is the number of RCPTs between MAIL and the transaction's end; at least 1.
	PerTransaction int
	Recipients     *Recipients
}

type milterDialogue struct {
	Milter
	offer wire.Options // what the filter took of ours
	begun bool
	// unsent goes before the first request: frames that the filter does not answer.
	unsent []byte
	left   int  // RCPTs still to come in this transaction
	rcpt   bool // the outstanding request ends with a RCPT
}

// Dial connects and goes through option negotiation, connect and HELO. The connection is ready for Run.
func (m Milter) Dial(ctx context.Context) (*Conn, error) {
	c, err := (&net.Dialer{Timeout: setupLimit}).DialContext(ctx, m.Network, m.Address)
	if err != nil {
		return nil, fmt.Errorf("connecting to the milter: %w", err)
	}
	d := &milterDialogue{Milter: m}
	if err := d.greet(c); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("greeting the milter %s: %w", m.Address, err)
	}
	return newConn(c, d)
}

// greet begins a session as Postfix does. The rest of it is not the client's: it would wait
// in a goroutine of its own, and allocate.
func (d *milterDialogue) greet(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(setupLimit)); err != nil {
		return err
	}
	client, err := mta.New(c, mta.Options{})
	if err != nil {
		return err
	}
	if d.offer = client.Agreed(); d.takes(wire.NoRcpt) || d.takes(wire.NoReplyRcpt) {
		return fmt.Errorf("the filter does not want to be asked for recipients (protocol flags %#x)", d.offer.Protocol)
	}
	for _, say := range []func() (mta.Response, error){
		func() (mta.Response, error) {
			return client.Connect("client.example.net", netip.MustParseAddrPort("192.0.2.25:45678"),
				wire.Macro{Name: "j", Value: "mx.gate.test"}, wire.Macro{Name: "{daemon_name}", Value: "mx"}, wire.Macro{Name: "v", Value: "rcptgate bench"})
		},
		func() (mta.Response, error) { return client.Helo("client.example.net") },
	} {
		if r, err := say(); err != nil {
			return err
		} else if r.Action != rcptgate.Continue {
			return fmt.Errorf("the filter answered %v to the beginning of the session", r.Action)
		}
	}
	d.unsent = client.Unsent()
	return c.SetDeadline(time.Time{})
}

func (d *milterDialogue) takes(flag uint32) bool { return d.offer.Protocol&flag != 0 }

func (d *milterDialogue) Request(buf []byte) []byte {
	buf = append(buf, d.unsent...)
	d.unsent = nil
	if d.left == 0 {
		d.left = d.PerTransaction
		buf = d.appendMail(buf)
		if !d.takes(wire.NoMail) && !d.takes(wire.NoReplyMail) {
			d.rcpt = false
			return buf
		}
	}
	d.left--
	d.rcpt = true
	return d.appendRcpt(buf)
}

// appendMail ends the transaction before and begins the next.
func (d *milterDialogue) appendMail(buf []byte) []byte {
	if d.begun {
		buf = wire.AppendFrame(buf, wire.CmdAbort)
	}
	d.begun = true
	if d.takes(wire.NoMail) {
		return buf
	}
	start := len(buf)
	buf = append(wire.Begin(buf, wire.CmdMacro), wire.CmdMail)
	buf = append(buf, "{mail_addr}\x00"...)
	buf = wire.AppendString(buf, d.Sender)
	buf = append(buf, "{mail_host}\x00\x00{mail_mailer}\x00smtp\x00"...)
	buf = wire.End(buf, start)
	start = len(buf)
	buf = append(wire.Begin(buf, wire.CmdMail), '<')
	buf = append(buf, d.Sender...)
	return wire.End(append(buf, '>', 0), start)
}

func (d *milterDialogue) appendRcpt(buf []byte) []byte {
	start := len(buf)
	buf = append(wire.Begin(buf, wire.CmdMacro), wire.CmdRcpt)
	buf = append(buf, "{rcpt_addr}\x00"...)
	from := len(buf)
	buf = d.Recipients.Append(buf)
	to := len(buf)
	buf = append(buf, "\x00{rcpt_host}\x00"...)
	buf = wire.AppendString(buf, d.NextHop)
	buf = append(buf, "{rcpt_mailer}\x00smtp\x00"...)
	buf = wire.End(buf, start)
	start = len(buf)
	buf = append(wire.Begin(buf, wire.CmdRcpt), '<')
	buf = append(buf, buf[from:to]...)
	return wire.End(append(buf, '>', 0), start)
}

func (d *milterDialogue) Reply(data []byte) (int, Outcome, error) {
	if len(data) < 5 {
		return 0, Pending, nil
	}
	length := binary.BigEndian.Uint32(data)
	if length == 0 || length > wire.FrameMax {
		return 0, Pending, fmt.Errorf("the filter sent a frame of %d octets", length)
	}
	size := 4 + int(length)
	if len(data) < size {
		return 0, Pending, nil
	}
	o, err := outcome(data[4], data[5:size])
	if err == nil && o.Answers() && !d.rcpt {
		o = Step
		if data[4] != wire.ReplyContinue {
			err = fmt.Errorf("the filter answered %q to MAIL", data[4])
		}
	}
	return size, o, err
}

// outcome tells what a reply says.
func outcome(reply byte, data []byte) (Outcome, error) {
	switch reply {
	case wire.ReplyContinue, wire.ReplyAccept:
		return Accepted, nil
	case wire.ReplyReject:
		return Refused, nil
	case wire.ReplyTempfail:
		return Temporary, nil
	case wire.ReplyProgress:
		return Pending, nil
	case wire.ReplyCode:
		if len(data) > 0 && data[0] == '5' {
			return Refused, nil
		}
		return Temporary, nil
	}
	return Pending, fmt.Errorf("the filter answered %q to a recipient", reply)
}
