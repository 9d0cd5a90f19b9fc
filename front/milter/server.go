// SPDX-License-Identifier: BSD-2-Clause

package milter

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

	"rcptgate"
	"rcptgate/front/listen"
	"rcptgate/front/milter/wire"
	"rcptgate/kit/notice"
	"rcptgate/kit/term"
)

// Server answers milter connections on any number of listeners, whose connections
// count together.
type Server struct {
	gate     rcptgate.Asker
	config   Config
	limits   wire.Limits
	log      *slog.Logger
	totals   totals
	full     logGap
	refusing logGap

	spools       spools
	letterLimits wire.Limits // of connections that send messages
	buffers      sync.Pool   // *[wire.BigBuffer]byte, for their frames
	notices      *notice.Board
	// maxConns is the number of connections that the limit of open files allows too.
	maxConns func() int64

	mu        sync.Mutex // held to start, end, watch and count connections, never to answer
	listeners map[*listener]struct{}

	hurry   chan struct{} // closed: a drain ends at once
	hurried sync.Once
}

// New makes a server that puts its questions to gate. config's missing values are
// the defaults. The server has no goroutine before Serve.
func New(gate rcptgate.Asker, config Config, log *slog.Logger) *Server {
	config = config.withDefaults()
	s := &Server{
		gate: gate, config: config, limits: limitsFor(config.FrameSize), log: log,
		listeners: make(map[*listener]struct{}), hurry: make(chan struct{}),
	}
	s.letterLimits = withMessages(s.limits)
	s.spools.dir, s.spools.max = os.TempDir(), int64(config.Spool)
	s.maxConns = sync.OnceValue(s.connectionLimit)
	return s
}

// SpoolIn has bodies that do not fit into memory written to files in a directory, which is
// made when it is needed, and reports to a board that they cannot be. It is called before
// Serve.
func (s *Server) SpoolIn(dir string, notices *notice.Board) { s.spools.dir, s.notices = dir, notices }

// Hurry ends a drain, now or later, as if its time were up: transactions in progress
// are cut off.
func (s *Server) Hurry() { s.hurried.Do(func() { close(s.hurry) }) }

// skippedMax bounds the frames that are thrown away: a part of a body, at most
// 1 MiB, the largest that Sendmail and libmilter know.
const skippedMax = 1<<20 + 1

func limitsFor(frameSize int) (l wire.Limits) {
	for _, cmd := range []byte{wire.CmdConnect, wire.CmdHelo, wire.CmdMail, wire.CmdRcpt, wire.CmdMacro} {
		l[cmd] = wire.Limit{Max: uint32(frameSize)}
	}
	l[wire.CmdOptions] = wire.Limit{Max: 4096}
	for _, cmd := range []byte{wire.CmdAbort, wire.CmdQuit, wire.CmdQuitNewConn} {
		l[cmd] = wire.Limit{Max: 1024, Skip: true}
	}
	for _, cmd := range []byte{wire.CmdBody, wire.CmdHeader, wire.CmdEndOfHeader, wire.CmdEndOfMsg, wire.CmdData, wire.CmdUnknown} {
		l[cmd] = wire.Limit{Max: skippedMax, Skip: true}
	}
	return l
}

// headerFrameMax bounds one field of a header: MTAs have limits of their own (Sendmail
// MaxHeadersLength, Postfix header_size_limit), which are lower by default.
const headerFrameMax = 1 << 20

// withMessages are the limits of a connection that sends header and body.
func withMessages(l wire.Limits) wire.Limits {
	l[wire.CmdHeader] = wire.Limit{Max: headerFrameMax}
	l[wire.CmdBody] = wire.Limit{Max: skippedMax}
	l[wire.CmdEndOfMsg] = wire.Limit{Max: skippedMax}
	return l
}

// bodyMax is how much of a body is kept.
func (s *Server) bodyMax() int64 { return int64(s.config.Body) }

// Serve answers the connections of ln until ctx ends, which is no error, or the
// listener fails. Then it drains: connections between transactions are closed at
// once, the others may finish theirs within Config.Drain. Questions still being
// asked after that have their context cancelled. Serve closes ln and returns when
// all connections have ended. It may be called for several listeners at once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error { return s.serve(ctx, ln, false) }

// ServeLocal is Serve for mail of the machine's own users, who do not speak SMTP: a
// recipient that is refused is not answered with a refusal, which would leave the message
// in the MTA's queue; the message is, at its end.
func (s *Server) ServeLocal(ctx context.Context, ln net.Listener) error {
	return s.serve(ctx, ln, true)
}

func (s *Server) serve(ctx context.Context, ln net.Listener, local bool) error {
	// Questions outlive ctx: they are cancelled at the end of the drain.
	asking, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	l := &listener{srv: s, conns: make(map[*conn]struct{}), max: s.maxConns(), name: ln.Addr().String(), local: local}
	s.mu.Lock()
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	watch := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() { l.watch(watch) })

	err := listen.Accept(ln, func(nc net.Conn) { l.take(asking, nc) }, func(err error) {
		s.log.Warn("milter connection not accepted, retrying", "listener", l.name, "error", err)
	})
	switch {
	case ctx.Err() != nil:
		err = nil
	case !errors.Is(err, net.ErrClosed):
		err = fmt.Errorf("accept milter connections on %v: %w", ln.Addr(), err)
	}
	_ = ln.Close()
	late := l.drain(cancel)
	s.mu.Lock()
	delete(s.listeners, l)
	s.mu.Unlock()
	close(watch)
	watching.Wait()
	if err == nil && late > 0 {
		err = fmt.Errorf("drain milter connections: %s did not end when cancelled", term.Count(late, "question"))
	}
	return err
}

// listener is one Serve: its connections, and their end.
type listener struct {
	srv      *Server
	name     string // its address, or the path of its socket
	local    bool
	max      int64
	draining atomic.Bool
	running  sync.WaitGroup
	conns    map[*conn]struct{} // under srv.mu
}

// take starts a connection, or closes it when there are too many.
func (l *listener) take(ctx context.Context, nc net.Conn) {
	s := l.srv
	if open := s.totals.open.Add(1); open > l.max {
		s.totals.open.Add(-1)
		s.totals.refused.Add(1)
		_ = nc.Close()
		s.logFull("milter connection closed: too many connections", "limit", l.max, "refused", s.totals.refused.Load())
		return
	}
	s.totals.accepted.Add(1)
	c := newConn(l, nc)
	l.srv.mu.Lock()
	l.conns[c] = struct{}{}
	l.srv.mu.Unlock()
	l.running.Go(func() {
		defer l.forget(c)
		c.serve(ctx)
	})
}

func (l *listener) forget(c *conn) {
	_ = c.nc.Close()
	l.srv.mu.Lock()
	delete(l.conns, c)
	l.srv.totals.add(&c.counts)
	l.srv.mu.Unlock()
	l.srv.totals.open.Add(-1)
}

// each calls do for every connection.
func (l *listener) each(do func(*conn)) {
	l.srv.mu.Lock()
	defer l.srv.mu.Unlock()
	for c := range l.conns {
		do(c)
	}
}

// cancelGrace is how long a cancelled question may take to return.
const cancelGrace = 5 * time.Second

// drain ends all connections and waits for them. It reports how many it gave up
// waiting for.
func (l *listener) drain(cancelAsking context.CancelFunc) int {
	l.draining.Store(true)
	wake := time.Unix(1, 0)
	// Whoever waits for a frame wakes and sees for itself whether it is in a
	// transaction; closing from here could cut off a MAIL that has just arrived.
	l.each(func(c *conn) { _ = c.nc.SetReadDeadline(wake) })
	ended := make(chan struct{})
	go func() { l.running.Wait(); close(ended) }()
	if waitFor(ended, l.srv.hurry, l.srv.config.Drain.Std()) {
		return 0
	}
	l.each(func(c *conn) { c.end(endDrained) })
	cancelAsking()
	if waitFor(ended, nil, cancelGrace) {
		return 0
	}
	l.srv.mu.Lock()
	defer l.srv.mu.Unlock()
	return len(l.conns)
}

// waitFor waits until done, but neither longer than limit nor beyond hurry.
func waitFor(done, hurry <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-hurry:
	case <-timer.C:
	}
	return false
}

// watch ends connections that are silent or slow for too long, until stop.
func (l *listener) watch(stop <-chan struct{}) {
	c := &l.srv.config
	tick := min(max(min(c.Idle.Std(), c.FrameTime.Std())/8, 10*time.Millisecond), time.Second)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case now := <-ticker.C:
			l.each(func(conn *conn) { conn.checkTime(now, c) })
		}
	}
}

// logFull logs a shortage, at most once in ten seconds.
func (s *Server) logFull(msg string, args ...any) {
	if s.full.open(time.Now(), 10*time.Second) {
		s.log.Warn(msg, args...)
	}
}

// cannot logs that something was decided that this connection cannot do.
func (s *Server) cannot(v *rcptgate.Verdict) {
	if s.refusing.open(time.Now(), time.Minute) {
		s.log.Warn("the MTA has not agreed to this action; the sender is asked to try again later", "action", v.Action.String(), "reason", string(v.Reason))
	}
}

// logGap lets something happen at most once in a while.
type logGap struct{ last atomic.Int64 }

func (g *logGap) open(now time.Time, gap time.Duration) bool {
	last := g.last.Load()
	return now.UnixNano()-last >= int64(gap) && g.last.CompareAndSwap(last, now.UnixNano())
}
