// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"rcptgate/check/quota/wire"
	"rcptgate/kit/term"
)

// list is a file with all mailboxes, which is read again when it has changed.
type list struct {
	config *StoreConfig
	place
	now func() time.Time

	mu     sync.Mutex
	read   dirID // of the file that was read
	size   int64
	users  map[string]wire.Answer
	failed error // of the last reading
}

const (
	maxList      = 64 << 20 // octets
	maxListLines = 1_000_000
)

func (s *list) look(_ context.Context, m mailbox, _ int64) (wire.Answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.follow(); err != nil {
		return wire.Answer{}, err
	}
	user := m.expand(s.config.User)
	if *s.config.Fold {
		user = strings.ToLower(user)
	}
	a, ok := s.users[user]
	if !ok {
		return wire.NewAnswer(wire.Unknown), nil
	}
	a.Age = max(0, s.now().Sub(s.read.changed))
	return a, nil
}

// follow reads the file if it is another than the last time. While it cannot be read, or has
// a mistake, nothing is known: old numbers must not refuse.
func (s *list) follow() error {
	root, err := os.OpenRoot(s.root)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	file, err := root.OpenFile(s.rel, os.O_RDONLY|noBlock, 0)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file", s.rel)
	}
	id, err := identity(file)
	if err != nil || (id == s.read && info.Size() == s.size) {
		return errors.Join(err, s.failed)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxList+1))
	if err == nil && len(text) > maxList {
		err = fmt.Errorf("%s has more than %d octets", s.rel, maxList)
	}
	if err != nil {
		return err
	}
	users, err := parseList(text, *s.config.Fold)
	if err != nil {
		err = fmt.Errorf("%s: %w", s.rel, err)
	}
	s.users, s.failed, s.read, s.size = users, err, id, info.Size()
	return err
}

// csvColumns are the columns of repquota(8) -O csv that count, in the order of csvRow.
var csvColumns = []string{"User", "BlockUsed", "BlockSoftLimit", "BlockHardLimit", "BlockGrace", "FileUsed", "FileHardLimit"}

// parseList reads what "repquota -O csv" writes, known by its header, or lines of
// "USER USED HARD" or "USER USED HARD SOFT" in octets, in which # begins a comment. A last
// line without its end is being written and does not count.
func parseList(text []byte, fold bool) (map[string]wire.Answer, error) {
	if i := bytes.LastIndexByte(text, '\n'); i+1 < len(text) {
		text = text[:i+1]
	}
	users := map[string]wire.Answer{}
	var columns []int // of csvColumns; nil in a file of simple lines
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if n > maxListLines {
			return nil, fmt.Errorf("more than %d lines", maxListLines)
		}
		if columns == nil && strings.Contains(line, ",BlockUsed,") {
			fields := strings.Split(line, ",")
			for _, name := range csvColumns {
				i := slices.Index(fields, name)
				if i < 0 {
					return nil, fmt.Errorf("line %d: there is no column %s", n, name)
				}
				columns = append(columns, i)
			}
			continue
		}
		if line == "" || (line[0] == '#' && columns == nil) {
			continue
		}
		user, a, err := parseListLine(line, columns)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if fold {
			user = strings.ToLower(user)
		}
		users[user] = a
	}
	return users, lines.Err()
}

func parseListLine(line string, columns []int) (user string, a wire.Answer, err error) {
	if columns != nil {
		return csvRow(strings.Split(line, ","), columns)
	}
	words := strings.Fields(line)
	if len(words) != 3 && len(words) != 4 {
		return "", a, errors.New("want USER USED HARD, or USER USED HARD SOFT")
	}
	a = wire.NewAnswer(wire.Room)
	for i, into := range []*int64{&a.Used, &a.Hard, &a.Soft}[:len(words)-1] {
		if *into, err = amount(words[i+1]); err != nil {
			return "", a, err
		}
	}
	return words[0], a, nil
}

// csvRow reads a row of repquota's. Blocks are of 1,024 octets. The file system's soft limit
// is a warning until its grace has passed (then the column says "none"): from then on nothing
// may be written above it.
func csvRow(fields []string, columns []int) (user string, a wire.Answer, err error) {
	var row [7]string
	for i, column := range columns {
		if column >= len(fields) {
			return "", a, fmt.Errorf("%s, but at least %d are needed", term.Count(len(fields), "column"), column+1)
		}
		row[i] = strings.TrimSpace(fields[column])
	}
	a = wire.NewAnswer(wire.Room)
	var soft int64
	for _, n := range []struct {
		text string
		into *int64
	}{{row[1], &a.Used}, {row[2], &soft}, {row[3], &a.Hard}, {row[5], &a.Messages}, {row[6], &a.Max}} {
		if *n.into, err = amount(n.text); err != nil {
			return "", a, err
		}
	}
	if soft > 0 && a.Used > soft && row[4] == "none" {
		a.Hard = soft
	}
	a.Used, a.Hard = a.Used<<10, a.Hard<<10
	return row[0], a, nil
}

func amount(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || outside(n) {
		return 0, fmt.Errorf("%q is not a number of octets or blocks", s)
	}
	return n, nil
}
