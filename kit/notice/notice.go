// SPDX-License-Identifier: BSD-2-Clause

// Package notice is the board on which the units of the gate put what a postmaster should
// know: a server that accepts every name, a table that cannot be read, a clock that
// jumped. One call both logs and lists: the log has a line when it begins and one an hour
// while it lasts; the list is what "rcptgate status" and the dashboard show.
//
// A key names the matter ("accept-all smtp:[192.0.2.1]:25 example.com"), so that each has
// its own line. The board keeps at most 1,000 matters; what was reported longest ago
// makes room.
package notice

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// Every is the least time between two log lines about one matter, and how long an event
// stays listed after it was last reported.
const Every = time.Hour

// maxMatters bounds the board.
const maxMatters = 1000

// Notice is one matter on the board.
type Notice struct {
	Key   string // names the matter; for programs
	Level slog.Level
	Text  string // the log line's message and its attributes, for people
	Since time.Time
	Last  time.Time // when it was last reported
	Count int       // how often it was reported
}

type matter struct {
	Notice
	lasting bool
	cleared bool      // not listed; kept for a while so that what comes and goes is not logged each time
	said    bool      // logged since it was last cleared
	logged  time.Time // last
}

// Board collects notices. A nil Board does nothing. It is safe for concurrent use; a
// report costs a lock and, at most once an hour, a log line: it is for what goes wrong,
// not for every query.
type Board struct {
	log *slog.Logger

	mu      sync.Mutex
	matters map[string]*matter
}

// New makes a Board that logs to log.
func New(log *slog.Logger) *Board {
	return &Board{log: log, matters: make(map[string]*matter)}
}

// Warn reports an event: something that happened and may happen again. It is logged at
// most once an hour, and listed for an hour after it was last reported.
func (b *Board) Warn(key, text string, args ...any) {
	b.report(slog.LevelWarn, false, key, text, args)
}

// Error is Warn for what costs mail until a person does something.
func (b *Board) Error(key, text string, args ...any) {
	b.report(slog.LevelError, false, key, text, args)
}

// Raise reports a condition that lasts until Clear. It is logged at most once an hour, also
// if it comes and goes meanwhile.
func (b *Board) Raise(level slog.Level, key, text string, args ...any) {
	b.report(level, true, key, text, args)
}

// Note is Raise without the log line, for what the caller has logged.
func (b *Board) Note(level slog.Level, key, text string, args ...any) {
	if b != nil {
		b.put(level, true, key, text, args)
	}
}

// Clear ends a matter. If its beginning was logged, so is its end, with text, as information;
// an empty text logs nothing.
func (b *Board) Clear(key, text string, args ...any) {
	if b == nil {
		return
	}
	b.mu.Lock()
	m := b.matters[key]
	said := m != nil && m.said
	if m != nil {
		m.cleared, m.said = true, false
	}
	b.mu.Unlock()
	if said && text != "" {
		b.log.Log(context.Background(), slog.LevelInfo, text, args...)
	}
}

// ClearAll ends, without a word in the log, all matters whose key begins with prefix.
func (b *Board) ClearAll(prefix string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, m := range b.matters {
		if strings.HasPrefix(key, prefix) {
			m.cleared, m.said = true, false
		}
	}
}

func (b *Board) report(level slog.Level, lasting bool, key, text string, args []any) {
	if b == nil {
		return
	}
	m := b.put(level, lasting, key, text, args)
	b.mu.Lock()
	now := time.Now()
	due := now.Sub(m.logged) >= Every
	if due {
		m.logged, m.said = now, true
	}
	b.mu.Unlock()
	if due {
		b.log.Log(context.Background(), level, text, args...)
	}
}

// put has a matter on the list.
func (b *Board) put(level slog.Level, lasting bool, key, text string, args []any) *matter {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.matters[key]
	if m == nil {
		b.makeRoom()
		m = &matter{Notice: Notice{Key: strings.Clone(key)}}
		b.matters[m.Key] = m
	}
	if !m.listed(now) {
		m.Since, m.Count, m.cleared = now, 0, false
	}
	m.Level, m.Text, m.Last, m.lasting = level, sentence(text, args), now, lasting
	m.Count++
	return m
}

// listed reports whether the matter is on the list: an event for an hour, a condition until
// it is cleared.
func (m *matter) listed(now time.Time) bool {
	return !m.cleared && !m.Last.IsZero() && (m.lasting || now.Sub(m.Last) < Every)
}

// makeRoom drops the matter reported longest ago when the board is full.
func (b *Board) makeRoom() {
	if len(b.matters) < maxMatters {
		return
	}
	oldest := ""
	for key, m := range b.matters {
		if oldest == "" || m.Last.Before(b.matters[oldest].Last) {
			oldest = key
		}
	}
	delete(b.matters, oldest)
}

// List gives what is on the board: errors first, then the longest standing.
func (b *Board) List() []Notice {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	var list []Notice
	for key, m := range b.matters {
		switch {
		case m.listed(now):
			list = append(list, m.Notice)
		case now.Sub(m.Last) >= Every:
			delete(b.matters, key)
		}
	}
	slices.SortFunc(list, func(x, y Notice) int {
		if x.Level != y.Level {
			return int(y.Level - x.Level)
		}
		if c := x.Since.Compare(y.Since); c != 0 {
			return c
		}
		return strings.Compare(x.Key, y.Key)
	})
	return list
}

// sentence is a message with its attributes as a list shows it.
func sentence(text string, args []any) string {
	var b strings.Builder
	b.WriteString(text)
	r := slog.NewRecord(time.Time{}, 0, "", 0)
	r.Add(args...)
	sep := " ("
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, "%s%s %s", sep, a.Key, a.Value)
		sep = ", "
		return true
	})
	if sep == ", " {
		b.WriteByte(')')
	}
	return b.String()
}
