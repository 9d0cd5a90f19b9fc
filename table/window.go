// SPDX-License-Identifier: BSD-2-Clause

package table

import (
	"fmt"
	"io"

	"rcptgate/kit/term"
)

// Window reads pieces of a file whose places mostly ascend, through one buffer. A
// Window is for one goroutine.
type Window struct {
	file  io.ReaderAt
	size  int64
	start int64 // of buf in the file
	buf   []byte
}

const windowSize = 64 << 10

// NewWindow returns a window on the first size octets of a file.
func NewWindow(file io.ReaderAt, size int64) *Window { return &Window{file: file, size: size} }

// At returns n octets from pos, valid until the next call. What lies outside the
// file is io.ErrUnexpectedEOF, and nothing is allocated for it.
func (w *Window) At(pos int64, n int) ([]byte, error) {
	if pos < 0 || n < 0 || pos > w.size || int64(n) > w.size-pos {
		return nil, io.ErrUnexpectedEOF
	}
	if pos < w.start || pos+int64(n) > w.start+int64(len(w.buf)) {
		if err := w.fill(pos, n); err != nil {
			return nil, err
		}
	}
	from := int(pos - w.start)
	return w.buf[from : from+n : from+n], nil
}

func (w *Window) fill(pos int64, n int) error {
	want := int(min(int64(max(n, windowSize)), w.size-pos))
	if cap(w.buf) < want {
		w.buf = make([]byte, want)
	}
	w.buf = w.buf[:want]
	w.start = pos
	got, err := w.file.ReadAt(w.buf, pos)
	if got == want {
		return nil
	}
	w.buf = w.buf[:0]
	if err == nil || err == io.EOF { //nolint:errorlint // io.ReaderAt returns io.EOF itself
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%s at %d: %w", term.Count(want, "octet"), pos, err)
}
