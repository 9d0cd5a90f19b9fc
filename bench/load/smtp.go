// SPDX-License-Identifier: BSD-2-Clause

package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// SMTP says how the questions are put to an SMTP server.
type SMTP struct {
	Network, Address string
	// Helo is the name in EHLO.
	Helo string
	// Sender is the reverse-path without brackets.
	Sender string
	// PerTransaction is the number of RCPTs between MAIL and RSET; at least 1.
	PerTransaction int
	Recipients     *Recipients
}

type smtpDialogue struct {
	SMTP
	left  int // RCPTs still to come in this transaction
	state smtpState
}

type smtpState uint8

const (
	smtpFresh smtpState = iota // no transaction yet
	smtpReset                  // RSET was sent
	smtpMail                   // MAIL was sent
	smtpRcpt                   // RCPT was sent
)

// replyOctets bounds one reply.
const replyOctets = 64 << 10

// errReply says that a server sent no SMTP reply.
var errReply = errors.New("not an SMTP reply")

// Dial connects and greets. The connection is ready for Run.
func (s SMTP) Dial(ctx context.Context) (*Conn, error) {
	c, err := (&net.Dialer{Timeout: setupLimit}).DialContext(ctx, s.Network, s.Address)
	if err != nil {
		return nil, fmt.Errorf("connecting to the SMTP server: %w", err)
	}
	d := &smtpDialogue{SMTP: s}
	if err := d.greet(c); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("greeting the SMTP server %s: %w", s.Address, err)
	}
	return newConn(c, d)
}

func (d *smtpDialogue) greet(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(setupLimit)); err != nil {
		return err
	}
	if err := expect(c, 220); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "EHLO %s\r\n", d.Helo); err != nil {
		return err
	}
	if err := expect(c, 250); err != nil {
		return err
	}
	return c.SetDeadline(time.Time{})
}

// expect reads one reply and wants its code.
func expect(c net.Conn, code int) error {
	var data []byte
	part := make([]byte, 4096)
	for {
		n, err := c.Read(part)
		if err != nil {
			return err
		}
		data = append(data, part[:n]...)
		size, got, err := smtpReply(data)
		if err != nil {
			return err
		}
		if size == 0 {
			continue
		}
		if got != code {
			return fmt.Errorf("%d was wanted, the reply was %q", code, data[:size])
		}
		return nil
	}
}

// smtpReply finds the whole reply at the beginning of data (RFC 5321 section 4.2), 0 octets if there is none yet.
func smtpReply(data []byte) (size, code int, err error) {
	for rest := data; ; {
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			if len(data) > replyOctets {
				return 0, 0, fmt.Errorf("%w: over %d octets", errReply, replyOctets)
			}
			return 0, 0, nil
		}
		line := rest[:end+1]
		size += len(line)
		if len(line) < 4 || line[0] < '2' || line[0] > '5' || line[1] < '0' || line[1] > '9' || line[2] < '0' || line[2] > '9' {
			return 0, 0, fmt.Errorf("%w: %q", errReply, line)
		}
		if line[3] != '-' {
			return size, int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0'), nil
		}
		rest = rest[end+1:]
	}
}

func (d *smtpDialogue) Request(buf []byte) []byte {
	switch {
	case d.left == 0 && (d.state == smtpRcpt):
		d.state = smtpReset
		return append(buf, "RSET\r\n"...)
	case d.left == 0:
		d.state, d.left = smtpMail, d.PerTransaction
		buf = append(buf, "MAIL FROM:<"...)
		buf = append(buf, d.Sender...)
		return append(buf, ">\r\n"...)
	}
	d.state = smtpRcpt
	d.left--
	buf = append(buf, "RCPT TO:<"...)
	buf = d.Recipients.Append(buf)
	return append(buf, ">\r\n"...)
}

func (d *smtpDialogue) Reply(data []byte) (int, Outcome, error) {
	size, code, err := smtpReply(data)
	switch {
	case err != nil || size == 0:
		return 0, Pending, err
	case code == 421:
		return size, Pending, fmt.Errorf("the server ends the session: %q", data[:size])
	case d.state == smtpRcpt && code < 300:
		return size, Accepted, nil
	case d.state == smtpRcpt && code >= 500:
		return size, Refused, nil
	case d.state == smtpRcpt:
		return size, Temporary, nil
	case code >= 300:
		return size, Pending, fmt.Errorf("the server refused MAIL or RSET: %q", data[:size])
	}
	return size, Step, nil
}
