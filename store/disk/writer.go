// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	sqlitelib "modernc.org/sqlite/lib"

	"rcptgate/store"
)

// errStuck says that an earlier failure left a transaction open: the connection has
// to be made anew, and nothing is wrong with the file.
var errStuck = errors.New("transaction could not be ended")

// run is the writer: the only goroutine that changes the file, opens it, and
// replaces it.
func (s *Store) run() {
	defer close(s.done)
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.quit:
			s.finish()
			return
		case v := <-s.suspect:
			s.fail(v.file, v.err)
		case <-tick.C:
			s.look()
			s.drain()
			s.tidy()
		case <-s.urgent:
			s.drain()
		case <-s.wake:
			s.gather()
			s.drain()
		}
	}
}

// gather waits for more to come, so that a transaction is worth its while.
func (s *Store) gather() {
	select {
	case <-time.After(flushEvery):
	case <-s.urgent:
	case <-s.quit:
	}
}

// finish writes the rest and closes the file.
func (s *Store) finish() {
	deadline := time.Now().Add(closeWithin)
	for time.Now().Before(deadline) && s.drain() {
	}
	if f := s.file.Swap(nil); f != nil {
		f.close()
	}
	if s.lock != nil {
		_ = s.lock.Close()
	}
}

// drain writes for as long as there is something to write and the disk takes it.
// It reports whether it should be called again: never after trouble.
func (s *Store) drain() bool {
	for range 100 { // then let the other cases of run have a turn
		if time.Now().Before(s.retryAt) || s.file.Load() == nil && s.tryOpen() != nil {
			s.refuseForgets()
			return false
		}
		f := s.file.Load()
		if orders := s.queue.nextForgets(); len(orders) > 0 {
			done := 0
			err := guard(func() (err error) { done, err = s.apply(f, orders); return err })
			if err != nil {
				s.fail(f, err)
				continue // with a new file, or with an answer to those that wait
			}
			s.well()
			if s.queue.forgotten(orders[:done]); done == len(orders) {
				continue
			}
		}
		s.batch = s.queue.take(s.batch[:0], batchSize)
		if len(s.batch) == 0 {
			if len(s.queue.nextForgets()) > 0 {
				continue
			}
			return false
		}
		if err := guard(func() error { return s.write(f, s.batch) }); err != nil {
			s.queue.failed(s.batch)
			s.fail(f, err)
			continue
		}
		s.queue.done(s.batch)
		clear(s.batch)
		s.well()
	}
	signal(s.urgent)
	return true
}

// guard makes a panic of the SQLite library, which damaged files may provoke, an
// error.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: writing it panicked: %v", errDamaged, p)
		}
	}()
	return f()
}

// refuseForgets answers those that wait: it has not been done yet.
func (s *Store) refuseForgets() {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	for _, f := range s.queue.forgets {
		f.tell(s.unavailable())
	}
}

// tryOpen is attempt, and reports trouble.
func (s *Store) tryOpen() error {
	err := s.attempt()
	if err != nil {
		s.troubled(err)
	}
	return err
}

// attempt locks the directory, opens the file, and sets a damaged one aside.
func (s *Store) attempt() error {
	err := guard(s.openOnce)
	if damaged(err) {
		s.setAside(err)
		err = guard(s.openOnce)
	}
	if err != nil {
		return err
	}
	s.cause.Store(nil)
	if s.lost && s.options.Renewed != nil {
		s.options.Renewed()
	}
	s.lost = false
	return nil
}

func (s *Store) openOnce() error {
	if s.unlocked() {
		_ = s.lock.Close()
		s.lock = nil
	}
	if s.lock == nil {
		lock, err := lockDir(s.options.Dir)
		if err != nil {
			return err
		}
		s.lock = lock
	}
	f, err := openFile(s.path, readerCount, s.options.Patience)
	if err != nil {
		return err
	}
	f.filters.start(f, s.options.Entries)
	c, err := f.counts()
	if err != nil {
		f.close()
		return fmt.Errorf("opening disk store %s: %w", s.path, err)
	}
	s.table, s.cursor = c, 0
	s.public.Store(&c)
	s.file.Store(f)
	return nil
}

// counts reads how many lines there are: they are written with every transaction,
// since counting a million takes longer than a start may.
func (f *file) counts() (c counts, err error) {
	rows, err := f.conn.QueryContext(context.Background(), "SELECT name, value FROM meta")
	if err != nil {
		return c, err
	}
	defer rows.Close()
	into := c.names()
	n := 0
	for rows.Next() {
		var name string
		var value int64
		if err := rows.Scan(&name, &value); err != nil {
			return c, fmt.Errorf("%w: %w", errDamaged, err)
		}
		if field, ok := into[name]; ok {
			*field = value
			n++
		}
	}
	if err := rows.Err(); err != nil {
		return c, err
	}
	if n != len(into) || c.next < 1 || min(c.parts[0], c.parts[1], c.parts[2]) < 0 {
		return c, fmt.Errorf("%w: its counts are missing", errDamaged)
	}
	return c, nil
}

// names are the lines of table meta.
func (c *counts) names() map[string]*int64 {
	names := map[string]*int64{"next": &c.next, "floor": &c.floor}
	for i := range c.parts {
		names["part"+strconv.Itoa(i)] = &c.parts[i]
	}
	return names
}

// fail judges an error of file f: a damaged file is replaced, anything else is
// trouble that may pass.
func (s *Store) fail(f *file, err error) {
	if s.file.Load() != f {
		return // replaced since
	}
	if !damaged(err) {
		s.failures.Add(1)
		s.troubled(err)
		if reopens(err) {
			s.file.Store(nil)
			f.close()
		}
		return
	}
	s.file.Store(nil)
	f.close()
	s.setAside(err)
	s.lost = true
	if s.tryOpen() == nil {
		signal(s.urgent)
	}
}

func (s *Store) setAside(why error) {
	s.failures.Add(1)
	to, err := setAside(s.path, why, time.Now())
	if err != nil {
		s.troubled(errors.Join(why, err))
		return
	}
	s.aside.Store(&to)
	s.options.Log.Error("disk store cannot be used: set aside, starting a new one",
		"file", s.path, "set_aside", to, "error", why)
}

// troubled notes that the disk does not take what it should.
func (s *Store) troubled(err error) {
	s.retryAt = time.Now().Add(retryEvery)
	text := err.Error()
	s.cause.Store(&text)
	s.options.Notices.Raise(slog.LevelWarn, troubleKey, "disk store unavailable, continuing without it", "file", s.path, "error", err)
}

// well notes that it does again.
func (s *Store) well() {
	s.cause.Store(nil)
	s.options.Notices.Clear(troubleKey, "disk store available again", "file", s.path)
}

// look notices that a directory or a file was removed or replaced while it was
// open.
func (s *Store) look() {
	f := s.file.Load()
	if f == nil {
		return // it is tried again anyway
	}
	what := ""
	info, err := os.Stat(s.path)
	switch {
	case s.unlocked():
		what = "state directory was removed or replaced: locking and opening what is there"
	case err == nil && f.info != nil && os.SameFile(info, f.info):
		return
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return
	default:
		what = "disk store's file was removed or replaced: opening what is there"
	}
	s.options.Log.Warn(what, "file", s.path)
	s.file.Store(nil)
	f.close()
	s.lost = true
	_ = s.tryOpen()
}

// unlocked reports whether the lock that is held is not, or no longer, the one in the
// directory: another daemon could take that.
func (s *Store) unlocked() bool {
	if s.lock == nil {
		return false
	}
	mine, err := s.lock.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(filepath.Join(s.options.Dir, lockName))
	return errors.Is(err, os.ErrNotExist) || err == nil && !os.SameFile(mine, there)
}

// yieldEvery is after how many lines the writer lets others have the processor. A full
// batch takes it for 10 ms, and questions that wait for it wait as long.
const yieldEvery = 16

// write carries out orders in one transaction, and makes room for them.
func (s *Store) write(f *file, list []*op) error {
	f.filters.renew(f)
	return s.transact(f, func(ctx context.Context, c *counts) error {
		for i, o := range list {
			if err := f.apply(ctx, c, o); err != nil {
				return err
			}
			if i%yieldEvery == yieldEvery-1 {
				runtime.Gosched()
			}
		}
		return s.makeRoom(ctx, f, c)
	})
}

// transact runs change in a transaction, together with the counts that it changes.
func (s *Store) transact(f *file, change func(context.Context, *counts) error) error {
	ctx := context.Background() // statements are short; interrupting them costs a goroutine each
	if _, err := f.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		if code(err)&0xff == sqlitelib.SQLITE_ERROR {
			return fmt.Errorf("%w: %v", errStuck, err) //nolint:errorlint // it must not count as damage
		}
		return err
	}
	c := s.table
	err := change(ctx, &c)
	before := s.table.names()
	for name, value := range c.names() {
		if err == nil && *value != *before[name] {
			_, err = f.exec(ctx, setMetaSQL, *value, name)
		}
	}
	if err == nil {
		_, err = f.conn.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		_, _ = f.conn.ExecContext(ctx, "ROLLBACK") // fails if SQLite has done so itself
		return err
	}
	s.table = c
	s.public.Store(&c)
	s.moved.Store(time.Now().UnixNano())
	s.commits.Add(1)
	return nil
}

func (f *file) apply(ctx context.Context, c *counts, o *op) error {
	domain := store.Domain(o.key)
	switch o.kind {
	case opDelete:
		var part int
		err := f.stmts[deleteSQL].QueryRowContext(ctx, domain, o.key).Scan(&part)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return errors.Join(err, c.add(part, -1))
	case opProve:
		n, err := f.exec(ctx, proveSQL, domain, o.key)
		c.parts[partNew] -= n
		c.parts[partProven] += n
		return err
	}
	part := partNew
	switch {
	case o.rec.Refuses():
		part = partRefusals
	case o.proven:
		part = partProven
	}
	var oldPart int
	var oldLearnt int64
	err := sql.ErrNoRows
	isNew := f.filters.lacks(o.key)
	if !isNew {
		err = f.stmts[findSQL].QueryRowContext(ctx, domain, o.key).Scan(&oldPart, &oldLearnt)
	}
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return err
	default:
		if err := c.add(oldPart, -1); err != nil {
			return err
		}
		if part == partNew && (oldPart == partProven || oldPart == partNew && seconds(o.rec.Standing.Learnt) > oldLearnt) {
			part = partProven
		}
	}
	f.filters.note(o.key)
	if err := f.put(ctx, isNew, &entry{c.next, part, o.key, &o.rec}); err != nil {
		return err
	}
	c.next++
	return c.add(part, 1)
}

// put writes a line. A new one that is in the way nevertheless, as another writer may
// have written it, is replaced like an old one.
func (f *file) put(ctx context.Context, isNew bool, e *entry) error {
	if isNew {
		query := insertPlainSQL
		if isPlain(e.rec) {
			f.args = e.appendPlain(f.args[:0], f.scratch)
		} else {
			query, f.args = insertSQL, e.appendAll(f.args[:0], f.scratch)
		}
		_, err := f.exec(ctx, query, f.args...)
		if code(err)&0xff != sqlitelib.SQLITE_CONSTRAINT {
			return err
		}
	}
	f.args = e.appendAll(f.args[:0], f.scratch)
	_, err := f.exec(ctx, replaceSQL, f.args...)
	return err
}

func (c *counts) add(part int, n int64) error {
	if part < 0 || part >= parts {
		return fmt.Errorf("%w: there is no part %d", errDamaged, part)
	}
	c.parts[part] += n
	return nil
}

// makeRoom deletes the oldest lines of the parts that have grown beyond their bound,
// a few thousand at a time.
func (s *Store) makeRoom(ctx context.Context, f *file, c *counts) error {
	total := int64(s.options.Entries)
	share := total / 10
	if err := s.trim(ctx, f, c, partRefusals, c.parts[partRefusals]-share); err != nil {
		return err
	}
	excess := c.parts[partNew] + c.parts[partProven] - (total - share)
	unproven := min(excess, max(c.parts[partNew]-share, 0))
	if err := s.trim(ctx, f, c, partNew, unproven); err != nil {
		return err
	}
	return s.trim(ctx, f, c, partProven, excess-unproven)
}

func (s *Store) trim(ctx context.Context, f *file, c *counts, part int, n int64) error {
	if n <= 0 {
		return nil
	}
	n, err := f.exec(ctx, oldestSQL, part, min(n, 5*batchSize))
	c.parts[part] -= n
	s.evicted.Add(uint64(n)) //nolint:gosec // a number of lines
	return err
}
