// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"context"
	"errors"
	"fmt"

	"rcptgate/store"
)

// pageSize is how many lines one read of Range takes.
const pageSize = 500

// Range gives what is queued and then what is in the file, page by page, so that a
// slow receiver holds no transaction open.
func (s *Store) Range(ctx context.Context, match store.Pattern, f func(string, store.Record) bool) error {
	if s.closed() {
		return store.ErrClosed
	}
	if match.Address != "" {
		rec, err := s.get(ctx, match.Address)
		if err == nil {
			f(match.Address, rec)
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// In this order: what is being written at this moment is either still in the queue or has
	// a number below last. What is written from here on is not seen twice.
	waiting := s.queue.waiting()
	last := s.public.Load().next
	for key, o := range waiting {
		if o.kind == opPut && match.Matches(key) && !f(key, o.rec) {
			return nil
		}
	}
	db := s.file.Load()
	if db == nil {
		return s.unavailable()
	}
	p := pages{file: db, match: match, last: last}
	for {
		rows, err := p.next(ctx)
		s.judge(db, err)
		if err != nil || len(rows) == 0 {
			return err
		}
		for i := range rows {
			r := &rows[i]
			o, waits := waiting[r.key]
			if _, hides := s.queue.get(r.key); waits && o.kind != opProve || r.id < hides || r.foreign {
				continue
			}
			if !f(r.key, r.rec) {
				return nil
			}
		}
	}
}

// Refusals calls f for every key in the file whose record holds something that keeps
// mail out, until f returns false. What is queued is left out.
func (s *Store) Refusals(ctx context.Context, f func(key string) bool) error {
	db := s.file.Load()
	if s.closed() || db == nil {
		return s.unavailable()
	}
	for id, n := int64(0), pageSize; n == pageSize; {
		keys, last, err := db.refusals(ctx, id)
		s.judge(db, err)
		if err != nil {
			return fmt.Errorf("listing refusals: %w", err)
		}
		for _, key := range keys {
			if !f(key) {
				return nil
			}
		}
		id, n = last, len(keys)
	}
	return nil
}

func (f *file) refusals(ctx context.Context, after int64) (keys []string, last int64, err error) {
	rows, err := f.db.QueryContext(ctx,
		"SELECT id, key FROM answers WHERE id > ? AND (part = ? OR passing <> 'none') ORDER BY id LIMIT ?", after, partRefusals, pageSize)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		if err := rows.Scan(&last, &key); err != nil {
			return nil, 0, fmt.Errorf("%w: %w", errDamaged, err)
		}
		keys = append(keys, key)
	}
	return keys, last, rows.Err()
}

// pages walks the table, or one domain of it.
type pages struct {
	file  *file
	match store.Pattern
	last  int64
	id    int64
	key   string
}

func (p *pages) next(ctx context.Context) ([]row, error) {
	var rows []row
	var err error
	if p.match.Domain != "" {
		rows, err = p.file.ask(ctx, pageDomain, p.match.Domain, p.key, p.last, pageSize)
	} else {
		rows, err = p.file.ask(ctx, pageSQL, p.id, p.last, pageSize)
	}
	if err == nil && len(rows) > 0 {
		p.id, p.key = rows[len(rows)-1].id, rows[len(rows)-1].key
	}
	return rows, err
}
