// SPDX-License-Identifier: BSD-2-Clause

package telemetry

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// flushEvery is how late a line may be. What gathers meanwhile is written in one go, and
// on a busy machine answers wait for the processor that does it: 50 ms of lines at full
// speed were a third of the p99 of a remembered answer.
const flushEvery = 10 * time.Millisecond

// keepBuffer is the capacity that a buffer keeps when there is little to write.
const keepBuffer = 256 << 10

// target is where lines go. It is used by one goroutine.
type target interface {
	// write sends the records in order and says how many of them went out. It may
	// take a bounded time.
	write(records []record) (sent int)
	// trouble is why the last write did not go out; nil: it did.
	trouble() error
	close()
}

// lines is the one goroutine that writes what the shards hold.
type lines struct {
	target  target
	shards  []*shard
	spare   [][]byte
	heads   []head
	batch   []record
	report  func(n uint64) []byte // the line that reports n dropped ones
	pending uint64                // dropped, not yet reported
	teller  teller
	before  uint64 // dropped when the trouble began

	dropped atomic.Uint64
	trouble atomic.Pointer[Trouble]
	soon    chan struct{}
	now     chan struct{}
	asked   chan chan struct{}
	stop    chan struct{}
	done    chan struct{}
	once    sync.Once
}

// head is what is left of a shard's records, and the time of the first.
type head struct {
	at   int64
	rest []byte
}

func newLines(t target, shards []*shard, report func(uint64) []byte, tell teller) *lines {
	l := &lines{
		target: t, shards: shards, report: report, teller: tell,
		spare: make([][]byte, len(shards)), heads: make([]head, 0, len(shards)),
		soon: make(chan struct{}, 1), now: make(chan struct{}, 1), asked: make(chan chan struct{}),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	go l.run()
	return l
}

func (l *lines) nudge(n nudge) {
	ch := l.soon
	switch n {
	case nudgeNone:
		return
	case nudgeNow:
		ch = l.now
	}
	select {
	case ch <- struct{}{}:
	default:
	}
}

// run sleeps until there is a line, gives others flushEvery to join it, and writes.
func (l *lines) run() {
	defer close(l.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var waiter chan struct{}
		var again <-chan time.Time // a target in trouble is tried without new lines too
		if l.trouble.Load() != nil {
			again = time.After(retryAfter)
		}
		select {
		case <-again:
		case <-l.soon:
			timer.Reset(flushEvery)
			select {
			case <-timer.C:
			case <-l.now:
			case <-l.stop:
			case waiter = <-l.asked:
			}
		case <-l.now:
		case waiter = <-l.asked:
		case <-l.stop:
			l.shut()
			l.drain()
			l.target.close()
			return
		}
		l.drain()
		if waiter != nil {
			close(waiter)
		}
	}
}

// shut makes the shards refuse more, so that the last drain is the last.
func (l *lines) shut() {
	for _, sh := range l.shards {
		sh.mu.Lock()
		sh.closed = true
		sh.mu.Unlock()
	}
}

// drain takes everything that is pending and writes it in order of time.
func (l *lines) drain() {
	lost := uint64(0)
	for i, sh := range l.shards {
		full, dropped := sh.swap(l.spare[i])
		l.spare[i] = full
		if len(full) > 0 {
			l.heads = append(l.heads, head{timeOf(full), full})
		}
		if cap(full) > keepBuffer && len(full) < cap(full)/8 {
			l.spare[i] = nil // grown in a burst that is over
		}
		lost += dropped
	}
	l.lose(lost)
	l.merge()
	l.write()
}

// merge puts the records of all shards into the batch, in order of time. The heads are a
// heap: the first is the oldest.
func (l *lines) merge() {
	l.batch = l.batch[:0]
	for i := len(l.heads)/2 - 1; i >= 0; i-- {
		l.sink(i)
	}
	for len(l.heads) > 0 {
		first := &l.heads[0]
		var r record
		r, first.rest = cut(first.rest)
		l.batch = append(l.batch, r)
		if len(first.rest) > 0 {
			first.at = timeOf(first.rest)
		} else {
			last := len(l.heads) - 1
			l.heads[0], l.heads[last] = l.heads[last], head{}
			l.heads = l.heads[:last]
		}
		l.sink(0)
	}
}

// sink moves the head at i down to where it is older than those below it.
func (l *lines) sink(i int) {
	for {
		oldest := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(l.heads); child++ {
			if l.heads[child].at < l.heads[oldest].at {
				oldest = child
			}
		}
		if oldest == i {
			return
		}
		l.heads[i], l.heads[oldest] = l.heads[oldest], l.heads[i]
		i = oldest
	}
}

func (l *lines) write() {
	if l.pending > 0 {
		n := l.pending
		line := record{at: time.Now().UnixNano(), priority: priorityWarning, line: l.report(n)}
		if l.target.write([]record{line}) == 1 {
			l.pending -= n
		}
		l.judge()
	}
	if len(l.batch) == 0 {
		return
	}
	if sent := l.target.write(l.batch); sent < len(l.batch) {
		l.lose(uint64(len(l.batch) - sent))
	}
	l.judge()
	clear(l.batch)
}

func (l *lines) lose(n uint64) {
	l.pending += n
	l.dropped.Add(n)
}

// flush waits until what was logged before is written.
func (l *lines) flush(patience time.Duration) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	waiter := make(chan struct{})
	select {
	case l.asked <- waiter:
	case <-l.done:
		return
	case <-timer.C:
		return
	}
	select {
	case <-waiter:
	case <-l.done:
	case <-timer.C:
	}
}

var errStillWriting = errors.New("close log: the target takes no more lines; the last ones are lost")

func (l *lines) close(patience time.Duration) error {
	l.once.Do(func() { close(l.stop) })
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-l.done:
		return nil
	case <-timer.C:
		return errStillWriting
	}
}
