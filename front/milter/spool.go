// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
)

// spoolRAM is how much of a body stays in memory, in octets, and spoolRAMAll how much of all
// bodies does; a longer one, and one that arrives when that is used up, goes into a file.
const (
	spoolRAM    = 256 << 10
	spoolRAMAll = 32 << 20
)

// errSpoolFull is why a body could not be kept: the spools together have reached their limit.
var errSpoolFull = errors.New("the spools are full")

// spools are all bodies that are being kept.
type spools struct {
	dir  string // of the files; made when the first is needed
	max  int64  // octets of all together
	used atomic.Int64
	held atomic.Int64 // octets of them in memory
	ram  sync.Pool    // *[]byte
}

// spool keeps one body: in memory, then in a file without a name, which is gone with the
// process whatever happens. The zero spool of a server is empty.
type spool struct {
	all  *spools
	ram  *[]byte // nil: none
	file *os.File
	size int64
}

// Write keeps more of the body. An error is errSpoolFull or the disk's; what was kept
// before stays.
func (s *spool) Write(p []byte) (int, error) {
	if s.all.used.Add(int64(len(p))) > s.all.max {
		s.all.used.Add(-int64(len(p)))
		return 0, errSpoolFull
	}
	err := s.keep(p)
	if err != nil {
		s.all.used.Add(-int64(len(p)))
		return 0, err
	}
	s.size += int64(len(p))
	return len(p), nil
}

func (s *spool) keep(p []byte) error {
	if s.file == nil && (s.size+int64(len(p)) > spoolRAM || s.all.held.Load()+int64(len(p)) > spoolRAMAll) {
		if err := s.spill(); err != nil {
			return fmt.Errorf("spool a message: %w", err)
		}
	}
	if s.file != nil {
		if _, err := s.file.WriteAt(p, s.size); err != nil {
			return fmt.Errorf("spool a message: %w", err)
		}
		return nil
	}
	if s.ram == nil {
		if s.ram, _ = s.all.ram.Get().(*[]byte); s.ram == nil {
			s.ram = new([]byte)
		}
	}
	*s.ram = append(*s.ram, p...)
	s.all.held.Add(int64(len(p)))
	return nil
}

// spill moves what is in memory into a file.
func (s *spool) spill() error {
	file, err := unnamedFile(s.all.dir)
	if err != nil {
		return err
	}
	if s.ram != nil {
		if _, err := file.WriteAt(*s.ram, 0); err != nil {
			_ = file.Close()
			return err
		}
	}
	s.file = file
	s.freeRAM()
	return nil
}

// unnamedFile opens a file without a name. Where the file system cannot make one, it has a
// name for a moment.
func unnamedFile(dir string) (*os.File, error) {
	file, err := openUnnamed(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(dir, 0o700); err == nil {
			file, err = openUnnamed(dir)
		}
	}
	if err == nil || !errors.Is(err, errors.ErrUnsupported) {
		return file, err
	}
	return namedForAMoment(dir)
}

// namedForAMoment opens a file that has no name any more.
func namedForAMoment(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(dir, "body-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// ReadAt implements io.ReaderAt.
func (s *spool) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 || off >= s.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > s.size-off
	if short {
		p = p[:s.size-off]
	}
	if s.file != nil {
		n, err = s.file.ReadAt(p, off)
	} else {
		n = copy(p, (*s.ram)[off:])
	}
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// Reset forgets the body and gives back what it took.
func (s *spool) Reset() {
	if s.all == nil || s.size == 0 && s.file == nil && s.ram == nil {
		return
	}
	s.all.used.Add(-s.size)
	if s.file != nil {
		_ = s.file.Close()
	}
	s.freeRAM()
	s.file, s.size = nil, 0
}

func (s *spool) freeRAM() {
	if s.ram != nil {
		s.all.held.Add(-int64(len(*s.ram)))
		*s.ram = (*s.ram)[:0]
		s.all.ram.Put(s.ram)
		s.ram = nil
	}
}
