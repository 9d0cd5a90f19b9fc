// SPDX-License-Identifier: BSD-2-Clause

package telemetry

import (
	"io"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"rcptgate"
	"rcptgate/metric"
)

func TestMetrics(t *testing.T) {
	s := start(t, func(c *Config) { c.Decisions = false }, Options{Stderr: io.Discard, Version: "1.0"})
	q, v := sample()
	for range 3 {
		s.Observe(q, v)
	}
	v.Source, v.Reason = "c@d.example", rcptgate.Reason("x\xff")
	s.Observe(q, v)
	v.Source, v.Reason = "rule", "rule:the kiosk"
	s.Observe(q, v)
	for i := range 2000 {
		v.Reason, v.Source = rcptgate.Reason("r"+strconv.Itoa(i)), "probe"
		s.Observe(q, v)
	}
	must(t, metric.Check(s.Metrics()))
	got := values(s)
	for name, want := range map[string]float64{
		"decisions_total reject unknown-user ram ": 3, "decisions_total reject rule rule ": 1,
		"decision_seconds ram 10µs": 0, "decision_seconds ram 25µs": 3, "decision_seconds probe": 2000,
		"log_dropped_total": 0, "build_info 1.0 " + runtime.Version(): 1,
	} {
		if value, ok := got[name]; !ok || value != want {
			t.Errorf("%s is %v, want %v", name, value, want)
		}
	}
	if got["decisions_total reject other other "] == 0 {
		t.Error("what has no counter of its own is not counted")
	}
	labels := 0
	for name := range got {
		if strings.Contains(name, "d.example") {
			t.Error("an address is in a label")
		}
		if strings.HasPrefix(name, "decisions_total") {
			labels++
		}
	}
	if labels > maxCells+8 {
		t.Errorf("%d label combinations", labels)
	}
}

// values are the metrics of a log: "NAME LABEL..." and the value. A histogram's name without a
// bound has the count of all; with a bound, of those at most as long.
func values(s *Telemetry) map[string]float64 {
	out := map[string]float64{}
	for _, f := range s.Metrics() {
		name := func(labels []string) string { return strings.Join(append([]string{f.Name}, labels...), " ") }
		if f.Kind == metric.Histogram {
			f.Fill(func(b metric.Buckets, labels ...string) {
				total := uint64(0)
				for i, n := range b.Counts {
					if total += n; i < len(b.Bounds) {
						out[name(labels)+" "+b.Bounds[i].String()] = float64(total)
					}
				}
				out[name(labels)] = float64(total)
			})
			continue
		}
		f.Read(func(value float64, labels ...string) { out[name(labels)] = value })
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	s := start(t, nil, Options{Stderr: io.Discard})
	q, v := sample()
	for range 2000 {
		s.Observe(q, v)
	}
	if n := testing.AllocsPerRun(500, func() { s.Observe(q, v) }); n >= 1 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	for name, change := range map[string]func(*Config){
		"text": func(*Config) {}, "json": func(c *Config) { c.Format = "json" }, "metrics": func(c *Config) { c.Decisions = false },
	} {
		for _, goroutines := range []int{1, 8} {
			b.Run(name+"/"+strconv.Itoa(goroutines), func(b *testing.B) {
				s := start(b, change, Options{Stderr: io.Discard})
				b.SetParallelism(max(1, goroutines/2))
				b.ReportAllocs()
				run := func(next func() bool) {
					q, v := sample()
					v.Action, v.Text = rcptgate.Continue, ""
					for next() {
						s.Observe(q, v)
					}
				}
				if goroutines == 1 {
					b.ResetTimer()
					run(b.Loop)
				} else {
					b.RunParallel(func(pb *testing.PB) { run(pb.Next) })
				}
				b.ReportMetric(float64(s.Dropped())/float64(b.N), "dropped/op")
			})
		}
	}
}
