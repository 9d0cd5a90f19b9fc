// SPDX-License-Identifier: BSD-2-Clause

package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate/check/quota/room"
	"rcptgate/check/quota/wire"
	"rcptgate/kit/neterr"
	"rcptgate/kit/notice"
)

// Settings are what holds for all sources; a reload changes them.
type Settings struct {
	Keys    *wire.Keys    // of the agent's protocol; nil: none
	Doveadm string        // "user:password", or an API key
	Root    string        // the quota root that counts for doveadm; "" is the first
	Timeout time.Duration // for one mailbox, all sources and tries
}

const (
	maxSources = 1000            // a directory may name that many stores
	failures   = 5               // in a row open the breaker
	pause      = 5 * time.Second // that it stays open before the next trial
	trialTime  = 5 * time.Second
)

// ErrOpen says that a source was not asked because it did not answer lately.
var ErrOpen = errors.New("it has not answered recently; it is tried in the background")

// Set is the sources that were asked so far, with what is known of their health. It lives as
// long as the process. Make one with NewSet; it is safe for concurrent use.
type Set struct {
	board    *notice.Board
	http     *http.Client
	settings atomic.Pointer[Settings]
	ctx      context.Context //nolint:containedctx // the life of trials
	cancel   context.CancelFunc
	trials   sync.WaitGroup

	mu   sync.Mutex
	list []*Guarded // by number - 1
	by   map[string]*Guarded
}

// NewSet makes a Set without sources.
func NewSet(board *notice.Board) *Set {
	s := &Set{board: board, http: newClient(), by: make(map[string]*Guarded)}
	s.settings.Store(&Settings{Timeout: 500 * time.Millisecond})
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Configure makes other settings active.
func (s *Set) Configure(to Settings) {
	s.settings.Store(&to)
	for _, g := range s.All() {
		g.forgive()
	}
}

// Close ends trials and closes connections.
func (s *Set) Close() {
	s.cancel()
	s.trials.Wait()
	s.http.CloseIdleConnections()
	for _, g := range s.All() {
		if c, ok := g.source.(interface{ Close() }); ok {
			c.Close()
		}
	}
}

// Get gives the source at a text that [Spec.At] has made.
func (s *Set) Get(text string) (*Guarded, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.by[text]; g != nil {
		return g, nil
	}
	if len(s.list) >= maxSources {
		return nil, fmt.Errorf("source %s: there are %d sources already", text, maxSources)
	}
	spec, err := ParseSpec(text)
	if err != nil {
		return nil, err
	}
	g := &Guarded{Name: strings.Clone(text), Number: uint16(len(s.list) + 1), set: s} //nolint:gosec // bounded
	g.source = s.open(spec, &g.badMAC)
	s.list, s.by[g.Name] = append(s.list, g), g
	return g, nil
}

// ByNumber gives a source by its number; nil if there is none.
func (s *Set) ByNumber(n uint16) *Guarded {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n == 0 || int(n) > len(s.list) {
		return nil
	}
	return s.list[n-1]
}

// All gives the sources in the order in which they were first asked.
func (s *Set) All() []*Guarded {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

// open makes a source; an agent counts in odd what it gets and does not believe.
func (s *Set) open(spec Spec, odd *atomic.Uint64) Source {
	_, rest, _ := strings.Cut(spec.text, ":")
	network, address := "tcp", rest
	if path, unix := strings.CutPrefix(rest, "unix:"); unix {
		network, address = "unix", path
	}
	switch spec.scheme {
	case "udp", "tcp":
		return &agent{set: s, network: spec.scheme, address: rest, odd: odd}
	case "policy":
		return newPolicy(network, address)
	case "socketmap":
		at := strings.LastIndexByte(address, ':')
		return &socketmap{network: network, address: address[:at], name: address[at+1:]}
	case "doveadm":
		return &doveadm{set: s, url: rest}
	case "file":
		return newFile(rest)
	}
	return &web{set: s, url: spec.text}
}

// Result is what came of a question.
type Result uint8

// The results.
const (
	GotUnknown Result = iota
	GotRoom
	GotFull
	GotError
	GotTimeout
	results
)

// String gives the result's word in metrics.
func (r Result) String() string {
	return [...]string{"unknown", "room", "full", "error", "timeout"}[r]
}

// Guarded is a source with a breaker, counters and a guard against storms.
type Guarded struct {
	Name   string // "udp:10.0.0.5:8049"
	Number uint16 // from 1
	Storm  room.Storm

	set    *Set
	source Source

	counts [results]atomic.Uint64
	took   times
	badMAC atomic.Uint64

	mu      sync.Mutex
	failed  int // in a row
	until   time.Time
	lastErr string
	since   time.Time // of the first of these failures
}

// Ask asks the source, unless its breaker is open. Wait is how long the asker waits: an
// answer that comes later is given all the same, but counts as a failure for the breaker.
func (g *Guarded) Ask(ctx context.Context, m Mailbox, size int64, wait time.Duration) (room.Answer, error) {
	if wire.CheckUser(m.User) != nil { // no store has it; its refusal would count as the store's failure
		return room.Of(room.Unknown), nil
	}
	if g.open(m, size) {
		return room.Answer{}, fmt.Errorf("%s: %w", g.Name, ErrOpen)
	}
	slow := time.AfterFunc(wait, func() { g.failure(errSlow) })
	a, err := g.ask(ctx, m, size)
	if late := !slow.Stop(); err == nil && late {
		return a, nil // counted as slow
	}
	g.note(err)
	if err != nil {
		err = fmt.Errorf("%s: %w", g.Name, err)
	}
	return a, err
}

// note counts what came of a question for the breaker.
func (g *Guarded) note(err error) {
	switch {
	case err == nil:
		g.success()
	case errors.Is(err, errAnswered):
		g.success()
		g.set.board.Warn("quota: mailbox "+g.Name, "quota source could not find out about a mailbox; its log says why", "source", g.Name, "error", err)
	default:
		g.failure(err)
	}
}

var errSlow = errors.New("it does not answer in time")

// ask asks and counts. It never panics. The error does not name the source.
func (g *Guarded) ask(ctx context.Context, m Mailbox, size int64) (a room.Answer, err error) {
	began := time.Now()
	defer func() {
		if p := recover(); p != nil {
			a, err = room.Answer{}, fmt.Errorf("panic: %v", p)
			g.set.board.Error("quota: panic "+g.Name, "quota source panicked, please report this", "source", g.Name, "panic", p)
		}
		switch {
		case err != nil && ctx.Err() != nil:
			g.counts[GotTimeout].Add(1)
		case err != nil:
			g.counts[GotError].Add(1)
		default:
			g.counts[GotUnknown+Result(a.State)].Add(1)
			g.took.add(time.Since(began))
		}
		err = neterr.Bare(err) // it is reported next to the source's name
	}()
	return g.source.Ask(ctx, m, max(size, 1))
}

// open reports whether the breaker is open. When it has been for a while, this question is
// the trial, in the background: nobody waits for it.
func (g *Guarded) open(m Mailbox, size int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failed < failures {
		return false
	}
	now := time.Now()
	if now.Before(g.until) {
		return true
	}
	g.until = now.Add(pause)
	if g.set.ctx.Err() != nil {
		return true
	}
	g.set.trials.Go(func() {
		ctx, cancel := context.WithTimeout(g.set.ctx, trialTime)
		defer cancel()
		_, err := g.ask(ctx, m, size)
		g.note(err)
	})
	return true
}

func (g *Guarded) failure(err error) {
	g.mu.Lock()
	now := time.Now()
	if g.failed == 0 {
		g.since = now
	}
	g.failed++
	g.lastErr = err.Error()
	opened := g.failed == failures
	if g.failed >= failures {
		g.until = now.Add(pause)
	}
	g.mu.Unlock()
	if opened {
		g.set.board.Raise(slog.LevelWarn, "quota: "+g.Name, "quota source does not answer; mail is accepted without asking it", "source", g.Name, "error", err)
	}
}

func (g *Guarded) success() {
	g.mu.Lock()
	was := g.failed >= failures
	g.failed, g.lastErr = 0, ""
	g.mu.Unlock()
	if was {
		g.set.board.Clear("quota: "+g.Name, "quota source answers again", "source", g.Name)
	}
}

// forgive ends what was held against the source: it may be another configuration that asks
// it, or none.
func (g *Guarded) forgive() {
	g.mu.Lock()
	g.failed, g.lastErr = 0, ""
	g.mu.Unlock()
	g.Storm.Unreported()
	for _, what := range []string{"", "mailbox ", "refuses ", "implausible ", "shrunk ", "storm "} {
		g.set.board.Clear("quota: "+what+g.Name, "")
	}
}

// Health describes a source.
type Health struct {
	Name   string
	Up     bool
	Since  time.Time // of the failure, when it is not up
	Error  string
	Counts map[string]uint64 // questions, by result
	BadMAC uint64            // replies to signed questions that were not believed
}

// Health describes the source now.
func (g *Guarded) Health() Health {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := Health{Name: g.Name, Up: g.failed < failures, Error: g.lastErr, Counts: make(map[string]uint64), BadMAC: g.badMAC.Load()}
	if !h.Up {
		h.Since = g.since
	}
	for r := range results {
		h.Counts[r.String()] = g.counts[r].Load()
	}
	return h
}
