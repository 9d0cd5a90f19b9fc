// SPDX-License-Identifier: BSD-2-Clause

package source

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"rcptgate/check/quota/room"
)

// file reads "user used hard [soft]" a line, numbers in octets, as a job on the store writes
// them. The file is read again when it has changed; write it anew and rename it.
type file struct {
	path string

	mu      sync.Mutex
	looked  time.Time
	read    time.Time // modification time of what was read
	entries map[string][3]int64
}

const (
	maxFile  = 256 << 20
	lookFile = time.Second
)

// Ask looks the user up.
func (f *file) Ask(_ context.Context, m Mailbox, size int64) (room.Answer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.follow(); err != nil {
		return room.Answer{}, err
	}
	n, ok := f.entries[m.User]
	if !ok {
		return room.Of(room.Unknown), nil
	}
	a := room.Of(judge(n[0], n[1], size))
	a.Used, a.Hard, a.Soft, a.Age = n[0], n[1], n[2], max(time.Since(f.read), 0)
	return a, nil
}

// follow reads the file if it has changed.
func (f *file) follow() error {
	now := time.Now()
	if f.entries != nil && now.Sub(f.looked) < lookFile {
		return nil
	}
	st, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	f.looked = now
	if f.entries != nil && st.ModTime().Equal(f.read) {
		return nil
	}
	in, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer in.Close()
	entries, err := readFile(io.LimitReader(in, maxFile))
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	f.entries, f.read = entries, st.ModTime()
	return nil
}

func readFile(r io.Reader) (map[string][3]int64, error) {
	entries := make(map[string][3]int64)
	in := bufio.NewScanner(r)
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
