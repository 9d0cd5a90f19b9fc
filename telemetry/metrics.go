// SPDX-License-Identifier: BSD-2-Clause

package telemetry

import (
	"cmp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"rcptgate"
	"rcptgate/metric"
)

// maxCells bounds the combinations of labels, maxSources the sources that have a
// histogram; further ones are counted as "other".
const (
	maxCells   = 256
	maxSources = 32
)

// cell names one counter.
type cell struct {
	action, would rcptgate.Action
	reason        rcptgate.Reason
	source        string
}

// buckets are the upper bounds of the duration histogram.
var buckets = [...]time.Duration{
	10 * time.Microsecond, 25 * time.Microsecond, 50 * time.Microsecond, 100 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
	500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 8 * time.Second, 10 * time.Second,
}

type histogram struct {
	counts [len(buckets) + 1]uint64
	sum    time.Duration
}

func (h *histogram) observe(d time.Duration) {
	i := 0
	for i < len(buckets) && d > buckets[i] {
		i++
	}
	h.counts[i]++
	h.sum += d
}

// tally is one shard's part of the counts.
type tally struct {
	cells map[cell]*uint64
	times map[string]*histogram // by source
	words *vocabulary

	last      cell // most decisions are like the one before
	lastN     *uint64
	lastTimes *histogram
}

func newTally(words *vocabulary) tally {
	return tally{cells: map[cell]*uint64{}, times: map[string]*histogram{}, words: words}
}

// vocabulary is which combinations of words have a counter, and which sources have a
// histogram: the same in all shards, so that none changes its name from one scrape to the
// next.
type vocabulary struct {
	mu      sync.Mutex
	known   map[cell]bool
	sources map[string]bool
}

func newVocabulary() *vocabulary {
	return &vocabulary{known: map[cell]bool{}, sources: map[string]bool{
		rcptgate.SourceRAM: true, rcptgate.SourceDisk: true, rcptgate.SourceMemcached: true, rcptgate.SourceProbe: true,
	}}
}

func (w *vocabulary) admits(c cell) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return admit(w.known, c, maxCells)
}

// timed gives the label of a source in the histogram.
func (w *vocabulary) timed(source string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if source == "" {
		return "none"
	}
	if !admit(w.sources, source, maxSources) {
		return "other"
	}
	return source
}

func admit[K comparable](known map[K]bool, k K, limit int) bool {
	if !known[k] && len(known) >= limit {
		return false
	}
	known[k] = true
	return true
}

func (t *tally) count(v *rcptgate.Verdict, elapsed time.Duration) {
	c := cell{v.Action, v.Would, v.Reason, v.Source}
	if t.lastN == nil || c != t.last {
		n := t.cells[c]
		if n == nil {
			n = t.newCell(c)
		}
		t.last, t.lastN, t.lastTimes = c, n, t.timesOf(c.source)
	}
	*t.lastN++
	t.lastTimes.observe(elapsed)
}

func (t *tally) newCell(c cell) *uint64 {
	kind, _, _ := strings.Cut(string(c.reason), ":") // of "rule:NAME", "blocklist:NAME"
	c.reason, c.source = rcptgate.Reason(word(kind)), word(c.source)
	if n := t.cells[c]; n != nil {
		return n
	}
	if !t.words.admits(c) {
		c.reason, c.source = "other", "other"
		if n := t.cells[c]; n != nil {
			return n
		}
	}
	n := new(uint64)
	t.cells[c] = n
	return n
}

func (t *tally) timesOf(source string) *histogram {
	if h := t.times[source]; h != nil {
		return h
	}
	label := t.words.timed(word(source))
	if t.times[label] == nil {
		t.times[label] = new(histogram)
	}
	return t.times[label]
}

// word makes sure that a label is one of our own words and never a stranger's text.
// The copy keeps no query alive.
func word(s string) string {
	if len(s) > 32 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return "other"
	}
	return strings.Clone(s)
}

// Count is how many decisions had one combination of words.
type Count struct {
	Action string
	Would  string // in rehearsal, else empty
	Reason string
	Source string
	N      uint64
}

// Counts sums up the decisions since the start, the most frequent first.
func (s *Telemetry) Counts() []Count {
	sum := map[cell]uint64{}
	for _, sh := range s.shards {
		sh.mu.Lock()
		for c, n := range sh.cells {
			sum[c] += *n
		}
		sh.mu.Unlock()
	}
	out := make([]Count, 0, len(sum))
	for c, n := range sum {
		one := Count{Action: c.action.String(), Reason: string(c.reason), Source: c.source, N: n}
		if c.would != rcptgate.Continue {
			one.Would = c.would.String()
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b Count) int {
		return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Action+a.Would, b.Action+b.Would),
			cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Source, b.Source))
	})
	return out
}

// Metrics are what the log counts, and which version is running.
func (s *Telemetry) Metrics() []metric.Family {
	return []metric.Family{
		{Kind: metric.Gauge, Name: "build_info", Labels: []string{"version", "go"}, Help: "Always 1; the labels say what is running.",
			Read: func(emit metric.Emit) { emit(1, s.version, runtime.Version()) }},
		{Kind: metric.Counter, Name: "decisions_total", Labels: []string{"action", "reason", "source", "would"},
			Help: "Decisions by action, reason and source; would is the action that rehearsal held back.",
			Read: func(emit metric.Emit) {
				for _, c := range s.Counts() {
					emit(float64(c.N), c.Action, c.Reason, c.Source, c.Would)
				}
			}},
		{Kind: metric.Histogram, Name: "decision_seconds", Labels: []string{"source"}, Help: "How long decisions took, by where the answer came from.",
			Fill: func(emit metric.EmitBuckets) {
				for source, h := range s.times() {
					emit(h, source)
				}
			}},
		metric.Count("log_dropped_total", "Log lines that were dropped because the target was too slow or absent.", func() float64 { return float64(s.Dropped()) }),
		metric.Level("log_up", "0: the log's target cannot be written to, lines are dropped.", func() float64 { return metric.Bool(s.Trouble() == nil) }),
	}
}

// times sums up how long decisions took, by source. The usual sources are always there.
func (s *Telemetry) times() map[string]metric.Buckets {
	sum := map[string]metric.Buckets{}
	add := func(source string, h *histogram) {
		all, ok := sum[source]
		if !ok {
			all = metric.Buckets{Bounds: buckets[:], Counts: make([]uint64, len(buckets)+1)}
		}
		for i, n := range h.counts {
			all.Counts[i] += n
		}
		all.Sum += h.sum
		sum[source] = all
	}
	for _, source := range []string{rcptgate.SourceRAM, rcptgate.SourceDisk, rcptgate.SourceMemcached, rcptgate.SourceProbe} {
		add(source, new(histogram))
	}
	for _, sh := range s.shards {
		sh.mu.Lock()
		for source, h := range sh.tally.times {
			add(source, h)
		}
		sh.mu.Unlock()
	}
	return sum
}
