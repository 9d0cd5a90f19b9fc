// SPDX-License-Identifier: BSD-2-Clause

package antivirus

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"rcptgate/check/antivirus/clamd"
	"rcptgate/kit/notice"
)

const (
	maxFailed  = 3                // scans in a row that failed, and the server rests
	restMin    = time.Second      // before the first trial of a server that rests
	restMax    = 5 * time.Second  // before each later one
	restBlind  = 10 * time.Second // of a server that does not find the test file
	suspectGap = 5 * time.Second  // between two tests on a suspicion
	lookEvery  = time.Minute      // between two looks at the version of the signatures
	testEvery  = time.Hour        // between two self-tests
	shortEvery = time.Minute      // of a server that does not look into the largest messages
	lookTime   = 5 * time.Second  // for an answer to VERSION, unless timeout is shorter
	oldAfter   = 7 * 24 * time.Hour
)

// scanner looks for viruses. clamd.Client is one; tests have others.
type scanner interface {
	// Scan reads size octets of a message and gives what is in it.
	Scan(ctx context.Context, message io.Reader, size int64) (clamd.Finding, error)
	Version(ctx context.Context) (clamd.Version, error)
}

// server is one scanner and what is known of it. What is not atomic is guarded by the
// pool's lock.
type server struct {
	name string
	scanner
	scans, found, failures atomic.Uint64

	busy    int       // scans in progress
	row     int       // failures in a row
	until   time.Time // it rests until then; zero: it does not
	trials  int       // that failed, in a row
	testing bool
	begun   time.Time // of the last test
	tested  time.Time // when a self-test last ended with an answer; zero: never
	looked  time.Time // when the version was last asked
	proven  int64     // the size up to which it was seen to find the test file
	short   bool      // it does not look into the largest messages
	known   bool      // the first test has ended
	why     string    // it is not used, or what it cannot do
	version clamd.Version
}

// usable reports whether messages may be given to the server.
func (s *server) usable() bool { return s.known && s.until.IsZero() }

// report is what a test found out.
type report struct {
	err     error // the server does not answer
	same    bool  // nothing has changed: the rest was not tested
	version clamd.Version
	proven  int64
	short   error // why proven is less than the largest message
}

// test asks a server for its version and, unless a quick look shows that nothing has
// changed, has it find the test file: alone, then in a message of the largest size. If it
// does not find it there, smaller messages show how far it looks.
func (p *pool) test(ctx context.Context, s *server, quick bool, last string) (r report) {
	look, cancel := context.WithTimeout(ctx, min(lookTime, p.cfg.limit(0)))
	defer cancel()
	if r.version, r.err = s.Version(look); r.err != nil {
		return r
	}
	if r.same = quick && r.version.Text == last; r.same {
		return r
	}
	if !p.cfg.Selftest {
		r.proven = math.MaxInt64
		return r
	}
	least := sampleMin()
	if r.err = p.finds(ctx, s, least); r.err != nil {
		if clamd.KindOf(r.err) == notFound || clamd.KindOf(r.err) == clamd.TooLong {
			r.short, r.err = r.err, nil
		}
		return r
	}
	r.proven = least
	for size := int64(p.cfg.MaxSize); size > least && r.err == nil; size /= 2 {
		err := p.finds(ctx, s, size)
		if err == nil {
			r.proven = size
			return r
		}
		if r.short == nil {
			r.short = err
		}
		if kind := clamd.KindOf(err); kind == clamd.Connect || ctx.Err() != nil {
			r.err = err
		}
	}
	return r
}

// finds has a server scan a sample of a size; nil means that it was found.
func (p *pool) finds(ctx context.Context, s *server, size int64) error {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.limit(size))
	defer cancel()
	found, err := s.Scan(ctx, newSample(size), size)
	switch {
	case err != nil:
		return err
	case found.Name == "" || beyondLimits(found.Name):
		return &clamd.Error{Kind: notFound, Err: fmt.Errorf("the EICAR test file was not found in a message of %d octets", size)}
	}
	return nil
}

// notFound is the kind of error of a self-test whose sample was not found.
const notFound = clamd.Kind(255)

// startTest begins a test unless one runs. The pool is locked.
func (p *pool) startTest(s *server, quick bool) {
	if s.testing || p.life.Err() != nil {
		return
	}
	s.testing, s.begun = true, time.Now()
	last := s.version.Text
	p.work.Go(func() { p.endTest(s, p.test(p.life, s, quick, last)) })
}

// endTest books what a test found out.
func (p *pool) endTest(s *server, r report) {
	p.mu.Lock()
	now := time.Now()
	s.testing, s.looked = false, now
	if p.life.Err() != nil {
		p.mu.Unlock()
		return
	}
	switch {
	case r.err != nil:
		s.known, s.why = true, r.err.Error()
		s.until = now.Add(min(restMin<<min(s.trials, 8), restMax))
		s.trials++
	case r.same:
	default:
		s.known, s.version, s.tested = true, r.version, now
		s.row, s.trials, s.until, s.why, s.short = 0, 0, time.Time{}, "", r.short != nil
		if r.short != nil {
			s.why = r.short.Error()
		}
		if kind := clamd.KindOf(r.short); r.short == nil || kind == notFound || kind == clamd.TooLong || r.proven > s.proven {
			s.proven = r.proven // else it was slow or busy: what it has shown before counts
		}
		if r.proven == 0 {
			s.until = now.Add(restBlind)
		}
	}
	p.dispatch()
	p.mu.Unlock()
	p.tell(s, &r)
}

// tell puts on the board what a test found out.
func (p *pool) tell(s *server, r *report) {
	down, blind, short, old := "antivirus down "+s.name, "antivirus blind "+s.name, "antivirus limit "+s.name, "antivirus old "+s.name
	if r.err != nil {
		p.board.Clear(blind, "") // nothing is known of these until it answers
		p.board.Clear(short, "")
		p.board.Clear(old, "")
		p.board.Raise(slog.LevelWarn, down, "virus scanner does not answer", "server", s.name, "error", r.err)
		return
	}
	p.board.Clear(down, "virus scanner answers again", "server", s.name)
	if age := time.Since(r.version.Signatures); !r.version.Signatures.IsZero() && age > oldAfter {
		p.board.Raise(slog.LevelWarn, old, "the signatures of the virus scanner are old: does freshclam run?", "server", s.name, "made", r.version.Signatures.Format(time.DateOnly))
	} else {
		p.board.Clear(old, "the signatures of the virus scanner are fresh again", "server", s.name)
	}
	switch {
	case r.same:
	case r.proven == 0:
		p.board.Clear(short, "")
		p.board.Raise(slog.LevelError, blind, "virus scanner does not find the EICAR test file; it is not used until it does", "server", s.name, "error", r.short)
	case r.short != nil:
		p.board.Clear(blind, "virus scanner finds the EICAR test file again", "server", s.name)
		p.board.Raise(slog.LevelError, short, "virus scanner does not search messages of max_size: raise StreamMaxLength, MaxFileSize and MaxScanSize in clamd.conf, or lower max_size in [antivirus]",
			"server", s.name, "max_size", p.cfg.MaxSize, "looked_into", r.proven, "error", r.short)
	default:
		p.board.Clear(blind, "virus scanner finds the EICAR test file again", "server", s.name)
		p.board.Clear(short, "virus scanner searches messages of max_size", "server", s.name)
	}
}

// forgetNotices takes what was said of a server off the board.
func forgetNotices(board *notice.Board, name string) {
	for _, key := range []string{"down ", "blind ", "limit ", "old "} {
		board.Clear("antivirus "+key+name, "")
	}
}

// failed books the failure of a scan. The pool is locked.
func (p *pool) failed(s *server, size int64, err error) {
	s.failures.Add(1)
	s.why = err.Error()
	switch clamd.KindOf(err) {
	case clamd.Unread:
		return
	case clamd.Failed: // it answers: the message may be to blame, and others do not wait for that
		p.suspect(s)
		return
	case clamd.TooLong:
		if p.cfg.Selftest {
			s.proven = min(s.proven, size-1)
		}
		return
	case clamd.Connect:
		s.row = maxFailed
	default:
		s.row++
	}
	if s.row >= maxFailed && s.until.IsZero() {
		s.until = time.Now().Add(restMin)
		return
	}
	p.suspect(s)
}

// suspect has a server tested that may be down. The pool is locked.
func (p *pool) suspect(s *server) {
	if time.Since(s.begun) >= suspectGap {
		p.startTest(s, false)
	}
}

// tick starts the tests that are due.
func (p *pool) tick(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.servers {
		every := testEvery
		if s.short {
			every = shortEvery
		}
		switch {
		case s.testing:
		case !s.known, !s.until.IsZero() && !now.Before(s.until), s.until.IsZero() && p.cfg.Selftest && now.Sub(s.tested) >= every:
			p.startTest(s, false)
		case s.until.IsZero() && now.Sub(s.looked) >= lookEvery:
			p.startTest(s, true)
		}
	}
}

// testAll tests every server now, and waits for it.
func (p *pool) testAll(ctx context.Context) {
	p.mu.Lock()
	for _, s := range p.servers {
		p.startTest(s, false)
	}
	p.mu.Unlock()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for p.testing() {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (p *pool) testing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.servers {
		if s.testing {
			return true
		}
	}
	return false
}
