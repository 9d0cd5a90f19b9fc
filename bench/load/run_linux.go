// SPDX-License-Identifier: BSD-2-Clause

package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// inputOctets is the room for what a server sends ahead of being asked again: one reply.
const inputOctets = replyOctets + 1024

// Conn is a connection that is ready for its first question. Its descriptor is outside package net's poller, which would
// otherwise wake a thread of its own for each answer.
type Conn struct {
	fd int // -1 once closed
	Dialogue
}

// newConn takes c over.
func newConn(c net.Conn, d Dialogue) (*Conn, error) {
	defer c.Close() //nolint:errcheck // the copy of its descriptor lives on
	s, ok := c.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("connection of type %T has no descriptor", c)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	cerr := raw.Control(func(p uintptr) { fd, err = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(cerr, err); err != nil {
		return nil, fmt.Errorf("copying a descriptor: %w", err)
	}
	return &Conn{fd: fd, Dialogue: d}, nil
}

// Close ends the connection. It may be called again.
func (c *Conn) Close() error {
	if c.fd < 0 {
		return nil
	}
	fd := c.fd
	c.fd = -1
	return unix.Close(fd)
}

// runner is one Run: everything it touches belongs to its thread.
type runner struct {
	plan  Plan
	ctx   context.Context
	epoll int
	timer int // timerfd of a rate, -1 without

	lines   []line
	idle    []int32 // at a rate: connections without a question
	open    int     // connections still in use
	waiting int     // connections whose reply is outstanding
	start   time.Time
	stop    time.Time // no question after it; zero: none
	due     int       // at a rate: questions that were due so far
	ended   bool

	in, out []byte // in serves all connections: a reply is nearly always read whole
	result  Result
}

// line is one connection in use.
type line struct {
	*Conn
	busy    bool
	asked   time.Time // when the outstanding question was sent, or due
	pending []byte    // the beginning of a reply that has not arrived whole
}

func run(ctx context.Context, conns []*Conn, p Plan) (*Result, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := &runner{plan: p, ctx: ctx, epoll: -1, timer: -1, in: make([]byte, inputOctets), out: make([]byte, 0, 4096)}
	r.result.Latency = new(Histogram)
	defer r.close()
	if err := r.register(conns); err != nil {
		return nil, err
	}
	used, err := threadTime()
	if err != nil {
		return nil, err
	}
	r.start = time.Now()
	if p.Duration > 0 {
		r.stop = r.start.Add(p.Duration)
	}
	if err := r.loop(); err != nil {
		return nil, err
	}
	now, err := threadTime()
	r.result.CPU = now - used
	return &r.result, err
}

// register registers every connection with epoll under its index.
func (r *runner) register(conns []*Conn) (err error) {
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("creating an epoll instance: %w", err)
	}
	r.lines = make([]line, len(conns))
	for i, c := range conns {
		r.lines[i] = line{Conn: c}
		if c.fd < 0 { // it failed in a run before
			r.result.Failed++
			continue
		}
		r.open++
		r.idle = append(r.idle, int32(i))                            //nolint:gosec // far fewer connections
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)} //nolint:gosec // see above
		if err := unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, c.fd, &event); err != nil {
			return fmt.Errorf("watching a connection: %w", err)
		}
	}
	if r.plan.Rate <= 0 {
		return nil
	}
	if r.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return fmt.Errorf("creating a timer: %w", err)
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1}
	return unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, r.timer, &event)
}

func (r *runner) close() {
	for _, fd := range []int{r.epoll, r.timer} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// loop asks and listens until the plan has ended and nothing is outstanding.
func (r *runner) loop() error {
	if err := r.first(); err != nil {
		return err
	}
	events := make([]unix.EpollEvent, 256)
	quiet := time.Now()
	for r.open > 0 && (r.waiting > 0 || !r.over(time.Now())) {
		n, err := unix.EpollWait(r.epoll, events, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("waiting for answers: %w", err)
		}
		now := time.Now()
		if n > 0 {
			quiet = now
		} else if now.Sub(quiet) > r.plan.Patience {
			r.giveUp()
			return nil
		}
		for _, e := range events[:max(n, 0)] {
			if e.Fd >= 0 {
				r.readable(int(e.Fd), now)
			}
		}
		if r.timer >= 0 {
			if err := r.pace(now); err != nil {
				return err
			}
		}
	}
	return nil
}

// first sends a question over every connection, or starts the clock of a rate.
func (r *runner) first() error {
	if r.timer >= 0 {
		return r.pace(r.start)
	}
	for _, i := range r.idle {
		if r.over(r.start) {
			return nil
		}
		r.send(int(i), time.Now())
	}
	return nil
}

// over reports whether no further question is to be asked.
func (r *runner) over(now time.Time) bool {
	if !r.ended {
		r.ended = r.plan.Count > 0 && r.result.Asked >= r.plan.Count ||
			!r.stop.IsZero() && !now.Before(r.stop) || r.ctx.Err() != nil
	}
	return r.ended
}

// pace sends the questions that have become due over connections that are free, and sets the timer for the next one.
func (r *runner) pace(now time.Time) error {
	var expired [8]byte
	_, _ = unix.Read(r.timer, expired[:]) // only clears it
	interval := float64(time.Second) / r.plan.Rate
	for {
		at := r.start.Add(time.Duration(float64(r.due) * interval))
		if at.After(now) {
			left := unix.NsecToTimespec(int64(max(time.Until(at), time.Microsecond)))
			return unix.TimerfdSettime(r.timer, 0, &unix.ItimerSpec{Value: left}, nil)
		}
		if len(r.idle) == 0 || r.over(now) {
			return nil // an answer frees a connection, and pace is called after it
		}
		i := r.idle[len(r.idle)-1]
		r.idle = r.idle[:len(r.idle)-1]
		r.due++
		r.send(int(i), at)
	}
}

// send writes the next request of a connection. A question that another reply precedes (MAIL's) keeps the time it had.
func (r *runner) send(i int, asked time.Time) {
	l := &r.lines[i]
	r.out = l.Request(r.out[:0])
	if !l.busy {
		l.busy, l.asked = true, asked
		r.waiting++
		r.result.Asked++
	}
	n, err := unix.Write(l.fd, r.out)
	if err == nil && n < len(r.out) {
		err = errors.New("the server does not read")
	}
	if err != nil {
		r.fail(i, fmt.Errorf("sending a request: %w", err))
	}
}

// readable reads what a connection has, and asks again after a whole reply.
func (r *runner) readable(i int, now time.Time) {
	l := &r.lines[i]
	n, err := unix.Read(l.fd, r.in)
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return
	case err != nil:
		r.fail(i, fmt.Errorf("reading a reply: %w", err))
		return
	case n == 0:
		r.fail(i, errClosed)
		return
	}
	data := r.in[:n]
	if len(l.pending) > 0 {
		l.pending = append(l.pending, data...)
		data = l.pending
	}
	rest, err := r.replies(i, data, now)
	switch {
	case err != nil:
		r.fail(i, err)
	case len(rest) > replyOctets:
		r.fail(i, errOverlong)
	default:
		l.pending = append(l.pending[:0], rest...)
	}
}

// replies takes whole replies off data. There is at most one that leads to a new request, since one is outstanding.
func (r *runner) replies(i int, data []byte, now time.Time) (rest []byte, err error) {
	l := &r.lines[i]
	for len(data) > 0 {
		n, o, err := l.Reply(data)
		if err != nil || n == 0 {
			return data, err
		}
		data = data[n:]
		switch {
		case o == Pending:
		case !l.busy:
			return data, errors.New("the server answered what nobody had asked")
		case o == Step:
			if r.timer < 0 {
				l.asked = now // the answer's own time, MAIL's left out
			}
			r.send(i, l.asked)
		default:
			r.answered(i, o, now)
		}
	}
	return data, nil
}

// answered counts an answer and lets the connection ask again.
func (r *runner) answered(i int, o Outcome, now time.Time) {
	l := &r.lines[i]
	l.busy = false
	r.waiting--
	r.result.Latency.Add(now.Sub(l.asked))
	r.result.Elapsed = now.Sub(r.start)
	switch o {
	case Accepted:
		r.result.Accepted++
	case Refused:
		r.result.Refused++
	case Temporary:
		r.result.Temporary++
	}
	switch {
	case r.timer >= 0:
		r.idle = append(r.idle, int32(i)) //nolint:gosec // far fewer connections
	case !r.over(now):
		r.send(i, now)
	}
}

// fail takes a connection out.
func (r *runner) fail(i int, err error) {
	l := &r.lines[i]
	if l.fd < 0 {
		return
	}
	if l.busy {
		r.waiting--
	}
	_ = unix.EpollCtl(r.epoll, unix.EPOLL_CTL_DEL, l.fd, nil)
	_ = l.Close()
	r.open--
	for k, idle := range r.idle {
		if int(idle) == i && r.timer >= 0 {
			r.idle = append(r.idle[:k], r.idle[k+1:]...)
			break
		}
	}
	r.result.Failed++
	if r.result.Err == nil {
		r.result.Err = err
	}
}

// giveUp fails every connection whose reply is outstanding.
func (r *runner) giveUp() {
	for i := range r.lines {
		if r.lines[i].busy {
			r.fail(i, errSilent)
		}
	}
}

// threadTime is the processor time of the calling thread.
func threadTime() (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		return 0, fmt.Errorf("reading the thread's processor time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
