// SPDX-License-Identifier: BSD-2-Clause

package exposition

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"rcptgate/metric"
)

// TestHandler: the page has each value once, and nothing that a family says can spoil it.
func TestHandler(t *testing.T) {
	n := 1.0
	got := scrape(t, []metric.Family{
		{Kind: metric.Gauge, Name: "backend_up", Help: "Health.", Labels: []string{"backend"}, Read: func(emit metric.Emit) {
			emit(1, "smtp:[10.0.0.5]:25")
			emit(0, "smtp:[10.0.0.5]:25") // twice: the first counts
			emit(1, "too", "many")
			emit(0, "\xff")
			emit(1, "a\"b\n")
			emit(1, strings.Repeat("x", maxLabel-1)+"éé")
		}},
		metric.Count("milter_connections_total", "Connections.", func() float64 { n++; return n }),
		{Kind: metric.Histogram, Name: "decision_seconds", Help: "Times.", Labels: []string{"source"}, Fill: func(emit metric.EmitBuckets) {
			bounds := []time.Duration{10 * time.Microsecond, time.Second}
			emit(metric.Buckets{Bounds: bounds, Counts: []uint64{1, 2, 4}, Sum: 3 * time.Second}, "ram")
			emit(metric.Buckets{Bounds: bounds, Counts: []uint64{1}}, "short")
		}},
		{Name: "many_total", Help: "Many.", Labels: []string{"n"}, Read: func(emit metric.Emit) {
			for i := range 2 * maxValues {
				emit(1, strconv.Itoa(i))
			}
		}},
	})
	for _, want := range []string{
		"# HELP rcptgate_backend_up Health.", "# TYPE rcptgate_backend_up gauge", `rcptgate_backend_up{backend="smtp:[10.0.0.5]:25"} 1`,
		`rcptgate_backend_up{backend="?"} 0`, `rcptgate_backend_up{backend="a\"b\n"} 1`,
		`rcptgate_backend_up{backend="` + strings.Repeat("x", maxLabel-1) + `"} 1`,
		"# TYPE rcptgate_milter_connections_total counter", "rcptgate_milter_connections_total 2",
		`rcptgate_decision_seconds_bucket{source="ram",le="1e-05"} 1`, `rcptgate_decision_seconds_bucket{source="ram",le="1"} 3`,
		`rcptgate_decision_seconds_bucket{source="ram",le="+Inf"} 7`, `rcptgate_decision_seconds_sum{source="ram"} 3`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("%q is missing in\n%.2000s", want, got)
		}
	}
	for _, part := range []string{"go_goroutines ", "process_open_fds "} {
		if !strings.Contains(got, "\n"+part) {
			t.Errorf("%q is missing", part)
		}
	}
	for text, want := range map[string]int{"rcptgate_backend_up{": 4, "rcptgate_many_total{": maxValues, "short": 0} {
		if n := strings.Count(got, text); n != want {
			t.Errorf("%q is there %d times, want %d", text, n, want)
		}
	}
}

// TestScrapedAnew: what a unit brings later is on the next page.
func TestScrapedAnew(t *testing.T) {
	var families []metric.Family
	h := Handler(func() []metric.Family { return families })
	if text := get(h); strings.Contains(text, "rcptgate_") {
		t.Errorf("a metric of nobody in\n%s", text)
	}
	families = append(families, metric.Level("late", "Late.", func() float64 { return 5 }))
	if text := get(h); !strings.Contains(text, "\nrcptgate_late 5\n") {
		t.Errorf("the new metric is missing in\n%s", text)
	}
}

func scrape(t *testing.T, families []metric.Family) string {
	t.Helper()
	if err := metric.Check(families); err != nil {
		t.Fatal(err)
	}
	return get(Handler(func() []metric.Family { return families }))
}

func get(h http.Handler) string {
	page := httptest.NewRecorder()
	h.ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return page.Body.String()
}
