// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"context"
	"database/sql"
	"fmt"

	"rcptgate/store"
)

// ask is one look-up, handed to whichever reader is free.
type ask struct {
	query string // getSQL, or a page
	args  []any
	reply chan found // room for one
}

type found struct {
	rows []row
	err  error
}

// reader owns a connection. Askers wait for its reply no longer than they want to;
// a disk that hangs holds up the reader alone.
type reader struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

func (f *file) newReader(ctx context.Context) (*reader, error) {
	conn, err := f.connect(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(ctx, "PRAGMA query_only = 1"); err != nil {
		return nil, err
	}
	r := &reader{conn: conn, stmts: map[string]*sql.Stmt{}}
	for _, query := range []string{getSQL, pageSQL, pageDomain} {
		if r.stmts[query], err = conn.PrepareContext(ctx, query); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *reader) run(asks <-chan ask, quit <-chan struct{}) {
	defer func() {
		for _, stmt := range r.stmts {
			_ = stmt.Close()
		}
		_ = r.conn.Close()
	}()
	for {
		select {
		case <-quit:
			return
		case a := <-asks:
			rows, err := r.query(a.query, a.args)
			a.reply <- found{rows, err}
		}
	}
}

// query runs to its end: statements are short, and interrupting them would cost
// each a goroutine.
func (r *reader) query(query string, args []any) (list []row, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: reading it panicked: %v", errDamaged, p)
		}
	}()
	rows, err := r.stmts[query].QueryContext(context.Background(), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		list = append(list, row{})
		if err := list[len(list)-1].scan(rows); err != nil {
			return nil, err
		}
	}
	return list, rows.Err()
}

// ask puts a query to a free reader and waits until ctx ends.
func (f *file) ask(ctx context.Context, query string, args ...any) ([]row, error) {
	a := ask{query: query, args: args, reply: make(chan found, 1)}
	select {
	case f.asks <- a:
	case <-f.quit:
		return nil, errUnavailable
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for a reader of the disk store: %w", ctx.Err())
	}
	select {
	case got := <-a.reply:
		return got.rows, got.err
	case <-ctx.Done():
		return nil, fmt.Errorf("reading the disk store: %w", ctx.Err())
	}
}

// key looks one key up.
func (f *file) key(ctx context.Context, key string) (row, error) {
	rows, err := f.ask(ctx, getSQL, store.Domain(key), key)
	if err != nil {
		return row{}, err
	}
	if len(rows) == 0 {
		return row{}, store.ErrNotFound
	}
	if rows[0].key != key {
		return row{}, fmt.Errorf("%w: its index gives another key's line", errDamaged)
	}
	return rows[0], nil
}
