// SPDX-License-Identifier: BSD-2-Clause

// Package disk keeps records in one SQLite file (WAL, synchronous=NORMAL), so that
// they survive a restart and a killed process.
//
// The file is answers.db in the state directory, mode 0600; a file named lock
// next to it keeps a second daemon out. "sqlite3 answers.db 'SELECT * FROM
// remembered'" shows it while the daemon runs. Its schema is in schema.go.
//
// Writes are queued and written by one goroutine in transactions of at most
// batchSize records, at latest flushEvery after they came: a killed process loses
// less than the last second. Reads see the queue. When the disk cannot keep up, the
// oldest of more than queueLimit queued writes are dropped and counted.
//
// A file that is damaged, at start or at any time later, is renamed to
// answers.db.damaged-TIME and a new one is begun; one of another schema version,
// as a newer release leaves it, to answers.db.schema-TIME. At most three of each are
// kept. A disk that is full, read-only or missing costs only what it knew: the store
// gives errors, keeps the newest writes queued, and tries again.
//
// The file is bounded in records. Those that only refuse have a tenth. Valid ones
// that were asked for again since they were learnt have precedence over those that
// were not, so that a flood of accepted user+random@ addresses ends up overwriting
// itself. The file does not shrink; space that was freed is used again.
package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate/kit/notice"
	"rcptgate/kit/steady"
	"rcptgate/kit/term"
	"rcptgate/store"
)

const (
	// FileName is the store's file in the state directory.
	FileName = "answers.db"
	// MinEntries is the smallest bound.
	MinEntries = 100

	readerCount = 4
	batchSize   = 1000
	flushEvery  = 100 * time.Millisecond
	queueLimit  = 20_000
	retryEvery  = time.Second
	closeWithin = 5 * time.Second
	// troubleKey names trouble on the board of notices.
	troubleKey = "disk store"
)

var (
	errUnavailable = errors.New("disk store is not available")
	errHangs       = errors.New("the disk does not answer; it is tried again until it does")
)

// Options say where a Store is and how much it keeps.
type Options struct {
	// Dir is the state directory; it is made with mode 0700.
	Dir string
	// Entries is the most records kept; below MinEntries it is MinEntries.
	Entries int
	// TombstoneLife is how long a forget is kept for other gateways; 0 means 62
	// days, twice the default life of a valid answer.
	TombstoneLife time.Duration
	// Now is the clock by which records end; nil means the machine's, without its jumps.
	Now func() time.Time
	// Settled reports that Now has not jumped lately: only then what has ended is deleted.
	// Nil means always, or that of the machine's clock.
	Settled func() bool
	// Log gets reports of damage and trouble; nil discards them.
	Log *slog.Logger
	// Notices is the board for trouble that lasts; nil means a board that only logs.
	Notices *notice.Board
	// Patience bounds the opening of a file and its closing. A forget waits for half of it
	// while nothing is written. 0 means 10 s.
	Patience time.Duration
	// Renewed is called when another file is in use than the one before, because that one
	// was damaged or removed: its contents are gone. It must not block; nil
	// means no call.
	Renewed func()
}

// Store is a store.Store in a file, made by Open.
type Store struct {
	options Options
	path    string
	lock    *os.File // nil while the directory cannot be used; the writer's after Open
	file    atomic.Pointer[file]
	cause   atomic.Pointer[string] // why file is nil
	aside   atomic.Pointer[string] // the last file set aside
	queue   *queue
	table   counts                 // the writer's
	public  atomic.Pointer[counts] // a copy of it

	wake    chan struct{} // something was queued
	urgent  chan struct{} // something must not wait for more to come
	suspect chan verdict  // a reader found damage
	moved   atomic.Int64  // when the writer last wrote something, UNIX nanoseconds
	quit    chan struct{}
	done    chan struct{}
	closing sync.Once

	hits, misses, failures, evicted, commits atomic.Uint64

	// The writer's own.
	batch   []*op     // that are being written
	cursor  int64     // of the search for ended records
	retryAt time.Time // after trouble
	lost    bool      // the file before was given up
}

// verdict is damage found in a file.
type verdict struct {
	file *file
	err  error
}

// counts is what the table holds and how it goes on.
type counts struct {
	parts [parts]int64
	next  int64 // id
	floor int64 // tombstones before this time (nanoseconds) were dropped
}

// Open opens the store in a directory, making what is missing. It fails where nothing
// would mend itself: with ErrLocked, store.ErrOwner and store.ErrReadOnly. With any other trouble the
// store is there, without a file, and goes on trying.
func Open(o Options) (*Store, error) {
	o.Entries = max(o.Entries, MinEntries)
	if o.Now == nil {
		clock := steady.New()
		o.Now, o.Settled = clock.Now, clock.Settled
	}
	if o.Settled == nil {
		o.Settled = func() bool { return true }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Notices == nil {
		o.Notices = notice.New(o.Log)
	}
	o.Patience = cmp.Or(o.Patience, openTimeout)
	if o.TombstoneLife <= 0 {
		o.TombstoneLife = 62 * 24 * time.Hour
	}
	s := &Store{
		options: o,
		path:    filepath.Join(o.Dir, FileName),
		queue:   newQueue(queueLimit),
		wake:    make(chan struct{}, 1),
		urgent:  make(chan struct{}, 1),
		suspect: make(chan verdict, 1),
		quit:    make(chan struct{}),
		done:    make(chan struct{}),
	}
	s.public.Store(&counts{})
	switch err := s.attempt(); {
	case errors.Is(err, ErrLocked), errors.Is(err, store.ErrOwner), errors.Is(err, store.ErrReadOnly):
		if s.lock != nil {
			_ = s.lock.Close()
		}
		return nil, err // and no word in the log: the caller ends with it
	case err != nil:
		s.troubled(err)
	}
	go s.run()
	return s, nil
}

// Get gives the record under key, queued or written.
func (s *Store) Get(ctx context.Context, key string) (store.Record, error) {
	if s.closed() {
		return store.Record{}, store.ErrClosed
	}
	rec, err := s.get(ctx, key)
	switch {
	case err == nil && rec.Expire().After(s.options.Now()):
		s.hits.Add(1)
		return rec, nil
	case err == nil || errors.Is(err, store.ErrNotFound):
		s.misses.Add(1)
		return store.Record{}, store.ErrNotFound
	default:
		s.failures.Add(1)
		return store.Record{}, err
	}
}

func (s *Store) get(ctx context.Context, key string) (store.Record, error) {
	o, hides := s.queue.get(key)
	switch {
	case o != nil && o.kind == opPut:
		return o.rec, nil
	case o != nil && o.kind == opDelete, hides == math.MaxInt64, len(key) > store.MaxKey:
		return store.Record{}, store.ErrNotFound
	}
	f := s.file.Load()
	if f == nil {
		return store.Record{}, s.unavailable()
	}
	if f.filters.lacks(key) {
		return store.Record{}, store.ErrNotFound
	}
	r, err := f.key(ctx, key)
	s.judge(f, err)
	if err == nil && r.id < hides {
		return store.Record{}, store.ErrNotFound
	}
	if err == nil && r.part == partNew {
		s.enqueue(&op{key: key, kind: opProve})
	}
	return r.rec, err
}

// Lacks reports whether there is certainly nothing under key. It does no I/O. Without a
// file, and until its keys have been read, nothing is certain.
func (s *Store) Lacks(key string) bool {
	if o, _ := s.queue.get(key); o != nil || s.closed() {
		return false
	}
	f := s.file.Load() // after the queue: what leaves that is in the file's filter
	if f == nil || !f.filters.lacks(key) {
		return false
	}
	s.misses.Add(1)
	return true
}

// judge hands a file to the writer that a reader could not read for a reason that does not
// pass by itself.
func (s *Store) judge(f *file, err error) {
	if !damaged(err) && !reopens(err) {
		return
	}
	select {
	case s.suspect <- verdict{f, err}:
	default: // one is enough
	}
}

func (s *Store) unavailable() error {
	if cause := s.cause.Load(); cause != nil {
		return fmt.Errorf("%w: %s", errUnavailable, *cause)
	}
	return errUnavailable
}

func (s *Store) closed() bool {
	select {
	case <-s.quit:
		return true
	default:
		return false
	}
}

// Put queues rec. It does not wait for the disk.
func (s *Store) Put(_ context.Context, key string, rec store.Record) error {
	if s.closed() {
		return store.ErrClosed
	}
	if len(key) > store.MaxKey {
		return nil
	}
	rec = store.Bound(rec)
	if rec.IsZero() || !rec.Expire().After(s.options.Now()) {
		s.enqueue(&op{key: key, kind: opDelete})
		return nil
	}
	s.enqueue(&op{key: key, kind: opPut, rec: rec})
	return nil
}

// Delete queues the deletions. See Forget for what must not come back.
func (s *Store) Delete(_ context.Context, keys ...string) error {
	if s.closed() {
		return store.ErrClosed
	}
	for _, key := range keys {
		if len(key) <= store.MaxKey {
			s.enqueue(&op{key: key, kind: opDelete})
		}
	}
	return nil
}

// Prove notes that the record under key is in use: it has precedence over those that are
// not. It does not wait for the disk.
func (s *Store) Prove(key string) {
	if !s.closed() && len(key) <= store.MaxKey {
		s.enqueue(&op{key: key, kind: opProve})
	}
}

func (s *Store) enqueue(o *op) {
	if s.queue.put(o) >= batchSize {
		signal(s.urgent)
	}
	signal(s.wake)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Forget deletes what matches and writes a tombstone, both synced to the disk
// before it returns. If that fails, takes longer than ctx, or nothing at all is written for
// some seconds, nothing that matches is given out any more, and the store keeps trying as
// long as the process lives. A large domain is deleted a page at a time, other writes in
// between; records that these overwrite are not in the count.
func (s *Store) Forget(ctx context.Context, t store.Tombstone) (int, error) {
	if s.closed() {
		return 0, store.ErrClosed
	}
	f := s.queue.forget(t)
	signal(s.urgent)
	began := time.Now()
	stall := s.options.Patience / 2
	tick := time.NewTicker(stall / 4)
	defer tick.Stop()
	for {
		select {
		case err := <-f.done:
			if err != nil {
				s.failures.Add(1)
				return 0, fmt.Errorf("forgetting %s on disk: %w", t.Pattern, err)
			}
			return f.n, nil
		case <-ctx.Done():
			return 0, fmt.Errorf("forgetting %s on disk: %w", t.Pattern, ctx.Err())
		case <-s.done:
			return 0, store.ErrClosed
		case <-tick.C:
			last := time.Unix(0, max(s.moved.Load(), began.UnixNano()))
			if stalled := time.Since(last); stalled > stall {
				s.failures.Add(1)
				return 0, fmt.Errorf("forgetting %s on disk: %w", t.Pattern, errHangs)
			}
		}
	}
}

// Tombstones gives the forgets numbered above generation, the oldest first, and the
// time before which forgets may have been dropped for want of room.
func (s *Store) Tombstones(ctx context.Context, generation uint64) (list []store.Tombstone, floor time.Time, err error) {
	f := s.file.Load()
	if s.closed() || f == nil {
		return nil, time.Time{}, s.unavailable()
	}
	rows, err := f.db.QueryContext(ctx,
		`SELECT generation, address, domain, forgotten FROM tombstones WHERE generation > ? ORDER BY generation`,
		int64(min(generation, 1<<62))) //nolint:gosec // held by min
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("reading tombstones: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var t store.Tombstone
		var at int64
		if err := rows.Scan(&t.Generation, &t.Pattern.Address, &t.Pattern.Domain, &at); err != nil {
			return nil, time.Time{}, fmt.Errorf("reading tombstones: %w", err)
		}
		t.When = time.Unix(0, at)
		list = append(list, t)
	}
	if at := s.public.Load().floor; at != 0 {
		floor = time.Unix(0, at)
	}
	return list, floor, rows.Err()
}

// Stats describes the store.
func (s *Store) Stats() store.Stats {
	c := s.public.Load()
	_, dropped := s.queue.len()
	st := store.Stats{
		Name:     "disk",
		Entries:  c.parts[partRefusals] + c.parts[partNew] + c.parts[partProven],
		Refusals: c.parts[partRefusals],
		Capacity: int64(s.options.Entries),
		Hits:     s.hits.Load(),
		Misses:   s.misses.Load(),
		Errors:   s.failures.Load() + dropped,
		Evicted:  s.evicted.Load(),
	}
	if cause := s.cause.Load(); cause != nil {
		st.Detail = *cause
	} else if aside := s.aside.Load(); aside != nil {
		st.Detail = "a damaged file was set aside as " + *aside
	}
	return st
}

// Close writes what is queued, if the disk takes it within closeWithin, and gives
// up the lock.
func (s *Store) Close() error {
	s.closing.Do(func() { close(s.quit) })
	select {
	case <-s.done:
	case <-time.After(closeWithin + s.options.Patience):
		return fmt.Errorf("closing %s: the disk does not answer", s.path)
	}
	if n, _ := s.queue.len(); n > 0 && s.cause.Load() != nil {
		return fmt.Errorf("closing %s: %s could not be written: %w", s.path, term.Count(n, "record"), s.unavailable())
	}
	return nil
}
