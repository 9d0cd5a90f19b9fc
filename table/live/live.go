// SPDX-License-Identifier: BSD-2-Clause

// Package live keeps a map file of the MTA in memory and fresh, while the MTA
// rewrites it.
//
// A change is seen through the directory's notifications (fsnotify) and by looking
// once a second, for file systems that have none. The file is then copied to memory
// under the locks of the MTAs, verified and indexed outside them, and made active
// with one atomic pointer. Look-ups take no lock and never wait.
//
// Locks. Sendmail 8.17 (Debian builds it with HASFLOCK) and Postfix (INTERNAL_LOCK
// on Linux and the BSDs) take flock(2) exclusively on the .db file while they write
// it, waiting for readers; Postfix takes fcntl(2) on .lmdb files, exclusively for a
// moment before it writes and shared while it does; .cdb files are renamed into
// place. So databases are copied under a shared flock and (on Linux) a shared fcntl
// lock, asked for without waiting, and writers wait no longer than the copy takes.
// The text aliases are another matter: newaliases asks for an exclusive flock on the
// text without waiting and gives up when it is refused. Text is therefore never
// locked; it is read when it has been quiet for half a second, and read again if it
// changed meanwhile.
//
// What is missing, truncated, unreadable or damaged leaves the active content as it is;
// the reason is in Status and in one log line. So does, for ten minutes, an alias
// database that had Sendmail's mark of a complete one (the key "@" with the value "@",
// which makemap and postmap never write) and lacks it.
//
// A text has no such mark, and scripts write texts in place, with pauses; a full disk
// cuts them short. One that lacks its last line end, that lost many names or is empty is
// a draft until it has not changed for ten minutes, and one that was written in place
// and lost a few names until it has not changed for ten seconds. What a draft holds
// counts at once, except its last line, which may go on. A name that it lacks is an error
// if the active content has it: the recipient is deferred, not refused.
package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate/table"
	"rcptgate/table/index"
)

// Limits and times. Those of Config can be changed.
const (
	DefaultPoll    = time.Second
	DefaultMaxSize = 1 << 30
	// settle is waited after a notification: a new file is locked by its writer a moment after it appears.
	settle = 50 * time.Millisecond
	// quiet is how long a text must not have changed: editors write in place.
	quiet = 500 * time.Millisecond
	// restless bounds the wait for quiet.
	restless = 5 * time.Second
	// again is the pause before a file that is being written is tried again.
	again = 50 * time.Millisecond
	// holdTime is how long the old content stays active while a database is unfinished.
	holdTime = 10 * time.Minute
	// longLock is when a lock that is held is worth a line in the log.
	longLock = time.Minute
	// coarse is the coarsest time stamp of a file system: within it a file can change and look the same.
	coarse = 2500 * time.Millisecond
	// warnings bounds the lines of the log about one text.
	warnings = 10
)

// Config says what to keep.
type Config struct {
	Spec table.Spec
	// Format makes the reader of the file; it may report to warn the lines it leaves out.
	Format func(warn func(error)) table.Format
	// Aliases says that the file holds aliases: Sendmail's mark and the YP_ keys of NIS
	// are not entries, and a mark that was lost means an unfinished rebuild.
	Aliases bool
	Poll    time.Duration // 0: DefaultPoll
	MaxSize int64         // octets; 0: DefaultMaxSize
	Log     *slog.Logger  // nil: none
}

// Live is a table that follows its file. It is safe for concurrent use. Its file is
// followed while Run runs.
type Live struct {
	cfg     Config
	path    string
	log     *slog.Logger
	now     func() time.Time
	current atomic.Pointer[content]
	waits   atomic.Uint64

	mu     sync.Mutex // serialises loading; never taken by Lookup
	try    attempt
	status struct {
		sync.Mutex
		Status
	}
}

var _ table.Table = (*Live)(nil)

// content is what one reading of the file gave, and a draft of what may come. It does
// not change.
type content struct {
	*index.Index  // nil: there is only a draft
	info          table.Info
	digest        uint64
	marked        bool
	modified      time.Time
	device, inode uint64
	cut           bool   // a text without its last line end
	last          string // key of a text's last line
	draft         *draft // nil: the file is what is active, as far as is known
}

// Status is what there is to know about a table besides its entries.
type Status struct {
	Spec     table.Spec
	Path     string
	Info     table.Info // of the active content; zero before the first load
	Entries  int
	Octets   int64     // of memory
	Modified time.Time // the file's time stamp, of the active content
	Loaded   time.Time // when the content became active; zero: never
	Took     time.Duration
	Loads    uint64 // contents that became active
	Failures uint64 // readings that failed
	Waits    uint64 // readings delayed because the file was being written
	// Err is why the file is not what is active; nil if it is. Since is when that began.
	Err   error
	Since time.Time
	// Rebuilding says that Err is an unfinished rebuild.
	Rebuilding bool
}

// Errors that Lookup and Status speak of.
var (
	ErrNotLoaded = errors.New("the table could not be read yet")
	ErrRebuild   = errors.New("the file is being rebuilt")
	ErrBusy      = errors.New("the file is being written")
)

// New returns a table that nothing has been read into.
func New(cfg Config) *Live {
	if cfg.Poll <= 0 {
		cfg.Poll = DefaultPoll
	}
	if cfg.MaxSize <= 0 {
		cfg.MaxSize = DefaultMaxSize
	}
	l := &Live{cfg: cfg, path: cfg.Spec.Path(), log: cfg.Log, now: time.Now}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	l.status.Spec, l.status.Path = cfg.Spec, l.path
	return l
}

// Lookup implements table.Table. It needs no I/O and takes no lock. A table that was
// never read is an error.
func (l *Live) Lookup(_ context.Context, key string) (value string, found bool, err error) {
	c := l.current.Load()
	if c == nil {
		return "", false, l.notLoaded()
	}
	if c.draft != nil {
		return c.draft.lookup(c.Index, key)
	}
	value, found = c.Get(key)
	return value, found, nil
}

func (l *Live) notLoaded() error {
	if st := l.Status(); st.Err != nil {
		return fmt.Errorf("%s: %w: %w", l.cfg.Spec, ErrNotLoaded, st.Err)
	}
	return fmt.Errorf("%s: %w", l.cfg.Spec, ErrNotLoaded)
}

// Summaries gives what the format found in the file as a whole ([table.Summary]) for every
// content that a look-up depends on: the active one, and a draft next to it, which may lack
// keys that are an error to look up. One that has no summary gives "". None at all means
// that nothing has become active, so that every absent key is an error.
func (l *Live) Summaries() (list []string, err error) {
	c := l.current.Load()
	switch {
	case c == nil:
		return nil, l.notLoaded()
	case c.Index == nil:
		return nil, nil
	case c.draft != nil:
		text, _ := c.draft.Get(table.Summary)
		list = append(list, text)
	}
	text, _ := c.Get(table.Summary)
	return append(list, text), nil
}

// Index returns the active content, or nil.
func (l *Live) Index() *index.Index {
	if c := l.current.Load(); c != nil {
		return c.Index
	}
	return nil
}

// Generation is equal to what it was as long as look-ups give the same answers.
func (l *Live) Generation() any { return l.current.Load() }

// Spec returns the table's spelling.
func (l *Live) Spec() table.Spec { return l.cfg.Spec }

// Status returns the state as of now.
func (l *Live) Status() Status {
	l.status.Lock()
	defer l.status.Unlock()
	st := l.status.Status
	st.Waits = l.waits.Load()
	return st
}

// Load reads the file now, for start-up: it waits, up to ctx's end or ten seconds, for
// a writer to finish. An error is also in Status; Run tries on.
func (l *Live) Load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		err := l.refresh(ctx, true)
		if !errors.Is(err, ErrBusy) {
			return err
		}
		select {
		case <-ctx.Done():
			l.mu.Lock()
			_ = l.failed(err) // counts it; the caller gets the reason
			l.mu.Unlock()
			return fmt.Errorf("%s: %w", l.cfg.Spec, err)
		case <-time.After(again):
		}
	}
}
