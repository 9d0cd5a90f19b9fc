// SPDX-License-Identifier: BSD-2-Clause

package listen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate/kit/guard"
	"rcptgate/kit/term"
)

// Exchange serves connections of a protocol in which the client asks, and reads the answer:
// socket maps, DNS over TCP. Questions may come in any number of pieces, and several in one
// piece; they are answered in their order. It is safe for concurrent use; no field changes
// after the first Serve.
type Exchange struct {
	Name  string        // for the log: "socketmap"
	Most  int           // connections at one time, over all listeners; one more is closed at once, see Yield
	Yield bool          // one more is taken, and the one goes whose last question is the longest ago
	Idle  time.Duration // how long a client may be silent between questions
	Frame time.Duration // how long a question may take to arrive, and an answer to be sent
	Drain time.Duration // how long questions may be in work after the end
	Size  int           // the longest question, in octets
	// Split finds the first question in what has arrived: the question, and how many octets
	// it takes. 0 taken: it is not complete. An error ends the connection.
	Split func(arrived []byte) (question []byte, taken int, err error)
	// Answer appends the answer to out. An error ends the connection.
	Answer func(ctx context.Context, client net.Addr, out, question []byte) ([]byte, error)
	// Broken is called for a connection that Split or Answer ended.
	Broken func(client net.Addr, err error)
	Log    *slog.Logger

	counts  exchangeCounts
	mu      sync.Mutex // held to begin and end connections, never to answer
	conns   map[*exchangeConn]struct{}
	running sync.WaitGroup
	ending  atomic.Bool
	hurry   chan struct{}
	once    sync.Once
}

type exchangeCounts struct {
	open                                 atomic.Int64
	accepted, refused, malformed, timeup atomic.Uint64
}

// ExchangeStats are counts since the start.
type ExchangeStats struct {
	Open      int64  // connections now
	Accepted  uint64 // connections taken
	Refused   uint64 // closed because there were too many
	Malformed uint64 // ended for what they sent
	TimedOut  uint64 // ended for being slow; not for being idle
}

// Stats gives the counts.
func (e *Exchange) Stats() ExchangeStats {
	c := &e.counts
	return ExchangeStats{c.open.Load(), c.accepted.Load(), c.refused.Load(), c.malformed.Load(), c.timeup.Load()}
}

// begin makes what the zero Exchange lacks.
func (e *Exchange) begin() {
	e.once.Do(func() { e.conns, e.hurry = make(map[*exchangeConn]struct{}), make(chan struct{}) })
}

// Hurry ends a drain, now or later, as if its time were up.
func (e *Exchange) Hurry() {
	e.begin()
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.hurry:
	default:
		close(e.hurry)
	}
}

// Serve answers on the listeners until ctx ends, which is not an error. Idle connections are
// closed then, and questions in work are answered first, for as long as Drain. It closes the
// listeners, and returns when all connections have ended. A listener that fails ends all of it. An Answer that does not heed the
// end of its context is left behind, with a line in the log.
func (e *Exchange) Serve(ctx context.Context, list ...net.Listener) error {
	e.begin()
	asking, cancel := context.WithCancel(context.WithoutCancel(ctx)) // questions outlive ctx
	defer cancel()
	accepting, end := context.WithCancel(ctx)
	defer end()
	stop := context.AfterFunc(accepting, func() {
		for _, ln := range list {
			_ = ln.Close()
		}
	})
	defer stop()
	var running sync.WaitGroup
	failed := make([]error, len(list))
	for i, ln := range list {
		running.Go(func() {
			err := Accept(ln, func(nc net.Conn) { e.take(asking, nc) }, func(err error) {
				e.Log.Warn(e.Name+" connection not accepted, retrying", "listener", ln.Addr().String(), "error", err)
			})
			if accepting.Err() == nil {
				failed[i] = fmt.Errorf("accept %s connections on %v: %w", e.Name, ln.Addr(), err)
			}
			end() // the other listeners too, so that the program notices
		})
	}
	running.Wait()
	e.drain(cancel)
	return errors.Join(failed...)
}

// take starts a connection, or closes it when there are too many.
func (e *Exchange) take(ctx context.Context, nc net.Conn) {
	// Those that make room are on their way out: there is a bound on them too.
	if open := e.counts.open.Add(1); open > int64(e.Most) && (!e.Yield || open > 2*int64(e.Most)) {
		e.counts.open.Add(-1)
		e.counts.refused.Add(1)
		_ = nc.Close()
		return
	}
	e.counts.accepted.Add(1)
	c := &exchangeConn{e: e, nc: nc, buf: make([]byte, min(firstBuffer, e.Size))}
	c.asked.Store(time.Now().UnixNano())
	e.mu.Lock()
	if len(e.conns) >= e.Most {
		e.makeRoom()
	}
	e.conns[c] = struct{}{}
	e.mu.Unlock()
	e.running.Go(func() {
		defer func() {
			_ = nc.Close()
			e.mu.Lock()
			delete(e.conns, c)
			e.mu.Unlock()
			e.counts.open.Add(-1)
		}()
		defer guard.Log(e.Log, e.Name+" connection ended by a panic")
		c.serve(ctx)
	})
}

// makeRoom ends the connection whose last question is the longest ago. The mutex is held.
func (e *Exchange) makeRoom() {
	var oldest *exchangeConn
	for c := range e.conns {
		if oldest == nil || c.asked.Load() < oldest.asked.Load() {
			oldest = c
		}
	}
	delete(e.conns, oldest)
	e.counts.refused.Add(1)
	_ = oldest.nc.Close() // of a socket: it does not wait
}

// drain ends the connections and waits for them.
func (e *Exchange) drain(cancel context.CancelFunc) {
	e.ending.Store(true)
	e.each(func(nc net.Conn) { _ = nc.SetReadDeadline(time.Unix(1, 0)) }) // whoever waits wakes
	ended := make(chan struct{})
	go func() { e.running.Wait(); close(ended) }()
	timer := time.NewTimer(e.Drain)
	defer timer.Stop()
	select {
	case <-ended:
		return
	case <-e.hurry:
	case <-timer.C:
	}
	cancel()
	e.each(func(nc net.Conn) { _ = nc.Close() })
	last := time.NewTimer(leaveAfter)
	defer last.Stop()
	select {
	case <-ended:
	case <-last.C:
		e.Log.Error(e.Name+" questions do not finish; leaving them behind", "connections", e.counts.open.Load())
	}
}

// leaveAfter is how long a drain waits for answers whose time has ended.
const leaveAfter = 5 * time.Second

func (e *Exchange) each(do func(net.Conn)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.conns {
		do(c.nc)
	}
}

const (
	firstBuffer = 512     // of a connection; it grows up to Size
	flushAt     = 8 << 10 // answers to several questions are sent together up to this size
)

// exchangeConn is one connection. It belongs to its own goroutine.
type exchangeConn struct {
	e        *Exchange
	nc       net.Conn
	buf, out []byte
	n        int          // octets of buf that have arrived and are not answered
	partial  bool         // the read deadline is that of a question that has begun
	silent   time.Time    // the read deadline between questions
	unread   time.Time    // the write deadline
	asked    atomic.Int64 // when it last asked, or came, UNIX nanoseconds; kept if others can take its place
}

// serve answers questions until the connection ends.
func (c *exchangeConn) serve(ctx context.Context) {
	for {
		if err := c.answer(ctx); err != nil {
			return
		}
		c.arm()
		if c.e.ending.Load() { // after the deadline was set: a drain's own would be lost
			return
		}
		n, err := c.nc.Read(c.buf[c.n:])
		c.n += n
		if err != nil && n == 0 {
			if c.partial && errors.Is(err, os.ErrDeadlineExceeded) && !c.e.ending.Load() {
				c.e.counts.timeup.Add(1)
			}
			return
		}
	}
}

// arm sets the deadline of the next read. Between questions it is renewed now and then, not
// for each.
func (c *exchangeConn) arm() {
	now := time.Now()
	if c.n > 0 {
		if !c.partial { // the first octet's time counts: a trickle does not prolong it
			c.partial, c.silent = true, time.Time{}
			_ = c.nc.SetReadDeadline(now.Add(c.e.Frame))
		}
		return
	}
	c.partial = false
	if c.silent.Sub(now) < c.e.Idle-c.e.Idle/8 {
		c.silent = now.Add(c.e.Idle)
		_ = c.nc.SetReadDeadline(c.silent)
	}
}

// answer answers all complete questions that have arrived, with one write if it can.
func (c *exchangeConn) answer(ctx context.Context) (err error) {
	c.out = c.out[:0]
	at := 0
	for at < c.n {
		question, taken, err := c.e.Split(c.buf[at:c.n])
		if err == nil && taken == 0 {
			break
		}
		c.partial = c.partial && taken == 0
		if c.e.Yield {
			c.asked.Store(time.Now().UnixNano())
		}
		if err == nil {
			c.out, err = c.e.Answer(ctx, c.nc.RemoteAddr(), c.out, question)
		}
		if err != nil {
			c.broken(err)
			_ = c.flush() // answers to what was right before
			return err
		}
		at += taken
		if len(c.out) >= flushAt {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
	c.n = copy(c.buf, c.buf[at:c.n])
	if c.n == len(c.buf) {
		if len(c.buf) >= c.e.Size {
			err := fmt.Errorf("a question has more than %s", term.Count(c.e.Size, "octet"))
			c.broken(err)
			return err
		}
		c.buf = append(c.buf, make([]byte, min(len(c.buf), c.e.Size-len(c.buf)))...)
	} else if c.n == 0 && len(c.buf) > 8*firstBuffer {
		c.buf = make([]byte, firstBuffer)
	}
	return c.flush()
}

func (c *exchangeConn) broken(err error) {
	c.e.counts.malformed.Add(1)
	if c.e.Broken != nil {
		c.e.Broken(c.nc.RemoteAddr(), err)
	}
}

// flush sends the answers. Its deadline is at least Frame away, and renewed when it is not.
func (c *exchangeConn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	if now := time.Now(); c.unread.Sub(now) < c.e.Frame {
		c.unread = now.Add(2 * c.e.Frame)
		_ = c.nc.SetWriteDeadline(c.unread)
	}
	_, err := c.nc.Write(c.out)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.e.counts.timeup.Add(1)
	}
	if cap(c.out) > flushAt+c.e.Size {
		c.out = nil
	}
	c.out = c.out[:0]
	return err
}

// Peer names a client for the log. Clients of unix sockets have no name.
func Peer(client net.Addr) string {
	if client == nil || client.String() == "" || client.String() == "@" {
		return "a local client"
	}
	return client.String()
}
