// SPDX-License-Identifier: BSD-2-Clause

//go:build unix

package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// openedFile is the map file, opened to be read.
type openedFile struct{ *os.File }

// signature is by what a change of a file is recognised.
type signature struct {
	device, inode uint64
	size          int64
	modified      time.Time
	changed       unix.Timespec // of the inode
	moving        bool          // the file changed while it was copied
}

// openFile opens without waiting for the other end of a named pipe.
func openFile(path string) (*openedFile, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0) // #nosec G304 -- the postmaster's own choice
	if err != nil {
		return nil, err
	}
	return &openedFile{f}, nil
}

func (f *openedFile) signature() (signature, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return signature{}, fmt.Errorf("looking at %s: %w", f.Name(), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return signature{}, fmt.Errorf("%s is not a regular file", f.Name())
	}
	return signatureOf(&st), nil
}

func signatureOf(st *unix.Stat_t) signature {
	return signature{
		device: uint64(st.Dev), inode: uint64(st.Ino), size: st.Size, //nolint:unconvert,gosec // types differ between systems
		modified: time.Unix(st.Mtim.Unix()), changed: st.Ctim,
	}
}

// lock takes the shared locks that keep writers out, without waiting in their queue.
// They end when the file is closed. ErrBusy says that a writer holds its own.
func (f *openedFile) lock(ctx context.Context) error {
	// Between two writers in a row the lock is free for a few milliseconds only.
	for pause := range 60 {
		err := lockShared(f.File)
		if !errors.Is(err, ErrBusy) {
			return err
		}
		wait := 2 * time.Millisecond
		if pause > 30 {
			wait = 10 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
	return ErrBusy
}

// copy reads the whole file. It is ErrBusy if the file was changed or replaced
// meanwhile; with snapshot a changed one counts, and is noted.
func (f *openedFile) copy(path string, before signature, snapshot bool) ([]byte, signature, error) {
	data := make([]byte, before.size)
	for at := 0; at < len(data); {
		n, err := f.ReadAt(data[at:min(at+piece, len(data))], int64(at))
		at += n
		switch {
		case errors.Is(err, io.EOF) && at < len(data):
			return nil, before, ErrBusy // it became shorter
		case err != nil && at < len(data):
			return nil, before, fmt.Errorf("reading %s: %w", path, err)
		}
	}
	after, err := f.signature()
	if err != nil {
		return nil, before, err
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, before, fmt.Errorf("looking at %s: %w", path, err)
	}
	if after.inode != uint64(st.Ino) || after.device != uint64(st.Dev) { //nolint:unconvert,gosec // as above
		return nil, before, ErrBusy
	}
	if after != before {
		if !snapshot {
			return nil, before, ErrBusy
		}
		before.moving = true // and so differs from the file's: it will be read again
	}
	return data, before, nil
}

// busy recognises a lock that another process holds.
func busy(err error) bool {
	return errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES)
}

// flockShared takes flock(2). File systems without locks have writers without them.
func flockShared(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil && busy(err):
			return ErrBusy
		}
		return nil
	}
}
