// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"rcptgate/check/quota/wire"
)

// maildir is a Maildir a mailbox, with or without the quota file of Maildir++.
type maildir struct {
	config *StoreConfig
	place
	now     func() time.Time
	counter *counter
}

const (
	quotaFile    = "maildirsize"
	maxQuotaFile = 5120             // a longer one is to be made anew (README.maildirquota)
	believeOver  = 15 * time.Minute // an older file that says "over" is not believed
)

func (s *maildir) look(ctx context.Context, m mailbox, size int64) (wire.Answer, error) {
	root, name, err := s.within(m)
	if err != nil {
		return unknownIfAbsent(err)
	}
	defer func() { _ = root.Close() }()
	switch _, err = root.Lstat(path.Join(name, "maildirfolder")); {
	case err == nil: // a folder of the Maildir above
		name = path.Dir(name)
	case errors.Is(err, syscall.ENOTDIR):
		return unknownIfAbsent(err)
	}
	box, err := root.OpenRoot(name)
	if err != nil {
		return unknownIfAbsent(err)
	}
	defer func() { _ = box.Close() }()

	a := wire.NewAnswer(wire.Room)
	a.Hard = s.config.limit()
	if s.config.Type == "maildirsize" {
		if file, age, ok := s.quotaFile(box); ok {
			if file.limits != (total{}) && !s.config.Override {
				a.Hard, a.Max = file.limits.octets, file.limits.messages
			}
			a.Used, a.Messages = file.sum.octets, file.sum.messages
			if file.good && !(s.over(a, size) && (file.lines > 1 || age > believeOver)) {
				return a, nil
			}
		}
	}
	sum, err := s.counter.count(ctx, box, path.Join(s.root, name))
	a.Used, a.Messages = sum.octets, sum.messages
	return a, err
}

// over reports whether the quota file refuses a message of that size: then it must be right.
func (s *maildir) over(a wire.Answer, size int64) bool {
	return (a.Hard > 0 && max(size, 1) > a.Hard+int64(s.config.Grace)-a.Used) || (a.Max > 0 && a.Messages >= a.Max)
}

// quotaFile reads the quota file. It is never written: only the programs that deliver and
// expunge do that.
func (s *maildir) quotaFile(box *os.Root) (f quotaSums, age time.Duration, ok bool) {
	file, err := box.OpenFile(quotaFile, os.O_RDONLY|noBlock, 0)
	if err != nil {
		return f, 0, false
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return f, 0, false
	}
	text, err := io.ReadAll(io.LimitReader(file, maxQuotaFile))
	if err != nil {
		return f, 0, false
	}
	return parseQuotaFile(text), s.now().Sub(info.ModTime()), true
}

// quotaSums is what a quota file says.
type quotaSums struct {
	limits total // 0: none
	sum    total
	lines  int  // that were summed
	good   bool // sum can be believed
}

// parseQuotaFile reads the text of a maildirsize: limits such as "10000000S,1000C", then
// lines of octets and messages to be added up. A last line without its end is being written
// and does not count. Anything else than that makes the sums useless, not the limits.
func parseQuotaFile(text []byte) (f quotaSums) {
	first, rest, ok := bytes.Cut(text, []byte("\n"))
	if !ok || bytes.IndexByte(text, 0) >= 0 {
		return f
	}
	if f.limits, ok = parseLimits(string(first)); !ok || len(text) >= maxQuotaFile {
		return f
	}
	for {
		line, after, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			break
		}
		rest = after
		words := strings.Fields(string(line))
		if len(words) != 2 {
			return f
		}
		octets, err1 := strconv.ParseInt(words[0], 10, 64)
		messages, err2 := strconv.ParseInt(words[1], 10, 64)
		if err1 != nil || err2 != nil || outside(octets) || outside(messages) {
			return f
		}
		f.sum.octets, f.sum.messages, f.lines = f.sum.octets+octets, f.sum.messages+messages, f.lines+1
	}
	f.good = f.lines > 0 && f.sum.octets >= 0 && f.sum.messages >= 0
	return f
}

// outside bounds a number, so that no sum of a file overflows: 5,120 octets have fewer than
// 2^12 lines.
func outside(n int64) bool { return n > 1<<50 || n < -1<<50 }

// parseLimits reads "10000000S,1000C" in any order; letters that are not known are ignored.
func parseLimits(s string) (l total, ok bool) {
	for def := range strings.SplitSeq(strings.TrimSpace(s), ",") {
		if def == "" {
			continue
		}
		n, err := strconv.ParseInt(def[:len(def)-1], 10, 64)
		switch def[len(def)-1] {
		case 'S':
			l.octets = n
		case 'C':
			l.messages = n
		default:
			continue
		}
		if err != nil || n < 0 || outside(n) {
			return total{}, false
		}
	}
	return l, true
}
