// SPDX-License-Identifier: BSD-2-Clause

package telemetry

import (
	"io"
	"net/http/httptest"
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
	must(t, s.Register(metric.Family{Kind: metric.Gauge, Name: "backend_up", Help: "Health.", Labels: []string{"backend"}, Read: func(emit metric.Emit) {
		emit(1, "smtp:[10.0.0.5]:25")
		emit(0, "smtp:[10.0.0.5]:25") // twice: the first counts
		emit(1, "too", "many")
		emit(0, "\xff")
	}}))
	must(t, s.Register(metric.Count("milter_connections_total", "Connections.", func() float64 { return 7 })))
	if err := s.Register(metric.Family{Name: "backend_up", Help: "Health.", Labels: []string{"backend"}}); err == nil {
		t.Error("a metric was registered twice")
	}
	if _, err := s.registry.Gather(); err != nil {
		t.Error(err)
	}
	rec := httptest.NewRecorder()
	s.MetricsHandler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	got := rec.Body.String()
	for _, want := range []string{
		`rcptgate_decisions_total{action="reject",reason="unknown-user",source="ram",would=""} 3`,
		`rcptgate_decisions_total{action="reject",reason="other",source="other",would=""}`,
		`rcptgate_decisions_total{action="reject",reason="rule",source="rule",would=""} 1`,
		`rcptgate_decision_seconds_bucket{source="ram",le="1e-05"} 0`, `rcptgate_decision_seconds_bucket{source="ram",le="2.5e-05"} 3`,
		`rcptgate_decision_seconds_count{source="probe"} 2000`, `rcptgate_backend_up{backend="smtp:[10.0.0.5]:25"} 1`,
		`rcptgate_backend_up{backend="?"} 0`, "rcptgate_milter_connections_total 7", "rcptgate_log_dropped_total 0",
		`rcptgate_build_info{go="go1.`, "go_goroutines",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(got, "d.example") {
		t.Error("an address is in a label")
	}
	if n := strings.Count(got, "rcptgate_decisions_total{"); n > maxCells+8 {
		t.Errorf("%d label combinations", n)
	}
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
