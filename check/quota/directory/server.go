// SPDX-License-Identifier: BSD-2-Clause

package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rcptgate/kit/neterr"
	"rcptgate/kit/notice"
)

const (
	rest       = 5 * time.Second // without questions to a server that has failed
	longRest   = time.Minute     // after a refused bind: directories lock accounts out
	maxFailed  = 3               // searches in a row that failed, and the server rests
	idleLimit  = time.Minute     // firewalls forget idle connections without a word
	sizeLimit  = 2               // one entry, and whether there are more
	serverTime = 2               // seconds that a server should spend on a search
)

var (
	errResting = errors.New("the server has failed lately and is not asked")
	errSeveral = errors.New("more than one entry")
)

// server is one LDAP server: its connection and its breaker. It is safe for concurrent use.
type server struct {
	name  string // its URL
	key   string // of its notices
	base  string
	at    access
	board *notice.Board
	now   func() time.Time

	asked, failed atomic.Uint64

	mu     sync.Mutex
	link   *link    // nil: none
	making *attempt // nil: none
	closed bool
	row    int       // failures in a row
	until  time.Time // it rests until then; zero: it does not
	trying bool      // a trial is in progress
	why    string    // it failed last
}

// attempt is a connection being made.
type attempt struct {
	done chan struct{}
	link *link
	err  error
}

// search asks for at most two entries. The error is errSeveral when there are more than one.
func (s *server) search(ctx context.Context, filter string, attributes []string) ([]*ldap.Entry, error) {
	s.asked.Add(1)
	req := ldap.NewSearchRequest(s.base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, sizeLimit, serverTime, false, filter, attributes, nil)
	req.EnforceSizeLimit = true
	entries, idle, err := s.once(ctx, req)
	if idle { // closed while it was idle: once more, on a fresh one
		entries, _, err = s.once(ctx, req)
	}
	return entries, err
}

// once searches on the connection. closed says that this was an old one that the server has
// closed.
func (s *server) once(ctx context.Context, req *ldap.SearchRequest) (_ []*ldap.Entry, closed bool, _ error) {
	l, old, err := s.get(ctx)
	if err != nil {
		return nil, false, s.failure(err, true)
	}
	result, err := l.Search(req)
	several := ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) || errors.Is(err, ldap.ErrSizeLimitExceeded)
	switch {
	case several || err == nil && len(result.Entries) > 1:
		s.worked()
		return nil, false, errSeveral
	case err == nil:
		s.worked()
		return result.Entries, false, nil
	case answered(err):
		s.worked()
		s.failed.Add(1)
		s.board.Warn(s.key+" search", "LDAP server refuses the search", "server", s.name, "base", s.base, "error", err)
		return nil, false, fmt.Errorf("%s: %w", s.name, err)
	}
	closed = old && l.IsClosing()
	s.forget(l)
	if closed {
		return nil, true, fmt.Errorf("%s: %w", s.name, neterr.Bare(err))
	}
	return nil, false, s.failure(err, false)
}

// answered reports whether the server was able to answer, though not with entries. One that
// is busy or going down is not (RFC 4511 appendix A.2).
func answered(err error) bool {
	var e *ldap.Error
	return errors.As(err, &e) && e.ResultCode < ldap.ErrorNetwork && !slices.Contains([]uint16{
		ldap.LDAPResultBusy, ldap.LDAPResultUnavailable, ldap.LDAPResultUnwillingToPerform,
		ldap.LDAPResultOperationsError, ldap.LDAPResultProtocolError, ldap.LDAPResultTimeLimitExceeded, ldap.LDAPResultOther,
	}, e.ResultCode)
}

// get gives the connection, made now if there is none; old says that it was there.
func (s *server) get(ctx context.Context) (l *link, old bool, err error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, false, context.Canceled
	}
	if l = s.link; l != nil {
		idle := s.now().Sub(time.Unix(0, l.used.Load()))
		if !l.IsClosing() && idle < idleLimit {
			l.used.Store(s.now().UnixNano())
			s.mu.Unlock()
			return l, true, nil
		}
		s.link = nil
	}
	a := s.making
	if a != nil {
		s.mu.Unlock()
		<-a.done // connect is bounded
		return a.link, false, a.err
	}
	a = &attempt{done: make(chan struct{})}
	s.making = a
	s.mu.Unlock()
	if l != nil {
		l.drop()
	}
	connect, cancel := context.WithTimeout(ctx, s.at.timeout)
	defer cancel()
	a.link, a.err = s.at.connect(connect)
	s.mu.Lock()
	s.making = nil
	if a.err == nil && s.closed {
		defer a.link.drop()
		a.link, a.err = nil, context.Canceled
	}
	if a.err == nil {
		a.link.used.Store(s.now().UnixNano())
		s.link = a.link
	}
	s.mu.Unlock()
	close(a.done)
	return a.link, false, a.err
}

// forget drops a connection that has failed.
func (s *server) forget(l *link) {
	s.mu.Lock()
	if s.link == l {
		s.link = nil
	}
	s.mu.Unlock()
	l.drop()
}

// worked notes an answer.
func (s *server) worked() {
	s.mu.Lock()
	down := !s.until.IsZero()
	s.row, s.until, s.why = 0, time.Time{}, ""
	s.mu.Unlock()
	if down {
		s.board.Clear(s.key, "LDAP server answers again", "server", s.name)
	}
}

// failure notes that the server did not answer. One that cannot be connected to rests at
// once, one whose searches fail after three in a row.
func (s *server) failure(err error, connecting bool) error {
	err = neterr.Bare(err)
	named := fmt.Errorf("%s: %w", s.name, err)
	if errors.Is(err, context.Canceled) {
		return named // we are closing
	}
	s.failed.Add(1)
	s.mu.Lock()
	s.row++
	s.why = err.Error()
	down := connecting || s.row >= maxFailed
	if down {
		pause := rest
		if ldap.IsErrorWithCode(err, ldap.LDAPResultInvalidCredentials) {
			pause = longRest
		}
		s.until = s.now().Add(pause)
	}
	s.mu.Unlock()
	if down {
		s.board.Raise(slog.LevelWarn, s.key, "LDAP server does not answer", "server", s.name, "error", err)
	}
	return named
}

// resting reports whether the server is not to be asked, and whether a trial is due, which
// the caller must then make.
func (s *server) resting() (resting, try bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until.IsZero() {
		return false, false
	}
	if try = !s.trying && !s.now().Before(s.until); try {
		s.trying = true
	}
	return true, try
}

// trial asks a server that rests for its base entry: any answer shows that it is back.
func (s *server) trial(ctx context.Context) {
	defer func() {
		s.mu.Lock()
		s.trying = false
		s.mu.Unlock()
	}()
	l, _, err := s.get(ctx)
	if err != nil {
		_ = s.failure(err, true)
		return
	}
	req := ldap.NewSearchRequest(s.base, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, serverTime, false, "(objectClass=*)", []string{"1.1"}, nil)
	if _, err = l.Search(req); err != nil && !answered(err) {
		s.forget(l)
		_ = s.failure(err, true)
		return
	}
	s.worked()
}

// close ends every connection. Searches in progress end with an error.
func (s *server) close() {
	s.mu.Lock()
	l := s.link
	s.link, s.closed = nil, true
	s.mu.Unlock()
	if l != nil {
		l.drop()
	}
	s.board.Clear(s.key, "")
}
