// SPDX-License-Identifier: BSD-2-Clause

package directory

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rcptgate"
	"rcptgate/config/setting"
	"rcptgate/kit/flight"
	"rcptgate/kit/notice"
	"rcptgate/store"
)

const (
	maxAsking  = 64                     // look-ups in progress: slapd ends connections with more than 100
	maxRefresh = 1000                   // refreshes that wait
	refreshers = 2                      // goroutines that refresh
	staleWait  = 100 * time.Millisecond // for a new answer while an old one is at hand
)

// Errors of Find; none of them says anything about the mailbox.
var (
	ErrBusy = errors.New("too many LDAP look-ups are in progress")
	ErrDown = errors.New("no LDAP server gives an answer")
)

// State is what outlives a configuration: what was found, and what is counted. Make one with
// NewState; it is safe for concurrent use.
type State struct {
	board   *notice.Board
	now     func() time.Time
	dial    dialer
	current atomic.Pointer[Directory]
	counts  counts
}

// counts are since the start.
type counts struct {
	served, stale, asked, joined, busy, refreshed, dropped atomic.Uint64
	found, none, several, failed, odd                      atomic.Uint64
}

// NewState makes a State whose notices go to board.
func NewState(board *notice.Board) *State {
	return &State{board: board, now: time.Now, dial: (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext}
}

// Directory asks the servers of one configuration. Make one with State.Open; it is safe for
// concurrent use.
type Directory struct {
	state   *State
	meaning string // what makes remembered answers right: the same base, filter, attributes and so on
	plan    *plan
	servers []*server
	memory  *memory
	flights *flight.Group[key, outcome]
	refresh chan key
	start   sync.Once // of the refreshers
	ctx     context.Context
	cancel  context.CancelFunc

	mu     sync.Mutex
	closed bool
	work   sync.WaitGroup
}

// outcome is what a look-up has found out.
type outcome struct {
	entry Entry
	err   error
}

// Open makes a Directory for a configuration, and reads the password and the certificates.
// It connects to nothing. Answers that the active Directory remembers are taken over if they
// mean the same. The caller closes it after its last question.
func (s *State) Open(c *Config) (*Directory, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	p, err := newPlan(c)
	if err != nil {
		return nil, err
	}
	password, roots, err := readFiles(c)
	if err != nil {
		return nil, err
	}
	d := &Directory{
		state: s, plan: p, flights: flight.New[key, outcome](maxAsking), refresh: make(chan key, maxRefresh),
		meaning: fmt.Sprintf("%q %q %q %q %q %q %q %d", c.Base, c.Schema, c.Filter, c.Attributes, c.Unit, c.Zero, c.DefaultLimit, c.Entries),
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	for _, u := range c.URL {
		t, err := parseURL(u)
		if err != nil {
			return nil, err
		}
		d.servers = append(d.servers, &server{name: u, key: "quota-ldap " + u, base: c.Base, board: s.board, now: s.now, at: access{
			target: t, dial: s.dial, starttls: c.StartTLS != "off", bind: c.Bind, password: password, timeout: c.Timeout.Std(),
			tls: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.host, RootCAs: roots},
		}})
	}
	if now := s.current.Load(); now != nil && now.meaning == d.meaning {
		d.memory = now.memory
	} else {
		d.memory = newMemory(c.Entries)
	}
	return d, nil
}

// readFiles reads the password and the authorities' certificates, nil for the system's.
func readFiles(c *Config) (password string, roots *x509.CertPool, err error) {
	if c.PasswordFile != "" {
		text, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return "", nil, setting.Keyf("password_file", "%w", err)
		}
		// Without a password a bind is anonymous and succeeds (RFC 4513 section 5.1.2).
		if password = strings.TrimRight(string(text), "\r\n"); password == "" {
			return "", nil, setting.Keyf("password_file", "%s is empty", c.PasswordFile)
		}
	}
	if c.CAFile != "" {
		text, err := os.ReadFile(c.CAFile)
		if err != nil {
			return "", nil, setting.Keyf("ca_file", "%w", err)
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(text) {
			return "", nil, setting.Keyf("ca_file", "%s has no certificate in PEM form", c.CAFile)
		}
	}
	return password, roots, nil
}

// Adopt makes d the active Directory: what it remembers is what later configurations
// inherit. Nil means that none is configured any more.
func (s *State) Adopt(d *Directory) { s.current.Store(d) }

// Forget drops what is remembered of matching mailboxes. Look-ups in progress are not kept.
func (s *State) Forget(p store.Pattern) {
	d := s.current.Load()
	if d == nil {
		return
	}
	matches := func(k key) bool { return p.Matches(k.mailbox().Canonical()) }
	d.memory.forget(matches)
	d.flights.Forget(matches)
}

// Find finds the entry of a mailbox, from memory or by asking. The mailbox is without a
// detail. It returns by ctx's deadline; a look-up goes on without its asker and is
// remembered.
func (d *Directory) Find(ctx context.Context, m rcptgate.Mailbox) (Entry, error) {
	k, now := keyOf(m), d.state.now()
	r := d.memory.get(k)
	if r == nil {
		return d.ask(ctx, k, nil, now)
	}
	if now.Sub(r.at) >= r.serves() {
		return d.ask(ctx, k, r, now)
	}
	if due := r.due.Load(); now.UnixNano() >= due && r.due.CompareAndSwap(due, now.Add(retry).UnixNano()) {
		d.queue(k)
	}
	d.state.counts.served.Add(1)
	return r.serve(now, false), nil
}

// serve gives the entry as it is now.
func (r *record) serve(now time.Time, stale bool) Entry {
	e := r.Entry
	e.Age, e.Stale = now.Sub(r.at), stale
	return e
}

// ask joins or begins the look-up for a mailbox. old is what is remembered of it, nil for
// nothing.
func (d *Directory) ask(ctx context.Context, k key, old *record, now time.Time) (Entry, error) {
	text, ok := d.plan.filter.For(k.mailbox())
	if !ok {
		return Entry{Limit: NotKnown, Messages: NotKnown}, nil
	}
	stale := old != nil && old.Found == 1 && now.Sub(old.at) < staleKeep
	out, err := d.join(ctx, k.clone(), text, stale)
	if err == nil {
		return out, nil
	}
	if stale {
		d.state.counts.stale.Add(1)
		return old.serve(now, true), nil
	}
	return Entry{}, err
}

// join waits for the look-up of a mailbox; with an old answer at hand not for long.
func (d *Directory) join(ctx context.Context, k key, text string, stale bool) (Entry, error) {
	call, isNew := d.flights.Join(k)
	switch {
	case call == nil:
		d.state.counts.busy.Add(1)
		return Entry{}, ErrBusy
	case !isNew:
		d.state.counts.joined.Add(1)
	case !d.spawn(func() { d.lookup(call, text) }):
		call.Value = outcome{err: context.Canceled}
		d.flights.End(call)
	}
	if stale {
		short, cancel := context.WithTimeout(ctx, staleWait)
		defer cancel()
		ctx = short
	}
	select {
	case <-call.Done():
		return call.Value.entry, call.Value.err
	case <-ctx.Done():
		return Entry{}, fmt.Errorf("waiting for LDAP: %w", ctx.Err())
	}
}

// spawn runs f in a goroutine that Close waits for; false after Close.
func (d *Directory) spawn(f func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.work.Go(f)
	return true
}

// lookup sees a look-up to its end.
func (d *Directory) lookup(call *flight.Call[key, outcome], text string) {
	defer d.flights.End(call)
	defer func() {
		if p := recover(); p != nil { // the library reads what servers send
			call.Value = outcome{err: fmt.Errorf("LDAP look-up: panic: %v", p)}
			d.state.board.Error("quota-ldap panic", "an LDAP look-up panicked", "error", p, "stack", string(debug.Stack()))
		}
	}()
	d.state.counts.asked.Add(1)
	ended := d.memory.ended.Load()
	e, err := d.resolve(call.Key, text)
	if err == nil {
		d.memory.put(call.Key, e, d.state.now(), ended)
	} else {
		d.state.counts.failed.Add(1)
	}
	call.Value = outcome{e, err}
}

// resolve asks the servers in their order.
func (d *Directory) resolve(k key, text string) (Entry, error) {
	var errs []error
	for _, s := range d.servers {
		resting, try := s.resting()
		if try && !d.spawn(func() { s.trial(d.ctx) }) {
			return Entry{}, context.Canceled
		}
		if resting {
			errs = append(errs, fmt.Errorf("%s: %w", s.name, errResting))
			continue
		}
		entries, err := s.search(d.ctx, text, d.plan.wanted)
		if err == nil || errors.Is(err, errSeveral) {
			d.state.board.Clear("quota-ldap", "an LDAP server answers again")
			return d.entry(k, entries, err != nil), nil
		}
		errs = append(errs, err)
	}
	if d.ctx.Err() == nil {
		d.state.board.Raise(slog.LevelError, "quota-ldap", "no LDAP server answers; remembered entries are used for up to 24 hours", "error", errors.Join(errs...))
	}
	return Entry{}, fmt.Errorf("%w: %w", ErrDown, errors.Join(errs...))
}

// entry makes an Entry of an answer.
func (d *Directory) entry(k key, entries []*ldap.Entry, several bool) Entry {
	c := &d.state.counts
	switch {
	case several:
		c.several.Add(1)
		d.state.board.Warn("quota-ldap several", "more than one LDAP entry has the address: neither is used", "recipient", k.mailbox().Canonical())
		return Entry{Found: sizeLimit, Limit: NotKnown, Messages: NotKnown}
	case len(entries) == 0:
		c.none.Add(1)
		return Entry{Limit: NotKnown, Messages: NotKnown}
	}
	c.found.Add(1)
	e, odd := d.plan.read(entries[0])
	if len(odd) > 0 {
		c.odd.Add(1)
		d.state.board.Warn("quota-ldap odd", "an LDAP entry has values that cannot be used", "dn", e.DN, "attributes", strings.Join(odd, " "))
	}
	return e
}

// queue has a mailbox looked up in the background.
func (d *Directory) queue(k key) {
	d.start.Do(func() {
		for range refreshers {
			d.spawn(d.refresher)
		}
	})
	select {
	case d.refresh <- k.clone():
	default:
		d.state.counts.dropped.Add(1)
	}
}

func (d *Directory) refresher() {
	for {
		select {
		case <-d.ctx.Done():
			return
		case k := <-d.refresh:
			if text, ok := d.plan.filter.For(k.mailbox()); ok {
				d.state.counts.refreshed.Add(1)
				_, _ = d.join(d.ctx, k, text, false) // what it finds is remembered
			}
		}
	}
}

// Close ends the connections and whatever is in progress, and waits for it.
func (d *Directory) Close() {
	d.mu.Lock()
	closed := d.closed
	d.closed = true
	d.mu.Unlock()
	if closed {
		return
	}
	d.cancel()
	for _, s := range d.servers {
		s.close()
	}
	d.work.Wait()
}
