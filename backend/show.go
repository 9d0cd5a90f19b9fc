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
	t := Table()
	for _, h := range s.Health() {
		attention := ""
		if h.Open {
			attention = fmt.Sprintf("backend %s is down: %s", h.Backend, h.LastError)
		}
		t.Add(attention, h.Backend, h.State(), !h.Open, h.Since, h.Latency, h.Busy, h.Limit, h.Waiting, h.Probes, h.Refusals, h.LastAnswer, strings.Join(h.Adaptations, ", "), h.LastErrorAt, h.LastError)
		t.About(downKey(h.Backend))
	}
	t.Limit(maxShown)
	return []view.Table{t}
}

// Table is what Show gives, without rows.
func Table() view.Table {
	return view.Table{
		Name: "backends", Title: "Servers behind", Empty: "none asked yet",
		Doc: "the mail servers that the gate asks, and what it knows of each",
		Columns: view.Explained(
			"backend", "Server", "its address, as in [[domain]] backend",
			"state", "State", "up: it answered when it was last asked; failed: it did not, and is still asked; down: it failed several times in a row and is not asked; not asked yet",
			"up", "In use", "no: it is not asked while it is down, except by one trial connection now and then",
			"since", "Since", "when In use last changed, or when the server was first used",
			"latency", "Latency", "moving average of the time that one question takes",
			"busy", "Busy", "connections on which a question is being asked now",
			"limit", "Limit", "most connections at a time: [callahead] connections, or fewer after the server said 421 to a new one",
			"waiting", "Waiting", "questions that wait for a connection",
			"probes", "Asked", "replies to RCPT",
			"refusals", "Refused", "of these, replies 4xx and 5xx",
			"last_answer", "Last answer", "when the server last answered MAIL",
			"adaptations", "Adapted to", "what this server does not take, and the gate has stopped doing: helo (EHLO), no-pipelining, no-tls; probes-per-connection and refusals-per-connection are how many it takes before it ends a connection",
			"last_failure", "Last failure", "when the server last failed",
			"last_error", "Last error", "why",
		),
	}
}
