// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"rcptgate/kit/notice"
)

// journal keeps the entries of a list in a file, so that they survive a restart: a line for
// each change, the last one of a network counts. A killed process loses what the last second
// has changed. The file is written anew when most of its lines are outdated. A file that
// cannot be read or written costs only what it knew: it is reported and tried again.
type journal struct {
	path    string
	notices *notice.Board

	lines int
	fresh bool      // the file has to be written anew
	retry time.Time // not before
}

// journalFile is the file of a list in the state directory.
func journalFile(state, list string) string { return filepath.Join(state, "blocklist-"+list) }

const (
	journalSlack = 1000             // lines above twice the entries
	journalRetry = 10 * time.Second // after a failure
)

func (j *journal) matter() string { return "blocklist file " + j.path }

// load gives each entry in the file.
func (j *journal) load(now time.Time, longest time.Duration, each func(*entry)) {
	file, err := os.Open(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		j.fresh = true
		return
	}
	bad := 0
	if err == nil {
		defer file.Close()
		err = eachLine(file, func(line string) {
			j.lines++
			if e, bad1 := parseEntry(line, now, longest); bad1 != nil {
				bad++
			} else {
				each(e)
			}
		})
	}
	if err != nil || bad > 0 {
		j.fresh = true
		j.notices.Warn(j.matter(), "a blocklist could be read only in part; the entries that were read are active", "file", j.path, "bad_lines", bad, "error", err)
	}
}

// eachLine gives each line of a file without its LF. One that is too long for an entry is given
// in pieces, of which none is an entry, so that a damaged block costs no line after it.
func eachLine(file io.Reader, each func(line string)) error {
	in := bufio.NewReaderSize(file, 2*lineMax)
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			each(string(bytes.TrimSuffix(line, []byte("\n"))))
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}

// save writes changes, or all entries where that is due.
func (j *journal) save(changed []*entry, now time.Time, all func(func(*entry) bool), count int) {
	if now.Before(j.retry) {
		j.fresh = true // with what has changed meanwhile
		return
	}
	if len(changed) == 0 && !j.fresh {
		return
	}
	var err error
	if j.fresh || j.lines > 2*count+journalSlack {
		err = j.rewrite(all)
	} else {
		err = j.append(changed)
	}
	if err != nil {
		j.fresh, j.retry = true, now.Add(journalRetry)
		j.notices.Raise(slog.LevelWarn, j.matter(), "a blocklist cannot be written; its new entries would be lost in a restart", "file", j.path, "error", err)
		return
	}
	j.notices.Clear(j.matter(), "a blocklist can be written again", "file", j.path)
}

func (j *journal) append(changed []*entry) error {
	file, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0o600) // not one that somebody has removed
	if err != nil {
		return err
	}
	var b []byte
	for _, e := range changed {
		b = appendEntry(b, e)
	}
	j.lines += len(changed)
	_, err = file.Write(b)
	return errors.Join(err, file.Close())
}

func (j *journal) rewrite(all func(func(*entry) bool)) error {
	lines := 0
	err := replaceFile(j.path, 0o600, func(w *bufio.Writer) error {
		var b []byte
		var err error
		all(func(e *entry) bool {
			lines++
			b = appendEntry(b[:0], e)
			_, err = w.Write(b)
			return err == nil
		})
		return err
	})
	if err == nil {
		j.lines, j.fresh = lines, false
	}
	return err
}

// replaceFile writes a file under another name and puts it into the place of the old one:
// readers see either as a whole.
func replaceFile(path string, mode fs.FileMode, write func(*bufio.Writer) error) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	err = errors.Join(write(w), w.Flush(), file.Chmod(mode), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
