// SPDX-License-Identifier: BSD-2-Clause

// Package telemetry is what the postmaster sees of the daemon: one log for decisions
// and operational messages, and the metrics.
//
// A decision is one line of key=value pairs or one JSON object; [Manual] describes the
// keys, testdata/lines.txt has a line of every kind:
//
//	time=2026-11-21T01:51:45.123+01:00 level=info msg=decision queue=4F1a client=192.0.2.1
//	sender=a@b.example recipient=c@d.example action=reject code=550 enhanced=5.1.1
//	reason=unknown-user source=ram backend=smtp:[10.0.0.5]:25 elapsed=0.021ms text="No such user"
//
// Values are quoted and cut, so that nothing that a stranger sends can end a line, forge a
// key or move a terminal's cursor.
//
// The log goes to standard error, to journald in its native protocol
// (systemd.io/JOURNAL_NATIVE_PROTOCOL) with the main words as RCPTGATE_* fields, or
// to syslog's /dev/log in the form of RFC 3164 section 4.1, facility mail. Standard error
// that is the journal's own stream gets lines with their priority (sd-daemon(3)).
//
// Logging takes the answering goroutine well under a microsecond and never blocks: a line
// is encoded into one of several buffers, chosen by the connection, and a single goroutine
// writes them out in order of time, at most 10 ms later, many in one write. The buffers
// hold 16 MiB; lines that do not fit are counted, and the log says so once it flows again.
// When journald or syslog cannot be reached, standard error says so once, and once more
// when they can; until then lines are dropped, which [Telemetry.Trouble] and a metric show.
package telemetry

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"rcptgate"
	"rcptgate/config/setting"
	"rcptgate/kit/notice"
)

// Config is the section [log].
type Config struct {
	Target    string `toml:"target" restart:"true" doc:"where the log goes: standard error, journald with fields, or syslog (facility mail)" oneof:"stderr,journald,syslog"`
	Format    string `toml:"format" doc:"form of a log line; text is key=value pairs" oneof:"text,json"`
	Level     string `toml:"level" doc:"lowest level of operational messages; decisions have their own switch" oneof:"debug,info,warn,error"`
	Decisions bool   `toml:"decisions" doc:"log one line for every decision; metrics count them either way"`
}

// Defaults is the configuration of a daemon that is not configured.
func Defaults() Config {
	return Config{Target: "stderr", Format: "text", Level: "info", Decisions: true}
}

// Validate reports a word that is not one of those allowed.
func (c Config) Validate() error {
	_, err := c.level()
	for _, word := range []struct{ key, value, allowed string }{
		{"target", c.Target, "stderr journald syslog"}, {"format", c.Format, "text json"},
	} {
		if !slices.Contains(strings.Fields(word.allowed), word.value) {
			err = errors.Join(err, setting.Keyf(word.key, "%q is not allowed: %s", word.value, strings.ReplaceAll(word.allowed, " ", " or ")))
		}
	}
	return err
}

func (c Config) level() (level slog.Level, err error) {
	if err := level.UnmarshalText([]byte(c.Level)); err != nil || strings.ContainsAny(c.Level, "+-") {
		return level, setting.Keyf("level", "%q is not allowed: debug or info or warn or error", c.Level)
	}
	return level, nil
}

// settings is what may change while the daemon runs.
type settings struct {
	Config
	form  form
	level slog.Level
}

// Telemetry is the log and the metrics of one daemon: a [rcptgate.Observer]. All its
// methods are safe for concurrent use.
type Telemetry struct {
	settings atomic.Pointer[settings]
	target   form // what the target alone decides; json is the settings'
	lines    *lines
	shards   []*shard
	next     atomic.Uint32 // lane of the next operational message
	notices  *notice.Board
	version  string
	stderr   io.Closer // for messages about the target; nil if it is not ours
}

var _ rcptgate.Observer = (*Telemetry)(nil)

// Options are for tests and for the command line.
type Options struct {
	Stderr  io.Writer // instead of os.Stderr
	Socket  string    // instead of journald's or syslog's
	Version string    // for rcptgate_build_info
}

// New opens the target and starts the goroutine that writes to it; Close ends it.
// A target that is not there yet is not an error: it is tried again.
func New(c Config, o Options) (*Telemetry, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	s := &Telemetry{shards: newShards(), version: o.Version}
	switch {
	case c.Target == "journald":
		s.target.fielded = true
	case c.Target == "stderr" && o.Stderr == nil && isJournal(os.Stderr, os.Getenv("JOURNAL_STREAM")):
		s.target.prefixed = true
	case c.Target == "stderr":
		s.target.stamped = true
	}
	s.Configure(c)
	s.notices = notice.New(s.Logger())
	tell := teller{name: c.Target}
	if c.Target != "stderr" {
		if tell.out = o.Stderr; tell.out == nil {
			own := standardError()
			s.stderr, tell.out = own, own
		}
	}
	s.lines = newLines(openTarget(c.Target, o), s.shards, s.appendDropped, tell)
	return s, nil
}

// Configure changes format, level and decisions. It reports whether c names another
// target than the one in use, which stays: that takes a restart. c is valid.
func (s *Telemetry) Configure(c Config) (restart bool) {
	level, _ := c.level()
	if old := s.settings.Load(); old != nil {
		restart = old.Target != c.Target
		c.Target = old.Target // it decides what a line holds
	}
	set := &settings{Config: c, form: s.target, level: level}
	set.form.json = c.Format == "json"
	s.settings.Store(set)
	return restart
}

// Notices is the board of this log: what is reported there is logged here.
func (s *Telemetry) Notices() *notice.Board { return s.notices }

// Dropped is how many lines could not be written so far.
func (s *Telemetry) Dropped() uint64 { return s.lines.dropped.Load() }

// Close writes what is pending, for at most the given time, and ends the writer.
// Lines that come after it are dropped.
func (s *Telemetry) Close(patience time.Duration) error {
	err := s.lines.close(patience)
	if s.stderr != nil && err == nil {
		_ = s.stderr.Close()
	}
	return err
}

// Flush asks for everything logged so far to be written now, and waits for it, for
// at most the given time.
func (s *Telemetry) Flush(patience time.Duration) { s.lines.flush(patience) }

// take gives the shard of a lane, locked. If another goroutine is just using it, the next
// one that is free serves as well.
func (s *Telemetry) take(lane uint32) *shard {
	n := uint32(len(s.shards))
	for i := range min(n, 4) {
		if sh := s.shards[(lane+i)%n]; sh.mu.TryLock() {
			return sh
		}
	}
	sh := s.shards[lane%n]
	sh.mu.Lock()
	return sh
}

// Observe counts one decision and writes its line. What a person asked is logged as such,
// and not counted.
func (s *Telemetry) Observe(q *rcptgate.Query, v *rcptgate.Verdict) {
	set := s.settings.Load()
	cause := ""
	if refused(v) {
		cause = s.cause(q) // before the lock: errors run code that is not ours
	}
	sh := s.take(q.Lane())
	if !q.Inquiry {
		sh.count(v, q.Trace.Elapsed)
	}
	var n nudge
	if set.Decisions {
		at := q.Trace.Started.Add(q.Trace.Elapsed)
		if q.Trace.Started.IsZero() {
			at = time.Now()
		}
		if sh.begin(at, priorityInfo) {
			sh.buf = appendDecision(sh.buf, &set.form, sh, q, v, cause, at)
			n = sh.end()
		}
	}
	sh.mu.Unlock()
	s.lines.nudge(n)
}
