// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"fmt"
	"strings"

	"rcptgate/metric"
	"rcptgate/view"
)

// Metrics are about every backend.
func (s *Set) Metrics() []metric.Family {
	per := func(kind metric.Kind, name, help string, of func(*Health) float64) metric.Family {
		return metric.Each(kind, name, help, "backend", s.Health, func(h *Health) (float64, string) { return of(h), h.Backend })
	}
	return []metric.Family{
		{Kind: metric.Counter, Name: "backend_failures_total", Help: "Failures before an answer to RCPT, by stage.", Labels: []string{"backend", "stage"}, Read: func(emit metric.Emit) {
			for _, h := range s.Health() {
				for stage, n := range h.Failures {
					emit(float64(n), h.Backend, string(stage))
				}
			}
		}},
		per(metric.Gauge, "backend_up", "0: the backend is down and is not asked.", func(h *Health) float64 { return metric.Bool(!h.Open) }),
		per(metric.Gauge, "backend_connections", "Connections open.", func(h *Health) float64 { return float64(h.Idle + h.Busy) }),
		per(metric.Gauge, "backend_waiting", "Probes that wait for a connection.", func(h *Health) float64 { return float64(h.Waiting) }),
		per(metric.Gauge, "backend_latency_seconds", "Moving average of a probe's time.", func(h *Health) float64 { return h.Latency.Seconds() }),
		per(metric.Counter, "backend_connections_total", "Connections opened.", func(h *Health) float64 { return float64(h.Connections) }),
		per(metric.Counter, "backend_probes_total", "Answers to RCPT.", func(h *Health) float64 { return float64(h.Probes) }),
		per(metric.Counter, "backend_refusals_total", "Of these, 4xx and 5xx.", func(h *Health) float64 { return float64(h.Refusals) }),
	}
}

// maxShown bounds the rows of what is shown.
const maxShown = 200

// Show lists the backends; one that is down needs a person.
func (s *Set) Show() []view.Table {
	t := view.Table{
		Name: "backends", Title: "Servers behind", Empty: "none asked yet",
		Columns: view.Columns("backend", "Server", "up", "Up", "since", "Since", "latency", "Latency", "busy", "Busy", "limit", "Limit", "waiting", "Waiting",
			"probes", "Asked", "refusals", "Refused", "last_answer", "Last answer", "adaptations", "Adapted to", "last_error", "Last error"),
	}
	for _, h := range s.Health() {
		attention := ""
		if h.Open {
			attention = fmt.Sprintf("backend %s is down: %s", h.Backend, h.LastError)
		}
		t.Add(attention, h.Backend, !h.Open, h.Since, h.Latency, h.Busy, h.Limit, h.Waiting, h.Probes, h.Refusals, h.LastAnswer, strings.Join(h.Adaptations, ", "), h.LastError)
		t.About(downKey(h.Backend))
	}
	t.Limit(maxShown)
	return []view.Table{t}
}
