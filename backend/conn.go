// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"bytes"
	"errors"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"rcptgate/kit/neterr"
)

// conn is one connection to a backend. It belongs to one goroutine at a time: the
// one that opens it, then each prober in turn; only abort may be called by others.
type conn struct {
	b    *Backend
	set  *settings // those active when it was opened
	sock *socket
	nc   net.Conn // sock, or TLS over it
	in   replyReader
	out  []byte

	pipelining, utf8, starttls, size bool  // offered
	sizeMax                          int64 // in octets; 0: no limit
	secure                           bool  // TLS
	unheard                          bool  // HELO, without a reply to EHLO that says what is offered
	makeshift                        bool  // without EHLO or TLS, which may work next time: for one question

	probes   int       // recipients asked about
	refusals int       // of these, refused
	errors   int       // 4xx and 5xx replies; Postfix counts each of them
	began    time.Time // when it was opened
	used     time.Time // when it became idle
	dirty    bool      // a transaction may be open: RSET comes first

	doubts []func() // of the questions answered here, see Probe.Doubted

	kept  bool // has been used, or has lain idle: it may have ended meanwhile
	ready bool // opening is over

	// For the probe that it carries, or its opening.
	mailAnswered bool
	together     bool  // MAIL and RCPT went out in one write
	late         bool  // due has passed
	stage        Stage // before MAIL; for what is said when it is late
	clockSet     time.Time
	due          time.Time // see clock
	until        time.Time
	stall        time.Time // zero: none
	armed        time.Time // the deadline of the socket; it may have passed

	aborted atomic.Bool
	aborter func() // abort, made once
	overdue bool   // in pool.overdue; guarded by pool.mu
}

// worn reports whether c has carried as much as the backend should see on one
// connection, or is too old.
func (c *conn) worn(know knownNow, now time.Time) bool {
	probes, errs := c.set.ProbesPerConnection, c.set.RefusalsPerConnection
	if know.maxProbes > 0 {
		probes = min(probes, know.maxProbes)
	}
	if know.maxErrors > 0 {
		errs = min(errs, know.maxErrors)
	}
	return c.probes >= probes || c.errors >= errs || c.makeshift || c.aged(now)
}

func (c *conn) aged(now time.Time) bool { return now.Sub(c.began) >= c.set.ConnectionAge.Std() }

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// errStalled: some but not all replies to a pipelined write came.
var errStalled = errors.New("no further reply to pipelined commands")

// clock bounds what follows: at due the backend counts as late, which may open the
// breaker; at until reading and writing fail.
func (c *conn) clock(due, until time.Time) {
	c.due, c.until, c.late, c.stall = due, until, false, time.Time{}
	c.mailAnswered, c.together = false, false
	c.clockSet = time.Now()
	c.waitFrom(c.clockSet)
}

// stallAfter makes reads fail with errStalled after d; 0 takes that back.
func (c *conn) stallAfter(d time.Duration) {
	if d == 0 {
		if c.stall.IsZero() {
			return
		}
		c.stall = time.Time{}
	} else {
		c.stall = time.Now().Add(d)
	}
	c.wait()
}

// wait sets the deadline to the next moment at which something has to be decided.
func (c *conn) wait() { c.waitFrom(time.Now()) }

func (c *conn) waitFrom(now time.Time) {
	at := c.until
	if !c.late && c.due.Before(at) {
		at = c.due
	}
	if !c.stall.IsZero() && c.stall.Before(at) {
		at = c.stall
	}
	// One that is set already and passes before that does as well: Read looks at the
	// clock and waits on. Under TLS writes would fail, so there it is exact.
	if !c.secure && !c.armed.IsZero() && !at.Before(c.armed) && c.armed.After(now.Add(time.Second)) {
		return
	}
	c.arm(at)
}

// arm sets the deadline of the socket.
func (c *conn) arm(at time.Time) {
	c.armed = at
	_ = c.sock.SetDeadline(at) // fails only on a closed socket, and then so does what follows
	if c.aborted.Load() {
		_ = c.sock.SetDeadline(past)
	}
}

// abort ends what the connection is doing with a time-out. It may be called at any
// time by anyone; the connection is not used again.
func (c *conn) abort() {
	c.aborted.Store(true)
	_ = c.sock.SetDeadline(past)
}

// Read is the replies' source: it reads on when only due has passed.
func (c *conn) Read(p []byte) (int, error) {
	for {
		n, err := c.nc.Read(p)
		if c.sock.unquiet {
			return 0, c.unasked(p[:n], err)
		}
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || c.aborted.Load() {
			return n, err
		}
		now := time.Now()
		switch {
		case !c.stall.IsZero() && !now.Before(c.stall):
			return 0, errStalled
		case !now.Before(c.until):
			return 0, err
		case !c.late && !now.Before(c.due):
			if n, err := c.arrived(p); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				return n, err
			}
			c.late = true
			c.b.becameLate(c)
		}
		c.wait()
	}
}

// arrived reads what has come meanwhile. Past a deadline a read fails whatever lies
// ready, and when this machine stood still, the backend is not to blame.
func (c *conn) arrived(p []byte) (int, error) {
	c.arm(c.until)
	c.sock.now = true
	n, err := c.nc.Read(p)
	c.sock.now = false
	c.wait()
	return n, err
}

// quiet is nil when nothing has arrived since the last reply: no stray reply, no
// 421, no end.
func (c *conn) quiet() error {
	if c.in.pending() {
		return errUnasked
	}
	c.sock.now = true
	n, err := c.nc.Read(c.in.buf[:])
	c.sock.now = false
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return c.unasked(c.in.buf[:n], err)
}

// unasked is the error for what has arrived without being asked for, or for the end of
// the connection.
func (c *conn) unasked(arrived []byte, err error) error {
	if len(arrived) == 0 {
		return err
	}
	if !bytes.HasPrefix(arrived, []byte("421")) {
		c.doubt()
	}
	return errUnasked
}

// send is write for the first command of a probe, and looks before it whether something
// has arrived: an error of unasked, now or by the next read.
func (c *conn) send() error {
	if c.secure {
		if err := c.quiet(); err != nil {
			c.sock.unquiet = true
			return err
		}
		return c.write()
	}
	c.sock.out = c.out
	return nil
}

// write sends what is in c.out.
func (c *conn) write() error {
	_, err := c.nc.Write(c.out)
	return err
}

// hurry bounds what follows to d, and keeps the breaker out of it; the function that it
// gives takes that back.
func (c *conn) hurry(d time.Duration) (back func()) {
	due, until := c.due, c.until
	if soon := time.Now().Add(d); soon.Before(until) {
		c.until = soon
	}
	c.due = c.until
	c.wait()
	return func() {
		c.due, c.until = due, until
		c.wait()
	}
}

// command sends one line and reads its reply.
func (c *conn) command(line string) (Reply, error) {
	if c.in.pending() {
		return Reply{}, errUnasked
	}
	c.out = append(append(c.out[:0], line...), "\r\n"...)
	if err := c.write(); err != nil {
		return Reply{}, err
	}
	return c.in.next(true)
}

// quitWait bounds the time that is spent on QUIT.
const quitWait = time.Second

// quit ends the session as RFC 5321 section 4.1.1.10 wants it.
func (c *conn) quit() {
	until := time.Now().Add(quitWait)
	c.clock(until, until)
	if c.quiet() == nil {
		if _, err := c.command("QUIT"); err == nil {
			// The server closes first: only then has it a place for the next connection,
			// and TIME_WAIT is its own. One reply more than expected is a stray one.
			if _, err := c.in.next(false); err == nil {
				c.doubt()
			}
		}
	}
	c.close()
}

// doubtsMax bounds the questions of one connection that can still be doubted.
const doubtsMax = 128

// trust keeps what to call should the reply that was just given come into doubt.
func (c *conn) trust(doubted func()) {
	if doubted == nil {
		return
	}
	if len(c.doubts) == doubtsMax {
		c.doubts = slices.Delete(c.doubts, 0, doubtsMax/2)
	}
	c.doubts = append(c.doubts, doubted)
}

// doubt calls Doubted for all questions answered on c: a reply came that was not asked
// for, so the replies may have been shifted against the questions.
func (c *conn) doubt() {
	for _, doubted := range c.doubts {
		doubted()
	}
	c.doubts = nil
}

// bye says QUIT without waiting for the reply, and closes the connection.
func (c *conn) bye() {
	now := time.Now().Add(quitWait)
	c.clock(now, now)
	c.out = append(c.out[:0], "QUIT\r\n"...)
	_ = c.write() // the connection ends either way
	c.close()
}

// close ends the connection at once. The socket below TLS is closed, since a
// close_notify could block.
func (c *conn) close() { _ = c.sock.Close() }

// failure says what err meant at stage.
func (c *conn) failure(stage Stage, err error) *Failure {
	kind := KindDropped
	switch {
	case errors.Is(err, errGarbage):
		kind = KindGarbage
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, errStalled):
		kind = KindTimeout
	}
	return c.b.failure(stage, kind, neterr.Bare(err))
}

func (c *conn) refused(stage Stage, rep Reply) *Failure {
	f := c.b.failure(stage, KindReply, nil)
	f.Reply = &rep
	if rep.Code/100 == 2 || rep.Code/100 == 3 {
		f.Kind = KindGarbage
	}
	return f
}
