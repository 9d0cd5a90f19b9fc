// SPDX-License-Identifier: BSD-2-Clause

//go:build unix

package live

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"rcptgate/table"
)

// copyLimit is the size up to which Read copies a file; larger ones are read where they are.
const copyLimit = 256 << 20

// Snapshot is a map file as it was at one moment, for commands.
type Snapshot struct {
	io.ReaderAt
	Size     int64
	Modified time.Time

	file *openedFile // nil: copied
	sig  signature
}

// Read opens a file once. Up to 256 MiB it is copied under the locks of its writers,
// waiting for them up to ten seconds; a larger one is read in place, without locks, so
// that a slow reader does not hold up the MTA.
func Read(ctx context.Context, spec table.Spec) (*Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		snap, err := readOnce(ctx, spec)
		if !errors.Is(err, ErrBusy) {
			return snap, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(again):
		}
	}
}

func readOnce(ctx context.Context, spec table.Spec) (*Snapshot, error) {
	path := spec.Path()
	file, err := openFile(path)
	if err != nil {
		return nil, err
	}
	sig, err := file.signature()
	if err == nil && sig.size > copyLimit {
		return &Snapshot{ReaderAt: file, Size: sig.size, Modified: sig.modified, file: file, sig: sig}, nil
	}
	defer file.Close() //nolint:errcheck // read-only
	if err != nil {
		return nil, err
	}
	if !spec.IsText() {
		if err := file.lock(ctx); err != nil {
			return nil, err
		}
		if sig, err = file.signature(); err != nil {
			return nil, err
		}
	}
	data, sig, err := file.copy(path, sig, spec.Type == table.LMDB)
	if err != nil {
		return nil, err
	}
	return &Snapshot{ReaderAt: bytes.NewReader(data), Size: sig.size, Modified: sig.modified}, nil
}

// Unchanged is ErrBusy if a file that is read in place has changed since.
func (s *Snapshot) Unchanged() error {
	if s.file == nil {
		return nil
	}
	if sig, err := s.file.signature(); err != nil || sig != s.sig {
		return ErrBusy
	}
	return nil
}

// Close ends the reading.
func (s *Snapshot) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
