// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"time"

	"rcptgate/store"
)

// maxTombstones bounds the table of tombstones.
const maxTombstones = 10_000

const (
	// forgetBatch is how many lines of a domain are deleted in one transaction.
	forgetBatch = 1000
	// farAhead is how far ahead a tombstone of this gateway may lie.
	farAhead = 24 * time.Hour
)

// page is where an order stopped, if more is left.
type page struct {
	id   int64
	key  string
	more bool
}

// apply deletes what the orders match, or a page of it, and in the end writes their
// tombstones, synced to the disk. It reports whether that is done; until then the orders
// hide the lines that are left. Several orders in one transaction are for those of other
// gateways, which may be thousands.
func (s *Store) apply(f *file, orders []*forget) (done int, err error) {
	ctx := context.Background()
	if _, err := f.conn.ExecContext(ctx, "PRAGMA synchronous = FULL"); err != nil {
		return 0, err
	}
	defer func() { _, _ = f.conn.ExecContext(ctx, "PRAGMA synchronous = NORMAL") }()
	var numbers []int
	var at page
	err = s.transact(f, func(ctx context.Context, c *counts) error {
		numbers, done, at = numbers[:0], 0, page{}
		deleted := 0
		for _, order := range orders {
			n, reached, err := f.applyOne(ctx, c, order)
			if err != nil {
				return err
			}
			numbers, at = append(numbers, n), reached
			if at.more {
				break
			}
			if err := f.putTombstone(ctx, order.tomb); err != nil {
				return err
			}
			done++
			if deleted += n; deleted >= forgetBatch {
				break
			}
		}
		return s.prune(ctx, f, c)
	})
	if err != nil {
		return 0, err
	}
	for i, n := range numbers {
		orders[i].n += n
		if i >= done {
			orders[i].at = at
			if !orders[i].begun {
				s.queue.begin(orders[i], s.table.next)
			}
		}
	}
	return done, nil
}

// applyOne deletes what order matches, or a page of it.
func (f *file) applyOne(ctx context.Context, c *counts, order *forget) (n int, at page, err error) {
	if !order.begun {
		if n, err = f.onlyWaiting(ctx, order.keys); err != nil {
			return 0, page{}, err
		}
	}
	deleted, at, err := f.deleteMatching(ctx, c, order)
	return n + deleted, at, err
}

// onlyWaiting counts the keys that never reached the file.
func (f *file) onlyWaiting(ctx context.Context, keys []string) (n int, err error) {
	for _, key := range keys {
		var part, learnt int64
		err := f.stmts[findSQL].QueryRowContext(ctx, store.Domain(key), key).Scan(&part, &learnt)
		if errors.Is(err, sql.ErrNoRows) {
			n++
		} else if err != nil {
			return 0, err
		}
	}
	return n, nil
}

// deleteMatching deletes everything, one line, or a page of a domain's. It gives how
// many these were and where it stopped.
func (f *file) deleteMatching(ctx context.Context, c *counts, order *forget) (n int, at page, err error) {
	match := order.tomb.Pattern
	if match == (store.Pattern{}) && order.tomb.Spare.IsZero() {
		for part := range c.parts {
			n += int(c.parts[part])
			c.parts[part] = 0
		}
		_, err := f.conn.ExecContext(ctx, "DELETE FROM answers")
		return n, page{}, err
	}
	if match.Address != "" {
		spared, err := f.spared(ctx, order)
		if err != nil || spared {
			return 0, page{}, err
		}
		var part int
		err = f.stmts[deleteSQL].QueryRowContext(ctx, store.Domain(match.Address), match.Address).Scan(&part)
		if errors.Is(err, sql.ErrNoRows) {
			return 0, page{}, nil
		}
		return 1, page{}, errors.Join(err, c.add(part, -1))
	}
	lines, err := f.forgetPage(ctx, match.Domain, order)
	for _, l := range lines {
		if l.learnt > spare(order) {
			continue
		}
		if err == nil {
			_, err = f.exec(ctx, deleteIDSQL, l.id)
		}
		if err == nil {
			err = c.add(l.part, -1)
		}
		n++
	}
	if err != nil || len(lines) < forgetBatch {
		return n, page{}, err
	}
	end := lines[len(lines)-1]
	return n, page{id: end.id, key: end.key, more: true}, nil
}

// spare is from which second on lines were learnt too late to be forgotten.
func spare(order *forget) int64 {
	if order.tomb.Spare.IsZero() {
		return math.MaxInt64
	}
	return seconds(order.tomb.Spare)
}

// spared reports whether the line of the one address that order is about was learnt too
// late to be forgotten.
func (f *file) spared(ctx context.Context, order *forget) (bool, error) {
	if order.tomb.Spare.IsZero() {
		return false, nil
	}
	key := order.tomb.Pattern.Address
	var learnt int64
	err := f.conn.QueryRowContext(ctx, "SELECT max(learnt, passing_learnt) FROM answers WHERE domain = ? AND key = ?",
		store.Domain(key), key).Scan(&learnt)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return learnt > spare(order), err
}

// forgetPage gives the next lines that an order for a domain, or for everything, is about.
func (f *file) forgetPage(ctx context.Context, domain string, order *forget) (lines []line, err error) {
	query, args := forgetDomainPage, []any{domain, order.at.key, order.hides, forgetBatch}
	if domain == "" {
		query, args = forgetAllPage, []any{order.at.id, order.hides, forgetBatch}
	}
	rows, err := f.stmts[query].QueryContext(ctx, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var l line
		if err := rows.Scan(&l.id, &l.part, &l.key, &l.learnt); err != nil {
			return nil, errors.Join(errDamaged, err)
		}
		lines = append(lines, l)
	}
	return lines, rows.Err()
}

// putTombstone writes a tombstone.
func (f *file) putTombstone(ctx context.Context, t store.Tombstone) error {
	_, err := f.conn.ExecContext(ctx, "INSERT INTO tombstones (address, domain, forgotten) VALUES (?, ?, ?)",
		t.Pattern.Address, t.Pattern.Domain, t.When.UnixNano())
	return err
}

// prune drops the tombstones that are too many, too old, or of a clock that was far ahead:
// the last would make all later ones of this gateway lie there too.
func (s *Store) prune(ctx context.Context, f *file, c *counts) error {
	if s.options.Settled() {
		now := s.options.Now()
		old, far := now.Add(-s.options.TombstoneLife).UnixNano(), now.Add(farAhead).UnixNano()
		if _, err := f.conn.ExecContext(ctx, "DELETE FROM tombstones WHERE forgotten < ? OR forgotten > ?", old, far); err != nil {
			return err
		}
	}
	var generation int64
	err := f.conn.QueryRowContext(ctx, "SELECT coalesce(max(generation), 0) FROM tombstones").Scan(&generation)
	if err != nil || generation <= maxTombstones {
		return err
	}
	// For those that are dropped too early, the time of the newest is kept.
	var newest sql.NullInt64
	err = f.conn.QueryRowContext(ctx, "SELECT max(forgotten) FROM tombstones WHERE generation <= ?",
		generation-maxTombstones).Scan(&newest)
	if err != nil || !newest.Valid {
		return err
	}
	c.floor = max(c.floor, newest.Int64)
	_, err = f.conn.ExecContext(ctx, "DELETE FROM tombstones WHERE generation <= ?", generation-maxTombstones)
	return err
}

// tidyPage is how many lines a second are looked at for having ended.
const tidyPage = 2000

// tidy deletes what has ended, a page each time, and makes room if the bound is
// smaller than it was.
func (s *Store) tidy() {
	f := s.file.Load()
	if f == nil {
		return
	}
	if err := guard(func() error { return s.tidyOnce(f) }); err != nil {
		s.fail(f, err)
	}
}

func (s *Store) tidyOnce(f *file) error {
	var ended []line
	if s.options.Settled() { // else what seems to have ended may not have
		var err error
		if ended, err = s.endedPage(f); err != nil {
			return err
		}
	}
	over := s.table.parts[partRefusals] > int64(s.options.Entries/10) ||
		s.table.parts[partNew]+s.table.parts[partProven] > int64(s.options.Entries-s.options.Entries/10)
	if len(ended) == 0 && !over {
		return nil
	}
	return s.transact(f, func(ctx context.Context, c *counts) error {
		for _, line := range ended {
			n, err := f.exec(ctx, deleteIDSQL, line.id)
			if err != nil {
				return err
			}
			if err := c.add(line.part, -n); err != nil {
				return err
			}
		}
		return s.makeRoom(ctx, f, c)
	})
}

type line struct {
	id     int64
	part   int
	key    string // for pages of a forget
	learnt int64  // likewise: the later of its answers
}

func (s *Store) endedPage(f *file) (ended []line, err error) {
	now := seconds(s.options.Now())
	rows, err := f.stmts[endedPageSQL].QueryContext(context.Background(), s.cursor, tidyPage)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		var l line
		var ends int64
		if err := rows.Scan(&l.id, &l.part, &ends); err != nil {
			return nil, errors.Join(errDamaged, err)
		}
		n++
		s.cursor = l.id
		if ends <= now {
			ended = append(ended, l)
		}
	}
	if n < tidyPage {
		s.cursor = 0
	}
	return ended, rows.Err()
}
