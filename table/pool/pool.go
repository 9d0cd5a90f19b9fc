// SPDX-License-Identifier: BSD-2-Clause

// Package pool keeps the map files that configurations name. A file is read when the first
// configuration opens it and followed until the last one that did is gone: a reload that
// names it again reads nothing.
package pool

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"rcptgate/table"
	"rcptgate/table/live"
	"rcptgate/table/open"
)

// Use is what a file is read for. Its name and the file's spelling tell one table from
// another: one file may be read for two uses.
type Use struct {
	Name string // for people: "aliases"
	// Aliases: the type "text" is read as aliases(5), not as key and value.
	Aliases bool
	// Format is how the file is read when that does not follow from its type; nil when it
	// does.
	Format table.Format
	// Wrap, if not nil, has the pairs of a file pass through another format.
	Wrap func(table.Format) table.Format
}

// Pool is safe for concurrent use; of Leases, one at a time may open files.
type Pool struct {
	log    *slog.Logger
	follow bool

	ctx    context.Context //nolint:containedctx // the life of those who follow files
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	files map[name]*file
}

type name struct {
	use  string
	spec table.Spec
}

type file struct {
	*live.Live
	users int
	ctx   context.Context //nolint:containedctx // ends with the last user
	stop  context.CancelFunc
}

// New makes a Pool. With follow false, files are neither read nor followed: only their
// spelling is looked at.
func New(log *slog.Logger, follow bool) *Pool {
	p := &Pool{log: log, follow: follow, files: make(map[name]*file)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Close ends all following.
func (p *Pool) Close() {
	p.cancel()
	p.wg.Wait()
}

// Lease is what one configuration has opened.
type Lease struct {
	*Pool
	names []name
	first []*file // those that nobody had open before
}

// Lease begins a configuration's use of files.
func (p *Pool) Lease() *Lease { return &Lease{Pool: p} }

// Open gives the table of a file, kept fresh. A file that cannot be read is not an error:
// its table answers with one until it can.
func (l *Lease) Open(use Use, spec table.Spec) (table.Table, error) {
	n := name{use.Name, spec}
	l.mu.Lock()
	f := l.files[n]
	isNew := f == nil
	if isNew {
		read, err := l.newFile(use, spec)
		if err != nil {
			l.mu.Unlock()
			return nil, err
		}
		f = &file{Live: read}
		f.ctx, f.stop = context.WithCancel(l.ctx)
		l.files[n] = f
	}
	f.users++
	l.names = append(l.names, n)
	l.mu.Unlock()
	if isNew {
		l.first = append(l.first, f)
	}
	if isNew && l.follow { // unlocked: a writer may hold the file for seconds
		_ = f.Load(f.ctx)                    // logged, in Status, and tried again
		l.wg.Go(func() { _ = f.Run(f.ctx) }) // it ends with the context's error only
	}
	return f.Live, nil
}

func (p *Pool) newFile(use Use, spec table.Spec) (*live.Live, error) {
	cfg := live.Config{Spec: spec, Aliases: use.Aliases, Log: p.log}
	if use.Format != nil {
		cfg.Format = func(func(error)) table.Format { return use.Format }
		return live.New(cfg), nil
	}
	if use.Wrap == nil {
		return open.Live(cfg)
	}
	if _, err := open.Format(spec.Type, nil); err != nil {
		return nil, err
	}
	cfg.Format = func(warn func(error)) table.Format {
		f, _ := open.Format(spec.Type, warn) // tried above
		return use.Wrap(f)
	}
	return live.New(cfg), nil
}

// Unread says of each file that this lease was the first to open, and that cannot be read,
// why not.
func (l *Lease) Unread() (why []error) {
	for _, f := range l.first {
		if st := f.Status(); st.Loaded.IsZero() && l.follow {
			why = append(why, fmt.Errorf("table %s cannot be read: %w", st.Spec, st.Err))
		}
	}
	return why
}

// Release gives back what was opened. Files that another lease has open stay.
func (l *Lease) Release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.names {
		f := l.files[n]
		if f.users--; f.users == 0 {
			f.stop()
			delete(l.files, n)
		}
	}
	l.names = nil
}

// Find gives a file in use; nil when it is not.
func (p *Pool) Find(use string, spec table.Spec) *live.Live {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.files[name{use, spec}]; f != nil {
		return f.Live
	}
	return nil
}

// State is what is known of one file.
type State struct {
	Use string
	live.Status
}

// Readable reports whether anything of the file is known.
func (s *State) Readable() bool { return !s.Loaded.IsZero() }

// States lists every file in use, in a stable order.
func (p *Pool) States() []State {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []State
	for n, f := range p.files {
		list = append(list, State{n.use, f.Status()})
	}
	slices.SortFunc(list, func(a, b State) int {
		return strings.Compare(a.Use+" "+a.Spec.String(), b.Use+" "+b.Spec.String())
	})
	return list
}

// String says which content of a file is active, and why it is not the file as it is now.
func (s *State) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: ", s.Use, s.Spec)
	if s.Readable() {
		fmt.Fprintf(&b, "%d entries of %s", s.Entries, s.Modified.Format(time.DateTime))
	} else {
		b.WriteString("not read")
	}
	if s.Err != nil {
		fmt.Fprintf(&b, "; since %s: %s", s.Since.Format(time.DateTime), strings.Join(strings.Fields(s.Err.Error()), " "))
	}
	return b.String()
}
