// SPDX-License-Identifier: BSD-2-Clause

// Package exposition serves metrics as Prometheus text (prometheus.io, "Exposition formats"). It
// is the only package that knows Prometheus's library. Units and the host bring [metric.Family]s.
package exposition

import (
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"rcptgate/metric"
)

// Handler serves the families that the function gives, and the figures of Go's runtime and of the
// process. The families are read at every scrape. At most 1,000 values are taken from one reading
// of a family, and the first of values with equal labels. Label values are cut at 256 octets.
func Handler(families func() []metric.Family) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collector(families))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4, Timeout: 10 * time.Second,
	})
}

// collector makes Prometheus metrics of families.
type collector func() []metric.Family

// Describe describes nothing: which families there are is asked at every scrape.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads every family once.
func (c collector) Collect(out chan<- prometheus.Metric) {
	for _, f := range c() {
		collect(&f, out)
	}
}

func collect(f *metric.Family, out chan<- prometheus.Metric) {
	desc := prometheus.NewDesc(metric.Prefix+f.Name, f.Help, f.Labels, nil)
	r := reading{labels: len(f.Labels), seen: map[string]bool{}}
	if f.Kind == metric.Histogram {
		f.Fill(func(b metric.Buckets, labels ...string) {
			if clean, ok := r.take(labels); ok && len(b.Counts) == len(b.Bounds)+1 {
				out <- histogramOf(desc, b, clean)
			}
		})
		return
	}
	kind := prometheus.CounterValue
	if f.Kind == metric.Gauge {
		kind = prometheus.GaugeValue
	}
	f.Read(func(value float64, labels ...string) {
		if clean, ok := r.take(labels); ok {
			out <- prometheus.MustNewConstMetric(desc, kind, value, clean...)
		}
	})
}

func histogramOf(desc *prometheus.Desc, b metric.Buckets, labels []string) prometheus.Metric {
	upTo, total := make(map[float64]uint64, len(b.Bounds)), uint64(0)
	for i, n := range b.Counts {
		total += n
		if i < len(b.Bounds) {
			upTo[b.Bounds[i].Seconds()] = total
		}
	}
	return prometheus.MustNewConstHistogram(desc, total, b.Sum.Seconds(), upTo, labels...)
}

const (
	maxValues = 1000 // of one family
	maxLabel  = 256  // octets of a label's value
)

// reading is one scrape of a family.
type reading struct {
	labels int
	seen   map[string]bool
}

// take makes label values fit for the metrics. It refuses a wrong number of them, what
// was there before, and more than maxValues.
func (r *reading) take(labels []string) (clean []string, ok bool) {
	if len(labels) != r.labels || len(r.seen) >= maxValues {
		return nil, false
	}
	clean = make([]string, len(labels))
	for i, l := range labels {
		clean[i] = strings.ToValidUTF8(shorten(l), "?")
	}
	key := strings.Join(clean, "\x00")
	if r.seen[key] {
		return nil, false
	}
	r.seen[key] = true
	return clean, true
}

// shorten cuts a label's value in front of a character that does not fit.
func shorten(s string) string {
	if len(s) <= maxLabel {
		return s
	}
	end := maxLabel
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
