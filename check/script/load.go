// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"rcptgate/check/script/star"
)

// Bounds of files.
const (
	fileMax  = 1 << 20 // octets of one
	filesMax = 100
	loadTime = 10 * time.Second // for running the top of all files
)

// dialect is what of Starlark there is: sets, and statements at the top of a file. No while
// and no recursion: each call ends.
func dialect() *syntax.FileOptions { return &syntax.FileOptions{Set: true, TopLevelControl: true} }

// folder is where a script's files are. No name, and no symbolic link, leads out of it.
type folder struct {
	root *os.Root
	dir  string
}

func openFolder(dir string) (*folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &folder{root, dir}, nil
}

func (f *folder) close() { _ = f.root.Close() }

// read gives a file's text.
func (f *folder) read(name string) ([]byte, error) {
	file, err := f.root.Open(filepath.FromSlash(name))
	if err != nil {
		if to := f.outside(name); to != "" {
			err = fmt.Errorf("a symbolic link out of the script's folder, to %s", to)
		}
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("not a regular file"))
	}
	text, err := io.ReadAll(io.LimitReader(file, fileMax+1))
	if err == nil && len(text) > fileMax {
		err = fmt.Errorf("larger than %d octets", fileMax)
	}
	return text, err
}

// outside gives the file that a name leads to by symbolic links, if that is not below the
// folder; else "".
func (f *folder) outside(name string) string {
	dir, err := filepath.EvalSymlinks(f.dir)
	to, also := filepath.EvalSymlinks(filepath.Join(f.dir, filepath.FromSlash(name)))
	if err != nil || also != nil {
		return ""
	}
	if below, err := filepath.Rel(dir, to); err == nil && filepath.IsLocal(below) {
		return ""
	}
	return to
}

// module is one file.
type module struct {
	name    string // below the folder: "lib/names.star"
	path    string // as errors have it
	tree    *syntax.File
	program *starlark.Program
	globals starlark.StringDict
}

// loader reads a script with everything that it loads.
type loader struct {
	folder  *folder
	words   starlark.StringDict
	modules map[string]*module
	order   []*module // each after those that it loads
	lint    *lint
	// instrument changes a file before it is compiled; nil: it stays as it is.
	instrument func(*module)
}

// errAt is an error at a place in a file.
func errAt(at syntax.Position, format string, args ...any) error {
	return &placed{at, fmt.Errorf(format, args...)}
}

// parse reads a file and, before it, those that it loads. Above are the names of the files
// that are being read.
func (l *loader) parse(name string, above []string) (*module, error) {
	if m := l.modules[name]; m != nil {
		return m, nil
	}
	if len(l.modules) >= filesMax {
		return nil, fmt.Errorf("%s: more than %d files", name, filesMax)
	}
	m := &module{name: name, path: filepath.Join(l.folder.dir, filepath.FromSlash(name))}
	text, err := l.folder.read(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.path, readable(err))
	}
	if m.tree, err = dialect().Parse(m.path, plainNumbers(text), syntax.RetainComments); err != nil {
		return nil, err
	}
	above = append(above, name)
	var errs []error
	for _, s := range m.tree.Stmts {
		if load, ok := s.(*syntax.LoadStmt); ok {
			errs = append(errs, l.load(load, above))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	l.lint.file(m.tree)
	star.Rewrite(m.tree)
	if l.instrument != nil {
		l.instrument(m)
	}
	if m.program, err = starlark.FileProgram(m.tree, l.words.Has); err != nil {
		return nil, each(err)
	}
	l.modules[name] = m
	l.order = append(l.order, m)
	return m, nil
}

// readable leaves the path out of an error that has it.
func readable(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// each has the error of every name that is undefined, and not of the first alone.
func each(err error) error {
	var list resolve.ErrorList
	if !errors.As(err, &list) {
		return err
	}
	var errs []error
	for _, e := range list {
		errs = append(errs, errAt(e.Pos, "%s", e.Msg))
	}
	return errors.Join(errs...)
}

// load reads a file that another one loads.
func (l *loader) load(s *syntax.LoadStmt, above []string) error {
	name := s.ModuleName()
	switch {
	case path.Clean(name) != name || path.IsAbs(name) || strings.HasPrefix(name, "../") || path.Ext(name) != ".star":
		return errAt(s.Module.TokenPos, "load(%q): expected a file below the script's folder, such as \"lib/names.star\"", name)
	case slices.Contains(above, name):
		return errAt(s.Module.TokenPos, "load(%q): a circle: %s", name, strings.Join(append(slices.Clone(above), name), " loads "))
	}
	if _, err := l.parse(name, above); err != nil {
		if !hasPlace(err) {
			return errAt(s.Module.TokenPos, "load(%q): %w", name, err)
		}
		return err
	}
	return nil
}

// placed is an error at a place in a file.
type placed struct {
	at  syntax.Position
	err error
}

func (p *placed) Error() string { return fmt.Sprintf("%v: %v", p.at, p.err) }
func (p *placed) Unwrap() error { return p.err }

// hasPlace reports whether an error names a line.
func hasPlace(err error) bool {
	var own *placed
	var parsed syntax.Error
	var resolved resolve.ErrorList
	return errors.As(err, &own) || errors.As(err, &parsed) || errors.As(err, &resolved)
}

// run runs the top of every file.
func (l *loader) run(c *star.Call, steps int, memory int64) error {
	c.Loading, c.Ctx = true, context.Background()
	defer func() { c.Loading = false }()
	for _, m := range l.order {
		if err := l.runOne(c, m, steps, memory); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) runOne(c *star.Call, m *module, steps int, memory int64) (err error) {
	t := c.NewThread("load")
	t.SetMaxExecutionSteps(uint64(steps) * 10) // #nosec G115 -- above 0
	t.Load = func(_ *starlark.Thread, name string) (starlark.StringDict, error) {
		return l.modules[name].globals, nil
	}
	defer watchLoad(t, memory)()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: %v", m.path, p)
		}
	}()
	m.globals, err = m.program.Init(t, l.words)
	m.globals.Freeze()
	var failed *starlark.EvalError
	if errors.As(err, &failed) {
		return fmt.Errorf("%v: %s", place(failed), failed.Msg)
	}
	return err
}

// watchLoad ends the run of a file's top that takes too long, or grows beyond memory. It
// returns what ends the watch.
func watchLoad(t *starlark.Thread, memory int64) (stop func()) {
	ended := make(chan struct{})
	h := newHeap(memory)
	go func() {
		timer := time.NewTicker(tick)
		defer timer.Stop()
		for began := time.Now(); ; {
			select {
			case <-ended:
				return
			case now := <-timer.C:
				if now.Sub(began) > loadTime {
					t.Cancel("it takes longer than " + loadTime.String())
				} else if grown := h.excess(now); grown > 0 {
					t.Cancel(h.words(grown))
				}
			}
		}
	}()
	return func() { close(ended) }
}

// place is the line of the script that failed: the innermost that is in a file.
func place(e *starlark.EvalError) syntax.Position {
	for i := range e.CallStack {
		if at := e.CallStack.At(i).Pos; at.Filename() != builtinFile {
			return at
		}
	}
	return syntax.Position{}
}

// builtinFile is the file of words in backtraces.
const builtinFile = "<builtin>"
