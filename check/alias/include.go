// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"rcptgate/kit/flight"
	"rcptgate/kit/recent"
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
	errNotRegular  = errors.New("not a regular file")
	errTooLong     = fmt.Errorf("more than %d octets", includeMax)
)

// includes reads the files that :include: names, in the background: a file on a server that
// does not answer must not hold up mail. It is safe for concurrent use. A reading that hangs
// keeps its place among the readers until it ends.
type includes struct {
	reading *flight.Group[string, include]
	read    *recent.Map[string, include]
}

// include is one file as it was read.
type include struct {
	began   time.Time
	targets []aliases.Target
	err     error
}

func newIncludes() *includes {
	return &includes{reading: flight.New[string, include](includeReaders), read: recent.New[string, include](includeKept)}
}

// get gives the targets that a file lists. An error is a file that cannot be read, or
// not as a whole.
func (x *includes) get(ctx context.Context, path string) ([]aliases.Target, error) {
	if f := x.read.Get(path); !f.began.IsZero() && time.Since(f.began) < includeFresh {
		return f.targets, f.err
	}
	call, isNew := x.reading.Join(path)
	if call == nil {
		return nil, errIncludeBusy
	}
	if isNew {
		go func() {
			defer x.reading.End(call)
			call.Value.began = time.Now()
			call.Value.targets, call.Value.err = readInclude(path)
			x.read.Update(path, func(include) include { return call.Value })
		}()
	}
	timer := time.NewTimer(includeWait)
	defer timer.Stop()
	select {
	case <-call.Done():
		return call.Value.targets, call.Value.err
	case <-timer.C:
		return nil, errIncludeSlow
	case <-ctx.Done():
		return nil, errIncludeSlow
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
