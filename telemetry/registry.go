// SPDX-License-Identifier: BSD-2-Clause

package telemetry

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"rcptgate/metric"
)

func (s *Telemetry) newRegistry(version string) {
	s.registry = prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "rcptgate_build_info", Help: "Always 1; the labels say what is running.",
		ConstLabels: prometheus.Labels{"version": strings.ToValidUTF8(version, "?"), "go": runtime.Version()},
	})
	build.Set(1)
	s.registry.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, f := range s.families() {
		s.registry.MustRegister(newFamily(f))
	}
}

// MetricsHandler serves the metrics as Prometheus text.
func (s *Telemetry) MetricsHandler() http.Handler {
	return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4, Timeout: 10 * time.Second,
	})
}

// Register adds a family of metrics, which is read at every scrape. At most 1,000 values are
// taken from one reading, and of equal labels the first.
func (s *Telemetry) Register(f metric.Family) error {
	if err := s.registry.Register(newFamily(f)); err != nil {
		return fmt.Errorf("register metric %s: %w", f.Name, err)
	}
	return nil
}

// family is a metric.Family as a prometheus.Collector.
type family struct {
	metric.Family
	desc *prometheus.Desc
}

func newFamily(f metric.Family) family {
	return family{f, prometheus.NewDesc("rcptgate_"+f.Name, f.Help, f.Labels, nil)}
}

func (f family) Describe(ch chan<- *prometheus.Desc) { ch <- f.desc }

func (f family) Collect(ch chan<- prometheus.Metric) {
	r := reading{labels: len(f.Labels), seen: map[string]bool{}}
	if f.Kind == metric.Histogram {
		f.Fill(func(b metric.Buckets, labels ...string) {
			if clean, ok := r.take(labels); ok && len(b.Counts) == len(b.Bounds)+1 {
				ch <- histogramOf(f.desc, b, clean)
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
			ch <- prometheus.MustNewConstMetric(f.desc, kind, value, clean...)
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

const maxEmitted = 1000

// reading is one scrape of a family.
type reading struct {
	labels int
	seen   map[string]bool
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
