// SPDX-License-Identifier: BSD-2-Clause

package source

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"rcptgate/check/quota/room"
)

// file reads "user used hard [soft]" a line, numbers in octets, as a job on the store writes
// them. The file is read again when it has changed; write it anew and rename it. A last line
// without its end is being written and does not count.
type file struct {
	path string
	turn chan struct{} // whoever is in it has what follows; a disk that hangs holds one goroutine

	looked  time.Time
	read    os.FileInfo // of what was read; nil: nothing was
	entries map[string][3]int64
	failed  error // of that reading: old numbers must not refuse
}

const (
	maxFile  = 256 << 20
	lookFile = time.Second
)

func newFile(path string) *file { return &file{path: path, turn: make(chan struct{}, 1)} }

// Ask looks the user up. It returns by the end of ctx, also when the disk hangs.
func (f *file) Ask(ctx context.Context, m Mailbox, size int64) (room.Answer, error) {
	type outcome struct {
		answer room.Answer
		err    error
	}
	select {
	case f.turn <- struct{}{}:
	case <-ctx.Done():
		return room.Answer{}, ctx.Err()
	}
	done := make(chan outcome, 1)
	go func() {
		defer func() { <-f.turn }()
		var o outcome
		o.answer, o.err = f.find(m.User, size)
		done <- o
	}()
	select {
	case o := <-done:
		return o.answer, o.err
	case <-ctx.Done():
		return room.Answer{}, ctx.Err()
	}
}

func (f *file) find(user string, size int64) (room.Answer, error) {
	if err := f.follow(); err != nil {
		return room.Answer{}, err
	}
	n, ok := f.entries[user]
	if !ok {
		return room.Of(room.Unknown), nil
	}
	a := room.Of(judge(n[0], n[1], size))
	a.Used, a.Hard, a.Soft, a.Age = n[0], n[1], n[2], max(time.Since(f.read.ModTime()), 0)
	return a, nil
}

// follow reads the file if it has changed.
func (f *file) follow() error {
	now := time.Now()
	if f.read != nil && now.Sub(f.looked) < lookFile {
		return f.failed
	}
	st, err := os.Stat(f.path)
	if err != nil {
		f.read = nil
		return err
	}
	f.looked = now
	if f.read != nil && os.SameFile(st, f.read) && st.ModTime().Equal(f.read.ModTime()) && st.Size() == f.read.Size() {
		return f.failed
	}
	f.read, f.entries = st, nil
	f.entries, f.failed = f.load(st)
	return f.failed
}

func (f *file) load(st os.FileInfo) (map[string][3]int64, error) {
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", f.path)
	}
	if st.Size() > maxFile {
		return nil, fmt.Errorf("%s has more than %d octets", f.path, maxFile)
	}
	in, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	entries, err := readFile(io.LimitReader(in, maxFile))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	return entries, nil
}

// wholeLines is a bufio.SplitFunc for lines that have their end.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	switch i := bytes.IndexByte(data, '\n'); {
	case i >= 0:
		return i + 1, data[:i], nil
	case atEOF:
		return len(data), nil, nil
	}
	return 0, nil, nil
}

func readFile(r io.Reader) (map[string][3]int64, error) {
	entries := make(map[string][3]int64)
	in := bufio.NewScanner(r)
	in.Split(wholeLines)
	for line := 1; in.Scan(); line++ {
		words := strings.Fields(in.Text())
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		if len(words) < 3 || len(words) > 4 {
			return nil, fmt.Errorf("line %d: expected \"user used hard [soft]\"", line)
		}
		n := [3]int64{0, 0, room.NotKnown}
		for i, w := range words[1:] {
			v, err := strconv.ParseInt(w, 10, 64)
			if err != nil || v < 0 {
				return nil, fmt.Errorf("line %d: %q is not a number of octets", line, w)
			}
			n[i] = v
		}
		entries[words[0]] = n
	}
	return entries, in.Err()
}
