// SPDX-License-Identifier: BSD-2-Clause

package telemetry

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Histogram is how long things took: how many were at most as long as each bound and
// longer than the one before, and a last count of those above all.
type Histogram struct {
	Bounds []time.Duration // rising
	Counts []uint64        // one more than Bounds
	Sum    time.Duration
}

// EmitHistogram gives one histogram with its label values to the metrics.
type EmitHistogram func(h Histogram, labels ...string)

// RegisterHistogram is Register for histograms; in the metrics they are in seconds.
func (s *Telemetry) RegisterHistogram(name, help string, labels []string, read func(EmitHistogram)) error {
	if read == nil {
		return errors.New("register metric " + name + ": nothing to read")
	}
	f := &histogramReader{desc: prometheus.NewDesc("rcptgate_"+name, help, labels, nil), labels: len(labels), read: read}
	if err := s.registry.Register(f); err != nil {
		return fmt.Errorf("register metric %s: %w", name, err)
	}
	return nil
}

type histogramReader struct {
	desc   *prometheus.Desc
	labels int
	read   func(EmitHistogram)
}

func (r *histogramReader) Describe(ch chan<- *prometheus.Desc) { ch <- r.desc }

func (r *histogramReader) Collect(ch chan<- prometheus.Metric) {
	seen := map[string]bool{}
	r.read(func(h Histogram, labels ...string) {
		key := strings.ToValidUTF8(strings.Join(labels, "\x00"), "?")
		if len(labels) != r.labels || len(h.Counts) != len(h.Bounds)+1 || seen[key] || len(seen) >= maxEmitted {
			return
		}
		seen[key] = true
		upTo, total := make(map[float64]uint64, len(h.Bounds)), uint64(0)
		for i, n := range h.Counts {
			total += n
			if i < len(h.Bounds) {
				upTo[h.Bounds[i].Seconds()] = total
			}
		}
		clean := make([]string, len(labels))
		for i, l := range labels {
			clean[i] = strings.ToValidUTF8(l, "?")
		}
		ch <- prometheus.MustNewConstHistogram(r.desc, total, h.Sum.Seconds(), upTo, clean...)
	})
}
