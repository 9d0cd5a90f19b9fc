// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"rcptgate/table/aliases"
)

// Bounds of reading files that :include: names.
const (
	includeMax     = 1 << 20         // octets
	includeFresh   = time.Second     // how long what was read serves
	includeWait    = 2 * time.Second // how long a question waits for it
	includeReaders = 8               // files read at the same time
	includeKept    = 256             // files kept
)

var (
	errIncludeBusy = errors.New("too many files are being read")
	errIncludeSlow = errors.New("the file could not be read in time")
	errNotRegular  = errors.New("no regular file")
	errTooLong     = fmt.Errorf("more than %d octets", includeMax)
)

// includes reads the files that :include: names, beside the questions: a file on a
// server that does not answer must not hold up mail. It is safe for concurrent use.
// A reading that hangs keeps its place among the readers until it ends.
type includes struct {
	mu      sync.Mutex
	files   map[string]*include
	reading int
	now     func() time.Time
}

// include is one file. The fields after done do not change once done is closed.
type include struct {
	done    chan struct{}
	began   time.Time
	targets []aliases.Target
	err     error
}

func newIncludes() *includes { return &includes{files: make(map[string]*include), now: time.Now} }

// get gives the targets that a file lists. An error is a file that cannot be read, or
// not as a whole.
func (x *includes) get(ctx context.Context, path string) ([]aliases.Target, error) {
	f, err := x.start(path)
	if err != nil {
		return nil, err
	}
	select {
	case <-f.done:
		return f.targets, f.err
	default:
	}
	timer := time.NewTimer(includeWait)
	defer timer.Stop()
	select {
	case <-f.done:
		return f.targets, f.err
	case <-timer.C:
		return nil, errIncludeSlow
	case <-ctx.Done():
		return nil, errIncludeSlow
	}
}

// start gives the reading in progress or just done, or begins one.
func (x *includes) start(path string) (*include, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := x.now()
	if f := x.files[path]; f != nil && (!f.ended() || now.Sub(f.began) < includeFresh) {
		return f, nil
	}
	if x.reading >= includeReaders {
		return nil, errIncludeBusy
	}
	if len(x.files) >= includeKept {
		x.makeRoom(now)
	}
	f := &include{done: make(chan struct{}), began: now}
	x.files[path] = f
	x.reading++
	go func() {
		f.targets, f.err = readInclude(path)
		close(f.done)
		x.mu.Lock()
		defer x.mu.Unlock()
		x.reading--
	}()
	return f, nil
}

// makeRoom drops what is no longer fresh, or else any one that is read.
func (x *includes) makeRoom(now time.Time) {
	victim := ""
	for path, f := range x.files {
		switch {
		case !f.ended():
		case now.Sub(f.began) >= includeFresh:
			delete(x.files, path)
		default:
			victim = path
		}
	}
	if len(x.files) >= includeKept {
		delete(x.files, victim)
	}
}

func (f *include) ended() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// readInclude reads a regular file of a bounded size. Owner and permissions are the
// MTA's business: it refuses files that others can write to.
func readInclude(path string) ([]aliases.Target, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // #nosec G304 -- named by the MTA's own tables
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read-only
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s: %w", path, errNotRegular)
	}
	data, err := io.ReadAll(io.LimitReader(f, includeMax+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", path, err)
	case len(data) > includeMax:
		return nil, fmt.Errorf("%s: %w", path, errTooLong)
	}
	targets, err := aliases.ParseInclude(string(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return targets, nil
}
