// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"rcptgate"
	"rcptgate/config/setting"
	"rcptgate/front/milter"
)

// dialogueLimit bounds one dialogue of ServeDialogue.
const dialogueLimit = 10 * time.Second

// ServeDialogue runs a milter on a socket until ctx ends that does for every recipient what milter-ahead does for one it
// does not remember, and nothing else: it connects to the backend (HOST:PORT, an address and no name), holds one plain
// SMTP dialogue (banner, HELO, MAIL, RCPT, QUIT), and passes the reply to RCPT on. The connection is the answering
// goroutine's own, nothing is remembered, logged or looked up, so it is the cheapest that such a milter can be; the
// milter protocol is spoken by the gate's own front.
//
// With kept set the connections are used again, and the commands go out in one write (RFC 2920): nobody can ask a backend
// with less work, so that what a gate takes more is what it knows more.
func ServeDialogue(ctx context.Context, socket setting.Socket, backend string, kept bool) error {
	ln, err := milter.Listen(ctx, socket, 0o600, "")
	if err != nil {
		return err
	}
	return milter.New(newDialogue(backend, kept), milter.DefaultConfig(), slog.New(slog.DiscardHandler)).Serve(ctx, ln)
}

// maxKept bounds the connections that lie idle.
const maxKept = 64

// dialogue is a gate that asks the backend about each recipient, over a connection made for it or over a kept one.
type dialogue struct {
	backend string
	kept    chan *session // nil: a connection for each recipient
	dialer  net.Dialer
	buffers sync.Pool // of *[4096]byte
}

func newDialogue(backend string, kept bool) *dialogue {
	d := &dialogue{backend: backend, dialer: net.Dialer{Timeout: dialogueLimit, KeepAlive: -1}}
	d.buffers.New = func() any { return new([4096]byte) }
	if kept {
		d.kept = make(chan *session, maxKept)
	}
	return d
}

// Wants implements rcptgate.Asker: recipients are enough.
func (*dialogue) Wants() rcptgate.Wants { return 0 }

// Ask implements rcptgate.Asker.
func (d *dialogue) Ask(ctx context.Context, q *rcptgate.Query) rcptgate.Verdict {
	hold := d.hold
	if d.kept != nil {
		hold = d.goOn
	}
	code, err := hold(ctx, q.Recipient.Path)
	switch {
	case err != nil || code == '4':
		return rcptgate.Verdict{Action: rcptgate.Tempfail, Code: 451, Enhanced: "4.4.1", Text: "the backend gave no answer"}
	case code == '5':
		return rcptgate.Verdict{Action: rcptgate.Reject, Code: 550, Enhanced: "5.1.1", Text: "the backend refuses this recipient"}
	}
	return rcptgate.Verdict{Action: rcptgate.Continue}
}

// hold holds one dialogue and gives the first digit of the reply to RCPT.
func (d *dialogue) hold(ctx context.Context, recipient string) (code byte, err error) {
	nc, err := d.dialer.DialContext(ctx, "tcp", d.backend)
	if err != nil {
		return 0, err
	}
	defer func() { _ = nc.Close() }()
	if err := nc.SetDeadline(time.Now().Add(dialogueLimit)); err != nil {
		return 0, err
	}
	buf := d.buffers.Get().(*[4096]byte)
	defer d.buffers.Put(buf)
	if got, err := replyCode(nc, buf[:]); err != nil || got != '2' {
		return 0, fmt.Errorf("banner begins with %q: %w", got, err)
	}
	for _, command := range []string{"HELO mx.gate.test\r\n", "MAIL FROM:<>\r\n", "RCPT TO:<" + recipient + ">\r\n", "QUIT\r\n"} {
		if _, err := nc.Write(append(buf[:0], command...)); err != nil {
			return 0, err
		}
		got, err := replyCode(nc, buf[:])
		switch {
		case err != nil:
			return 0, err
		case command[0] == 'R':
			code = got
		case got != '2':
			return 0, fmt.Errorf("reply to %.4q begins with %q", command, got)
		}
	}
	return code, nil
}

// replyCode reads one reply and gives the first digit of its code.
func replyCode(nc net.Conn, buf []byte) (byte, error) {
	n := 0
	for n < len(buf) {
		k, err := nc.Read(buf[n:])
		if err != nil {
			return 0, err
		}
		n += k
		if buf[n-1] != '\n' {
			continue
		}
		last := buf[bytes.LastIndexByte(buf[:n-1], '\n')+1 : n]
		if len(last) > 3 && last[3] != '-' {
			return last[0], nil
		}
	}
	return 0, fmt.Errorf("a reply of more than %d octets", len(buf))
}

// session is a kept connection, which belongs to one question at a time.
type session struct {
	net.Conn
	buf []byte
}

// goOn asks over a kept connection, and gives the first digit of the reply to RCPT.
func (d *dialogue) goOn(ctx context.Context, recipient string) (code byte, err error) {
	var s *session
	select {
	case s = <-d.kept:
	default:
		if s, err = d.begin(ctx); err != nil {
			return 0, err
		}
	}
	code, err = s.ask(recipient)
	if err == nil {
		select {
		case d.kept <- s:
			return code, nil
		default:
		}
	}
	_ = s.Close()
	return code, err
}

// begin opens a session as far as EHLO.
func (d *dialogue) begin(ctx context.Context) (*session, error) {
	nc, err := d.dialer.DialContext(ctx, "tcp", d.backend)
	if err != nil {
		return nil, err
	}
	s := &session{nc, make([]byte, 4096)}
	if _, err = replyCode(nc, s.buf); err == nil {
		if _, err = nc.Write([]byte("EHLO mx.gate.test\r\n")); err == nil {
			_, err = replyCode(nc, s.buf)
		}
	}
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	return s, nil
}

// ask sends MAIL, RCPT and RSET in one write, and reads their replies, which have one line each.
func (s *session) ask(recipient string) (code byte, err error) {
	out := append(append(append(s.buf[:0], "MAIL FROM:<>\r\nRCPT TO:<"...), recipient...), ">\r\nRSET\r\n"...)
	if _, err := s.Write(out); err != nil {
		return 0, err
	}
	n := 0
	for bytes.Count(s.buf[:n], []byte{'\n'}) < 3 {
		k, err := s.Read(s.buf[n:])
		if err != nil {
			return 0, err
		}
		n += k
	}
	_, rest, _ := bytes.Cut(s.buf[:n], []byte{'\n'})
	return rest[0], nil
}
