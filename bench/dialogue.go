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
func ServeDialogue(ctx context.Context, socket setting.Socket, backend string) error {
	ln, err := milter.Listen(ctx, socket, 0o600, "")
	if err != nil {
		return err
	}
	return milter.New(newDialogue(backend), milter.DefaultConfig(), slog.New(slog.DiscardHandler)).Serve(ctx, ln)
}

// dialogue is a gate that asks the backend about each recipient over a connection made for it.
type dialogue struct {
	backend string
	dialer  net.Dialer
	buffers sync.Pool // of *[4096]byte
}

func newDialogue(backend string) *dialogue {
	d := &dialogue{backend: backend, dialer: net.Dialer{Timeout: dialogueLimit, KeepAlive: -1}}
	d.buffers.New = func() any { return new([4096]byte) }
	return d
}

// Wants implements rcptgate.Asker: recipients are enough.
func (*dialogue) Wants() rcptgate.Wants { return 0 }

// Ask implements rcptgate.Asker.
func (d *dialogue) Ask(ctx context.Context, q *rcptgate.Query) rcptgate.Verdict {
	code, err := d.hold(ctx, q.Recipient.Path)
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
