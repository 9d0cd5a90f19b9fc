// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"rcptgate/check/alias"
	"rcptgate/table"
	"rcptgate/table/live"
	"rcptgate/table/open"
)

// tables keeps the files of the MTA that configurations name. A file is read when
// the first configuration opens it and followed until the last one that did is gone:
// a reload that names it again reads nothing. It is safe for concurrent use, but for
// leases, of which one at a time may open files.
type tables struct {
	log    *slog.Logger
	follow bool // read files and follow them; false: only look at their spelling

	ctx    context.Context //nolint:containedctx // the life of those who follow files
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	files map[tableName]*tableInUse
}

// tableName is a file and what it is read for.
type tableName struct {
	use  alias.Use
	spec table.Spec
}

type tableInUse struct {
	*live.Live
	users int
	ctx   context.Context //nolint:containedctx // ends with the last user
	stop  context.CancelFunc
}

func newTables(log *slog.Logger, follow bool) *tables {
	t := &tables{log: log, follow: follow, files: make(map[tableName]*tableInUse)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// close ends all following.
func (t *tables) close() {
	t.cancel()
	t.wg.Wait()
}

// lease is what one configuration has opened.
type lease struct {
	*tables
	names []tableName
}

func (t *tables) lease() *lease { return &lease{tables: t} }

// open gives the table of a file, kept fresh. That it cannot be read is no error: it
// answers with one until it can.
func (l *lease) open(use alias.Use, spec table.Spec) (table.Table, error) {
	name := tableName{use, spec}
	l.mu.Lock()
	f := l.files[name]
	isNew := f == nil
	if isNew {
		file, err := l.newFile(name)
		if err != nil {
			l.mu.Unlock()
			return nil, err
		}
		f = &tableInUse{Live: file}
		f.ctx, f.stop = context.WithCancel(l.ctx)
		l.files[name] = f
	}
	f.users++
	l.names = append(l.names, name)
	l.mu.Unlock()
	if isNew && l.follow { // unlocked: a writer may hold the file for seconds
		_ = f.Load(f.ctx)                    // logged, in Status, and tried again
		l.wg.Go(func() { _ = f.Run(f.ctx) }) // it ends with the context's error only
	}
	return f.Live, nil
}

func (t *tables) newFile(name tableName) (*live.Live, error) {
	cfg := live.Config{Spec: name.spec, Aliases: name.use == alias.UseAliases, Log: t.log}
	if format, ok := alias.NamesFormat(name.use); ok {
		cfg.Format = func(func(error)) table.Format { return format }
		return live.New(cfg), nil
	}
	return open.Live(cfg)
}

// release gives back what was opened; files that nobody else has open are left.
func (l *lease) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range l.names {
		f := l.files[name]
		if f.users--; f.users == 0 {
			f.stop()
			delete(l.files, name)
		}
	}
	l.names = nil
}

// tableState is what is known of one file.
type tableState struct {
	Use alias.Use
	live.Status
}

// state lists every file in use, in a stable order.
func (t *tables) state() []tableState {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []tableState
	for name, f := range t.files {
		list = append(list, tableState{name.use, f.Status()})
	}
	slices.SortFunc(list, func(a, b tableState) int {
		return strings.Compare(a.Use.String()+" "+a.Spec.String(), b.Use.String()+" "+b.Spec.String())
	})
	return list
}

// words says what is in force of a file, and why it is not the file as it is.
func (s *tableState) words() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: ", s.Use, s.Spec)
	if s.Loaded.IsZero() {
		b.WriteString("not read")
	} else {
		fmt.Fprintf(&b, "%d entries of %s", s.Entries, s.Modified.Format(time.DateTime))
	}
	if s.Err != nil {
		fmt.Fprintf(&b, "; since %s: %s", s.Since.Format(time.DateTime), strings.Join(strings.Fields(s.Err.Error()), " "))
	}
	return b.String()
}

// unread are the words about every file of which nothing is in force.
func (t *tables) unread() (list []string) {
	for _, s := range t.state() {
		if s.Loaded.IsZero() {
			list = append(list, s.words())
		}
	}
	return list
}

// comments are the words about every file as comments of a configuration.
func (t *tables) comments() string {
	var b strings.Builder
	for _, s := range t.state() {
		b.WriteString("# table " + printable(s.words()) + "\n")
	}
	return b.String()
}
