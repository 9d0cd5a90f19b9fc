// SPDX-License-Identifier: BSD-2-Clause

package telemetry

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"rcptgate"
)

// maxCells bounds the combinations of labels; further ones are counted as "other".
const maxCells = 256

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

// class is what sources have in common in how long they take.
type class int

const (
	classMemory class = iota
	classDisk
	classMemcached
	classProbe
	classOther
	classes
)

var classWords = [classes]string{"ram", "disk", "memcached", "probe", "other"}

func classOf(source string) class {
	switch source {
	case rcptgate.SourceRAM:
		return classMemory
	case rcptgate.SourceDisk:
		return classDisk
	case rcptgate.SourceMemcached:
		return classMemcached
	case rcptgate.SourceProbe:
		return classProbe
	}
	return classOther
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
	times [classes]histogram
	words *vocabulary

	last  cell // most decisions are like the one before
	lastN *uint64
}

func newTally(words *vocabulary) tally { return tally{cells: map[cell]*uint64{}, words: words} }

// vocabulary is which combinations of words have a counter: the same in all shards,
// so that none changes its name from one scrape to the next.
type vocabulary struct {
	mu    sync.Mutex
	known map[cell]bool
}

func (w *vocabulary) admits(c cell) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.known[c] && len(w.known) >= maxCells {
		return false
	}
	w.known[c] = true
	return true
}

func (t *tally) count(v *rcptgate.Verdict, elapsed time.Duration) {
	c := cell{v.Action, v.Would, v.Reason, v.Source}
	if t.lastN == nil || c != t.last {
		n := t.cells[c]
		if n == nil {
			n = t.newCell(c)
		}
		t.last, t.lastN = c, n
	}
	*t.lastN++
	t.times[classOf(v.Source)].observe(elapsed)
}

func (t *tally) newCell(c cell) *uint64 {
	c.reason, c.source = rcptgate.Reason(word(string(c.reason))), word(c.source)
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

var (
	decisionsDesc = prometheus.NewDesc("rcptgate_decisions_total",
		"Decisions by action, reason and source; would is the action that rehearsal held back.",
		[]string{"action", "reason", "source", "would"}, nil)
	durationDesc = prometheus.NewDesc("rcptgate_decision_seconds",
		"How long decisions took, by where the answer came from.", []string{"source"}, nil)
	droppedDesc = prometheus.NewDesc("rcptgate_log_dropped_total",
		"Log lines that were dropped because the target was too slow or absent.", nil, nil)
	targetDesc = prometheus.NewDesc("rcptgate_log_up",
		"0: the log's target cannot be written to, lines are dropped.", nil, nil)
)

// Describe and Collect make Telemetry a prometheus.Collector.
func (s *Telemetry) Describe(ch chan<- *prometheus.Desc) {
	ch <- decisionsDesc
	ch <- durationDesc
	ch <- droppedDesc
	ch <- targetDesc
}

// Collect sums up the shards.
func (s *Telemetry) Collect(ch chan<- prometheus.Metric) {
	for _, c := range s.Counts() {
		ch <- prometheus.MustNewConstMetric(decisionsDesc, prometheus.CounterValue, float64(c.N), c.Action, c.Reason, c.Source, c.Would)
	}
	for k := range classes {
		var all histogram
		for _, sh := range s.shards {
			sh.mu.Lock()
			h := &sh.times[k]
			for i, n := range h.counts {
				all.counts[i] += n
			}
			all.sum += h.sum
			sh.mu.Unlock()
		}
		upTo, total := map[float64]uint64{}, uint64(0)
		for i, n := range all.counts {
			total += n
			if i < len(buckets) {
				upTo[buckets[i].Seconds()] = total
			}
		}
		ch <- prometheus.MustNewConstHistogram(durationDesc, total, all.sum.Seconds(), upTo, classWords[k])
	}
	ch <- prometheus.MustNewConstMetric(droppedDesc, prometheus.CounterValue, float64(s.Dropped()))
	up := 1.0
	if s.Trouble() != nil {
		up = 0
	}
	ch <- prometheus.MustNewConstMetric(targetDesc, prometheus.GaugeValue, up)
}

func (s *Telemetry) newRegistry(version string) {
	s.registry = prometheus.NewRegistry()
	s.registry.MustRegister(s, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "rcptgate_build_info", Help: "Always 1; the labels tell what is running.",
		ConstLabels: prometheus.Labels{"version": strings.ToValidUTF8(version, "?"), "go": runtime.Version()},
	})
	build.Set(1)
	s.registry.MustRegister(build)
}

// MetricsHandler serves the metrics as Prometheus text.
func (s *Telemetry) MetricsHandler() http.Handler {
	return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4, Timeout: 10 * time.Second,
	})
}

// Emit gives one value with its label values to the metrics.
type Emit func(value float64, labels ...string)

// Kind is a metric's type.
type Kind int

// The kinds of metrics that are read from other units.
const (
	Counter Kind = iota // never falls
	Gauge
)

// Register adds a metric that is read by calling read at every scrape: the way
// units' Stats reach the metrics. name is without "rcptgate_". At most 1,000
// values are taken from one call, and of equal labels the first.
func (s *Telemetry) Register(kind Kind, name, help string, labels []string, read func(Emit)) error {
	if read == nil {
		return errors.New("register metric " + name + ": nothing to read")
	}
	f := &reader{
		desc: prometheus.NewDesc("rcptgate_"+name, help, labels, nil), labels: len(labels),
		kind: prometheus.CounterValue, read: read,
	}
	if kind == Gauge {
		f.kind = prometheus.GaugeValue
	}
	if err := s.registry.Register(f); err != nil {
		return fmt.Errorf("register metric %s: %w", name, err)
	}
	return nil
}

const maxEmitted = 1000

type reader struct {
	desc   *prometheus.Desc
	labels int
	kind   prometheus.ValueType
	read   func(Emit)
}

func (r *reader) Describe(ch chan<- *prometheus.Desc) { ch <- r.desc }

func (r *reader) Collect(ch chan<- prometheus.Metric) {
	seen := map[string]bool{}
	r.read(func(value float64, labels ...string) {
		if len(labels) != r.labels || len(seen) >= maxEmitted {
			return
		}
		clean := make([]string, len(labels))
		for i, l := range labels {
			short, _ := shorten(l, valueMax)
			clean[i] = strings.ToValidUTF8(short, "?")
		}
		key := strings.Join(clean, "\x00")
		if seen[key] {
			return
		}
		seen[key] = true
		ch <- prometheus.MustNewConstMetric(r.desc, r.kind, value, clean...)
	})
}
