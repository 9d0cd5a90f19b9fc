// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"context"
	"database/sql"
	"errors"

	"rcptgate/store"
)

// maxTombstones bounds the table of tombstones.
const maxTombstones = 10_000

// forgetBatch is how many lines of a domain are deleted in one transaction.
const forgetBatch = 1000

// carryOut deletes what the orders match, or a page of it, and in the end writes their
// tombstones, synced to the disk. It reports whether that is done; until then the orders
// hide the lines that are left. Orders are several only when each is about an address:
// other gateways may have forgotten thousands.
func (s *Store) carryOut(f *file, orders []*forget) (done bool, err error) {
	ctx := context.Background()
	if _, err := f.conn.ExecContext(ctx, "PRAGMA synchronous = FULL"); err != nil {
		return false, err
	}
	defer func() { _, _ = f.conn.ExecContext(ctx, "PRAGMA synchronous = NORMAL") }()
	numbers, last := make([]int, len(orders)), ""
	err = s.transact(f, func(ctx context.Context, c *counts) (err error) {
		old := s.options.Now().Add(-s.options.TombstoneLife).UnixNano()
		for i, order := range orders {
			if numbers[i], last, done, err = f.carryOutOne(ctx, c, order); err != nil || !done {
				return err
			}
			if err = f.bury(ctx, order.tomb); err != nil {
				return err
			}
		}
		return f.prune(ctx, c, old)
	})
	if err != nil {
		return false, err
	}
	for i, order := range orders {
		order.n += numbers[i]
		order.key = last
		if !order.begun {
			s.queue.begin(order, s.table.next)
		}
	}
	return done, nil
}

// carryOutOne deletes what order matches, or a page of it.
func (f *file) carryOutOne(ctx context.Context, c *counts, order *forget) (n int, last string, done bool, err error) {
	if !order.begun {
		if n, err = f.onlyWaiting(ctx, order.keys); err != nil {
			return 0, "", false, err
		}
	}
	deleted, last, err := f.deleteMatching(ctx, c, order)
	done = order.tomb.Pattern.Domain == "" || order.tomb.Pattern.Address != "" || deleted < forgetBatch
	return n + deleted, last, done, err
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
// many these were and the key of the last.
func (f *file) deleteMatching(ctx context.Context, c *counts, order *forget) (n int, last string, err error) {
	match := order.tomb.Pattern
	if match == (store.Pattern{}) {
		for part := range c.parts {
			n += int(c.parts[part])
			c.parts[part] = 0
		}
		_, err := f.conn.ExecContext(ctx, "DELETE FROM answers")
		return n, "", err
	}
	if match.Address != "" {
		var part int
		err := f.stmts[deleteSQL].QueryRowContext(ctx, store.Domain(match.Address), match.Address).Scan(&part)
		if errors.Is(err, sql.ErrNoRows) {
			return 0, "", nil
		}
		return 1, "", errors.Join(err, c.add(part, -1))
	}
	lines, last, err := f.domainPage(ctx, match.Domain, order)
	for _, l := range lines {
		if err == nil {
			_, err = f.exec(ctx, deleteIDSQL, l.id)
		}
		if err == nil {
			err = c.add(l.part, -1)
		}
	}
	return len(lines), last, err
}

func (f *file) domainPage(ctx context.Context, domain string, order *forget) (lines []line, last string, err error) {
	rows, err := f.stmts[forgetPage].QueryContext(ctx, domain, order.key, order.hides, forgetBatch)
	if err != nil {
		return nil, "", err
	}
	defer rows.Close()
	for rows.Next() {
		var l line
		if err := rows.Scan(&l.id, &l.part, &last); err != nil {
			return nil, "", errors.Join(errDamaged, err)
		}
		lines = append(lines, l)
	}
	return lines, last, rows.Err()
}

// bury writes a tombstone.
func (f *file) bury(ctx context.Context, t store.Tombstone) error {
	_, err := f.conn.ExecContext(ctx, "INSERT INTO tombstones (address, domain, forgotten) VALUES (?, ?, ?)",
		t.Pattern.Address, t.Pattern.Domain, t.When.UnixNano())
	return err
}

// prune drops the tombstones that are too many or too old.
func (f *file) prune(ctx context.Context, c *counts, old int64) error {
	if _, err := f.conn.ExecContext(ctx, "DELETE FROM tombstones WHERE forgotten < ?", old); err != nil {
		return err
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
	ended, err := s.endedPage(f)
	if err != nil {
		return err
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
	id   int64
	part int
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
