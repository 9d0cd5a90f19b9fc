// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"sync/atomic"
	"time"

	"rcptgate/check/quota/wire"
	"rcptgate/metric"
)

// Why a question gets no answer.
const (
	dropStranger = iota
	dropRate
	dropMalformed
	dropUnsigned
	dropMAC
	dropClock
	dropReplay
	dropBusy
	dropReasons
)

var dropWords = [dropReasons]string{"stranger", "rate", "malformed", "unsigned", "mac", "clock", "replay", "busy"}

var dropTexts = [dropReasons]string{
	"the address is not in [listen] clients", "it asks more often than [listen] rate allows", "it is not a question of this protocol", "it has no MAC: the gateway needs the key of this agent's key file",
	"its MAC is wrong, or made with a key that is not in this agent's key file: the gateway's key file must hold the same key", "the clocks are more than a minute apart", "the same signed question was sent too often", "too many questions are in progress",
}

// The fronts.
const (
	frontUDP = iota
	frontTCP
	frontHTTP
	fronts
)

var frontWords = [fronts]string{"udp", "tcp", "http"}

var scanBounds = []time.Duration{time.Millisecond, 5 * time.Millisecond, 25 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second}

// counts are what /metrics has.
type counts struct {
	asked    [fronts][wire.Error + 1]atomic.Uint64
	dropped  [dropReasons]atomic.Uint64
	scans    [7]atomic.Uint64 // by scanBounds, and longer
	scanTime atomic.Int64     // nanoseconds
	scanned  atomic.Uint64    // files whose name was read
	stats    atomic.Uint64    // of them, those whose size was not in the name or known
}

func (c *counts) question(front int, s wire.State) { c.asked[front][s].Add(1) }

func (c *counts) scan(d time.Duration) {
	i := 0
	for i < len(scanBounds) && d > scanBounds[i] {
		i++
	}
	c.scans[i].Add(1)
	c.scanTime.Add(int64(d))
}

// metrics describes them.
func (c *counts) metrics() []metric.Family {
	return []metric.Family{
		{Kind: metric.Counter, Name: "agent_questions_total", Help: "Questions that were answered.", Labels: []string{"front", "result"}, Read: func(emit metric.Emit) {
			for f := range c.asked {
				for s := wire.Room; s <= wire.Error; s++ {
					word := s.String()
					if s == wire.Room {
						word = "room"
					}
					emit(float64(c.asked[f][s].Load()), frontWords[f], word)
				}
			}
		}},
		{Kind: metric.Counter, Name: "agent_dropped_total", Help: "Questions that got no answer.", Labels: []string{"why"}, Read: func(emit metric.Emit) {
			for i := range c.dropped {
				emit(float64(c.dropped[i].Load()), dropWords[i])
			}
		}},
		{Kind: metric.Histogram, Name: "agent_scan_seconds", Help: "How long it took to count a Maildir.", Fill: func(emit metric.EmitBuckets) {
			b := metric.Buckets{Bounds: scanBounds, Sum: time.Duration(c.scanTime.Load())}
			for i := range c.scans {
				b.Counts = append(b.Counts, c.scans[i].Load())
			}
			emit(b)
		}},
		metric.Count("agent_scanned_files_total", "Messages that were read from the folders of Maildirs.", func() float64 { return float64(c.scanned.Load()) }),
		metric.Count("agent_file_sizes_total", "Messages whose size had to be asked from the file system.", func() float64 { return float64(c.stats.Load()) }),
	}
}
