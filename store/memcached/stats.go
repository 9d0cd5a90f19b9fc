// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"sync/atomic"
	"time"
)

// LatencyBounds are the upper bounds of the latency histogram's buckets; a last one
// takes the rest.
var LatencyBounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond,
	5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 40 * time.Millisecond,
}

// Latency is a histogram of how long questions took, failed ones included.
type Latency struct {
	Counts [len(LatencyBounds) + 1]uint64 // each bucket by itself
	Sum    time.Duration
}

// Count is how many questions there were.
func (l *Latency) Count() (n uint64) {
	for _, c := range l.Counts {
		n += c
	}
	return n
}

type latency struct {
	counts [len(LatencyBounds) + 1]atomic.Uint64
	sum    atomic.Int64
}

func (l *latency) note(d time.Duration) {
	i := 0
	for i < len(LatencyBounds) && d > LatencyBounds[i] {
		i++
	}
	l.counts[i].Add(1)
	l.sum.Add(int64(d))
}

func (l *latency) read() (out Latency) {
	for i := range l.counts {
		out.Counts[i] = l.counts[i].Load()
	}
	out.Sum = time.Duration(l.sum.Load())
	return out
}

// ServerStats describes one server. Counters begin with the process, or when the server
// came into the configuration.
type ServerStats struct {
	Name    string
	Alive   bool
	Since   time.Time // when Alive last changed
	Error   string    // why it died, while it is dead
	Hits    uint64    // keys found
	Misses  uint64    // keys not found
	Errors  uint64    // questions without a usable reply
	BadMAC  uint64    // values ignored: not sealed with a key of ours
	BadForm uint64    // values ignored: not as documented
	Latency Latency
}

func (s *server) stats() ServerStats {
	st := ServerStats{
		Name: s.name, Alive: s.alive.Load(), Since: time.Unix(0, s.since.Load()),
		Hits: s.hits.Load(), Misses: s.misses.Load(), Errors: s.failed.Load(),
		BadMAC: s.badMAC.Load(), BadForm: s.badFormat.Load(), Latency: s.latency.read(),
	}
	if !st.Alive {
		s.mu.Lock()
		if s.why != nil {
			st.Error = s.why.Error()
		}
		s.mu.Unlock()
	}
	return st
}
