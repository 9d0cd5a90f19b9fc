// SPDX-License-Identifier: BSD-2-Clause

// Package mta speaks the MTA's side of the milter protocol (package wire), as
// Sendmail and Postfix do: for the demonstration, for measurements and for tests.
//
// It offers what the MTAs of today offer or any older set, leaves out the events
// that the filter has switched off, waits for no answer where none was agreed, and
// sends macros and command in one write, as Postfix does, or in two, as Sendmail
// does. It judges answers as strictly as both MTAs together: changes of a message must
// have been agreed on, come at its end and nowhere else, and those of the body in one run.
package mta

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"rcptgate"
	"rcptgate/config/setting"
	"rcptgate/front/milter/wire"
)

// Options say which MTA to be. The zero Options are a Postfix of today without
// time-outs.
type Options struct {
	// Version, Actions and Protocol are offered; 0 is what today's MTAs offer, unless
	// Bare has nothing offered that is not named.
	Version  uint32
	Actions  uint32
	Protocol uint32
	Bare     bool
	// TwoWrites sends macros and command apart, on TCP with Nagle's algorithm, as
	// Sendmail does.
	TwoWrites bool
	// Timeout bounds the wait for each answer; 0 is none.
	Timeout time.Duration
}

// Response is a filter's answer.
type Response struct {
	Action   rcptgate.Action
	Code     int    // the reply code for the client; 0 unless refused
	Enhanced string // may be empty
	Text     string // lines separated by "\n"; empty for a plain reject or tempfail
	// Changes are what the filter changed, at the end of a message; Skip that it wants no
	// more of the body.
	Changes []wire.Change
	Skip    bool
	// Skipped is true when there was no answer to wait for: the event is switched off
	// or goes without.
	Skipped bool
}

// Client is one milter connection. It is not safe for concurrent use, and of no more
// use after an error.
type Client struct {
	nc      net.Conn
	reader  *wire.Reader
	out     []byte
	options Options
	agreed  wire.Options
	macros  int  // where in out the command begins behind its macros
	ending  bool // the filter may change the message
}

// limits takes every reply that a filter may send.
var limits = func() *wire.Limits {
	var l wire.Limits
	for _, c := range []byte{
		wire.ReplyAccept, wire.ReplyContinue, wire.ReplyDiscard, wire.ReplyProgress, wire.ReplyReject, wire.ReplySkip,
		wire.ReplyTempfail, wire.ReplyConnFail, wire.ReplyShutdown, wire.ReplyCode, wire.CmdOptions,
	} {
		l[c] = wire.Limit{Max: wire.FrameMax}
	}
	for _, c := range []byte{
		wire.ChangeAddHeader, wire.ChangeReplaceBody, wire.ChangeAddRcpt, wire.ChangeAddRcptArgs, wire.ChangeDelRcpt,
		wire.ChangeHeader, wire.ChangeInsertHeader, wire.ChangeQuarantine, wire.ChangeSender,
	} {
		l[c] = wire.Limit{Max: 1 << 20}
	}
	return &l
}()

// Dial connects to a filter and negotiates.
func Dial(ctx context.Context, socket setting.Socket, options Options) (*Client, error) {
	nc, err := new(net.Dialer).DialContext(ctx, socket.Network, socket.Address)
	if err != nil {
		return nil, fmt.Errorf("connect to milter %v: %w", socket, err)
	}
	c, err := New(nc, options)
	if err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("milter %v: %w", socket, err)
	}
	return c, nil
}

// New negotiates on a connection, which the client owns from then on unless there is
// an error.
func New(nc net.Conn, options Options) (*Client, error) {
	if !options.Bare {
		options.Version = orElse(options.Version, wire.Version)
		options.Actions = orElse(options.Actions, wire.ActionsAll)
		options.Protocol = orElse(options.Protocol, wire.ProtocolAll)
	}
	if tcp, ok := nc.(*net.TCPConn); ok && options.TwoWrites {
		if err := tcp.SetNoDelay(false); err != nil {
			return nil, err
		}
	}
	c := &Client{nc: nc, reader: wire.NewReader(nc, limits), options: options}
	return c, c.negotiate()
}

func orElse(v, otherwise uint32) uint32 {
	if v == 0 {
		return otherwise
	}
	return v
}

func (c *Client) negotiate() error {
	o := c.options
	c.out = wire.AppendOptions(c.out[:0], wire.Options{Version: o.Version, Actions: o.Actions, Protocol: o.Protocol})
	if err := c.flush(); err != nil {
		return err
	}
	cmd, data, err := c.read()
	if err != nil {
		return fmt.Errorf("negotiate: %w", err)
	}
	if cmd != wire.CmdOptions {
		return fmt.Errorf("negotiate: the filter answered %q", cmd)
	}
	if c.agreed, err = wire.ParseOptions(data); err != nil {
		return fmt.Errorf("negotiate: %w", err)
	}
	switch a := c.agreed; {
	case a.Version < wire.VersionMin || a.Version > o.Version:
		return fmt.Errorf("negotiate: the filter wants version %d, offered was %d", a.Version, o.Version)
	case a.Actions&^o.Actions != 0:
		return fmt.Errorf("negotiate: the filter wants actions %#x, offered were %#x", a.Actions, o.Actions)
	case a.Protocol&^o.Protocol != 0: // Sendmail ends the connection over it
		return fmt.Errorf("negotiate: the filter wants protocol flags %#x, offered were %#x", a.Protocol, o.Protocol)
	}
	return nil
}

// Agreed gives what was negotiated, the macros that the filter asked for included.
func (c *Client) Agreed() wire.Options { return c.agreed }

// Unsent gives what would be sent with the next command: frames that have no answer, and
// macros of events that the filter does not want. Whoever takes the connection over sends it
// first. It is valid until the client is used again.
func (c *Client) Unsent() []byte { return c.out }

// Connect reports the client: its name, and its address, zero if unknown.
func (c *Client) Connect(name string, addr netip.AddrPort, macros ...wire.Macro) (Response, error) {
	c.begin(wire.CmdConnect, macros)
	if c.agreed.Protocol&wire.NoConnect != 0 {
		return c.skip()
	}
	family, text := byte(wire.FamilyUnknown), ""
	if ip := addr.Addr(); ip.IsValid() {
		family, text = wire.FamilyIPv4, ip.String()
		if ip.Is6() {
			family = wire.FamilyIPv6
			if c.options.TwoWrites {
				text = "IPv6:" + text // as Sendmail writes it
			}
		}
	}
	c.out = wire.AppendConnect(c.out, name, family, addr.Port(), text)
	return c.exchange(wire.NoReplyConnect)
}

// Helo reports the HELO name.
func (c *Client) Helo(name string, macros ...wire.Macro) (Response, error) {
	return c.command(wire.CmdHelo, wire.NoHelo, wire.NoReplyHelo, macros, name)
}

// Mail reports MAIL FROM; brackets are added to sender.
func (c *Client) Mail(sender string, args []string, macros ...wire.Macro) (Response, error) {
	return c.path(wire.CmdMail, wire.NoMail, wire.NoReplyMail, macros, sender, args)
}

// Rcpt reports RCPT TO; brackets are added to recipient.
func (c *Client) Rcpt(recipient string, macros ...wire.Macro) (Response, error) {
	return c.path(wire.CmdRcpt, wire.NoRcpt, wire.NoReplyRcpt, macros, recipient, nil)
}

// Data reports DATA.
func (c *Client) Data(macros ...wire.Macro) (Response, error) {
	return c.command(wire.CmdData, wire.NoData, wire.NoReplyData, macros)
}

// Unknown reports a command that the MTA does not know.
func (c *Client) Unknown(line string) (Response, error) {
	return c.command(wire.CmdUnknown, wire.NoUnknown, wire.NoReplyUnknown, nil, line)
}

// Header reports one header field.
func (c *Client) Header(name, value string) (Response, error) {
	return c.command(wire.CmdHeader, wire.NoHeaders, wire.NoReplyHeader, nil, name, value)
}

// EndOfHeader reports the end of the header.
func (c *Client) EndOfHeader() (Response, error) {
	return c.command(wire.CmdEndOfHeader, wire.NoEndOfHeader, wire.NoReplyEOH, nil)
}

// Body reports a part of the body, at most 65,535 octets.
func (c *Client) Body(part []byte) (Response, error) {
	c.begin(wire.CmdBody, nil)
	if c.agreed.Protocol&wire.NoBody != 0 {
		return c.skip()
	}
	c.out = wire.AppendFrame(c.out, wire.CmdBody, part...)
	return c.exchange(wire.NoReplyBody)
}

// EndOfMessage reports the end of the message.
func (c *Client) EndOfMessage(macros ...wire.Macro) (Response, error) {
	c.ending = true
	defer func() { c.ending = false }()
	return c.command(wire.CmdEndOfMsg, 0, 0, macros)
}

// Abort ends the transaction. It has no answer.
func (c *Client) Abort() error { return c.tell(wire.CmdAbort) }

// QuitNewConn ends the client's session and keeps the connection for the next
// client. It has no answer.
func (c *Client) QuitNewConn() error { return c.tell(wire.CmdQuitNewConn) }

// Quit ends the connection in good order and closes it.
func (c *Client) Quit() error {
	return errors.Join(c.tell(wire.CmdQuit), c.nc.Close())
}

// Close closes the connection without a word.
func (c *Client) Close() error { return c.nc.Close() }

func (c *Client) tell(cmd byte) error {
	c.begin(cmd, nil)
	c.out = wire.AppendFrame(c.out, cmd)
	return c.flush()
}
