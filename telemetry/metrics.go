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
	for source, h := range s.times() {
		ch <- constHistogram(durationDesc, &h, source)
	}
	ch <- prometheus.MustNewConstMetric(droppedDesc, prometheus.CounterValue, float64(s.Dropped()))
	up := 1.0
	if s.Trouble() != nil {
		up = 0
	}
	ch <- prometheus.MustNewConstMetric(targetDesc, prometheus.GaugeValue, up)
}

// times sums up how long decisions took, by source. The usual sources are always there.
func (s *Telemetry) times() map[string]Histogram {
	sum := map[string]Histogram{}
	add := func(source string, h *histogram) {
		all, ok := sum[source]
		if !ok {
			all = Histogram{Bounds: buckets[:], Counts: make([]uint64, len(buckets)+1)}
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

func (s *Telemetry) newRegistry(version string) {
	s.registry = prometheus.NewRegistry()
	s.registry.MustRegister(s, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "rcptgate_build_info", Help: "Always 1; the labels say what is running.",
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

// Kind is a metric's type.
type Kind int

// The kinds of metrics that are read from other units.
const (
	Counter Kind = iota // never falls
	Gauge
)

// Emit gives one value with its label values to the metrics.
type Emit func(value float64, labels ...string)

// Histogram is how long things took: how many were at most as long as each bound and
// longer than the one before, and a last count of those above all.
type Histogram struct {
	Bounds []time.Duration // rising
	Counts []uint64        // one more than Bounds
	Sum    time.Duration
}

// EmitHistogram gives one histogram with its label values to the metrics.
type EmitHistogram func(h Histogram, labels ...string)

// Register adds a metric that is read by calling read at every scrape: the way
// units' Stats reach the metrics. name is without "rcptgate_". At most 1,000
// values are taken from one call, and of equal labels the first.
func (s *Telemetry) Register(kind Kind, name, help string, labels []string, read func(Emit)) error {
	if read == nil {
		return errors.New("register metric " + name + ": nothing to read")
	}
	of := prometheus.CounterValue
	if kind == Gauge {
		of = prometheus.GaugeValue
	}
	return s.register(name, help, labels, func(r *reading) {
		read(func(value float64, labels ...string) {
			if clean, ok := r.take(labels); ok {
				r.out <- prometheus.MustNewConstMetric(r.desc, of, value, clean...)
			}
		})
	})
}

// RegisterHistogram is Register for histograms; in the metrics they are in seconds.
func (s *Telemetry) RegisterHistogram(name, help string, labels []string, read func(EmitHistogram)) error {
	if read == nil {
		return errors.New("register metric " + name + ": nothing to read")
	}
	return s.register(name, help, labels, func(r *reading) {
		read(func(h Histogram, labels ...string) {
			if len(h.Counts) != len(h.Bounds)+1 {
				return
			}
			if clean, ok := r.take(labels); ok {
				r.out <- constHistogram(r.desc, &h, clean...)
			}
		})
	})
}

func constHistogram(desc *prometheus.Desc, h *Histogram, labels ...string) prometheus.Metric {
	upTo, total := make(map[float64]uint64, len(h.Bounds)), uint64(0)
	for i, n := range h.Counts {
		total += n
		if i < len(h.Bounds) {
			upTo[h.Bounds[i].Seconds()] = total
		}
	}
	return prometheus.MustNewConstHistogram(desc, total, h.Sum.Seconds(), upTo, labels...)
}

func (s *Telemetry) register(name, help string, labels []string, read func(*reading)) error {
	f := &reader{desc: prometheus.NewDesc("rcptgate_"+name, help, labels, nil), labels: len(labels), read: read}
	if err := s.registry.Register(f); err != nil {
		return fmt.Errorf("register metric %s: %w", name, err)
	}
	return nil
}

// reader is a metric whose values somebody else has.
type reader struct {
	desc   *prometheus.Desc
	labels int
	read   func(*reading)
}

func (r *reader) Describe(ch chan<- *prometheus.Desc) { ch <- r.desc }

func (r *reader) Collect(ch chan<- prometheus.Metric) {
	r.read(&reading{reader: r, out: ch, seen: map[string]bool{}})
}

const maxEmitted = 1000

// reading is one scrape of a reader.
type reading struct {
	*reader
	out  chan<- prometheus.Metric
	seen map[string]bool
}

// take makes label values fit for the metrics. It refuses a wrong number of them, what
// was there before, and more than maxEmitted.
func (r *reading) take(labels []string) (clean []string, ok bool) {
	if len(labels) != r.labels || len(r.seen) >= maxEmitted {
		return nil, false
	}
	clean = make([]string, len(labels))
	for i, l := range labels {
		short, _ := shorten(l, valueMax)
		clean[i] = strings.ToValidUTF8(short, "?")
	}
	key := strings.Join(clean, "\x00")
	if r.seen[key] {
		return nil, false
	}
	r.seen[key] = true
	return clean, true
}
