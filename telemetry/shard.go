// SPDX-License-Identifier: BSD-2-Clause

package telemetry

import (
	"encoding/binary"
	"runtime"
	"sync"
	"time"
)

const (
	bufferTotal = 16 << 20 // octets pending in all shards together
	recordMax   = 32 << 10 // octets of one record; no decision, escaped and twice for journald, gets there
	headerLen   = 8 + 4 + 1
)

// Syslog's severities (RFC 5424 section 6.2.1), journald's PRIORITY.
const (
	priorityError   = 3
	priorityWarning = 4
	priorityInfo    = 6
	priorityDebug   = 7
)

var priorityWords = [...]string{priorityError: "error", priorityWarning: "warn", priorityInfo: "info", priorityDebug: "debug"}

// shard is one of the buffers that lines are encoded into, and one part of the
// counts. A record is the time in nanoseconds, the length, the priority and the
// line.
type shard struct {
	mu      sync.Mutex
	buf     []byte
	start   int // of the record that is being written
	limit   int
	dropped uint64
	closed  bool
	stamp   stamp
	who     whoAsked
	what    whatWasSaid
	tally

	_ [64]byte // keeps two shards out of one cache line
}

func newShards() []*shard {
	n := min(max(4*runtime.GOMAXPROCS(0), 8), 64)
	shards, words := make([]*shard, n), newVocabulary()
	for i := range shards {
		shards[i] = &shard{limit: max(bufferTotal/n, 4*recordMax), tally: newTally(words)}
	}
	return shards
}

// begin makes room for a record; false if there is none, and the line is dropped.
func (sh *shard) begin(at time.Time, priority byte) bool {
	if sh.closed || len(sh.buf)+recordMax > sh.limit {
		sh.dropped++
		return false
	}
	sh.start = len(sh.buf)
	sh.buf = binary.LittleEndian.AppendUint64(sh.buf, uint64(at.UnixNano()))
	sh.buf = append(sh.buf, 0, 0, 0, 0, priority)
	return true
}

// nudge says whether the writer must be woken for a record, and how soon it is due.
type nudge uint8

const (
	nudgeNone nudge = iota
	nudgeSoon       // the first one since the last flush
	nudgeNow        // half full
)

// end closes the record that begin opened.
func (sh *shard) end() nudge {
	n := len(sh.buf) - sh.start - headerLen
	if n > recordMax {
		sh.buf = sh.buf[:sh.start]
		sh.dropped++
		return nudgeNone
	}
	binary.LittleEndian.PutUint32(sh.buf[sh.start+8:], uint32(n))
	switch half := sh.limit / 2; {
	case sh.start == 0:
		return nudgeSoon
	case sh.start < half && len(sh.buf) >= half:
		return nudgeNow
	}
	return nudgeNone
}

// swap takes what is pending and leaves an empty buffer.
func (sh *shard) swap(empty []byte) (full []byte, dropped uint64) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	full, sh.buf = sh.buf, empty[:0]
	dropped, sh.dropped = sh.dropped, 0
	return full, dropped
}

// record is one line on its way out.
type record struct {
	at       int64 // nanoseconds since 1970
	priority byte
	line     []byte
}

// timeOf is the time of the first record in buf.
func timeOf(buf []byte) int64 { return int64(binary.LittleEndian.Uint64(buf)) }

// cut takes the first record off buf.
func cut(buf []byte) (record, []byte) {
	n := headerLen + int(binary.LittleEndian.Uint32(buf[8:]))
	return record{at: timeOf(buf), priority: buf[12], line: buf[headerLen:n]}, buf[n:]
}

// stamp writes times as RFC 3339 with milliseconds. Formatting costs more than
// the rest of a line, so the second's text is kept.
type stamp struct {
	second int64
	text   [32]byte // "2026-11-21T01:51:45" and from 24 on "+01:00" or "Z"
	zone   int
}

func (s *stamp) append(b []byte, at time.Time) []byte {
	if second := at.Unix(); second != s.second || s.zone == 0 {
		s.second = second
		at.AppendFormat(s.text[:0], "2006-01-02T15:04:05")
		s.zone = len(at.AppendFormat(s.text[:24], "Z07:00")) - 24
	}
	ms := at.Nanosecond() / 1e6
	b = append(b, s.text[:19]...)
	b = append(b, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
	return append(b, s.text[24:24+s.zone]...)
}
