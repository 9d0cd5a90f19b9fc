// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"errors"

	"rcptgate/backend"
	"rcptgate/check/callahead"
	"rcptgate/front/milter"
	"rcptgate/store"
	"rcptgate/telemetry"
)

// registerMetrics makes the units' own counts metrics. Names are without the
// prefix rcptgate_; no recipient is ever in a label.
func (d *daemon) registerMetrics() error {
	var errs []error
	number := func(kind telemetry.Kind, name, help string, read func() float64) {
		errs = append(errs, d.telemetry.Register(kind, name, help, nil, func(emit telemetry.Emit) { emit(read()) }))
	}
	d.registerMilter(number)
	d.registerProbes(number)
	d.registerNames(number)
	errs = append(errs, d.registerStores()...)
	errs = append(errs, d.registerBackends()...)
	errs = append(errs, d.registerTables()...)
	errs = append(errs, d.registerMemcached(number))
	return errors.Join(errs...)
}

type registrar func(kind telemetry.Kind, name, help string, read func() float64)

func (d *daemon) registerMilter(number registrar) {
	of := func(f func(s *milter.Stats) float64) func() float64 {
		return func() float64 {
			st := d.milter.Stats()
			return f(&st)
		}
	}
	number(telemetry.Gauge, "milter_connections", "Milter connections open.", of(func(s *milter.Stats) float64 { return float64(s.Open) }))
	number(telemetry.Counter, "milter_connections_total", "Milter connections taken.", of(func(s *milter.Stats) float64 { return float64(s.Accepted) }))
	number(telemetry.Counter, "milter_connections_refused_total", "Milter connections closed at once: too many.", of(func(s *milter.Stats) float64 { return float64(s.Refused) }))
	number(telemetry.Counter, "milter_transactions_total", "MAIL commands seen.", of(func(s *milter.Stats) float64 { return float64(s.Transactions) }))
	number(telemetry.Counter, "milter_recipients_total", "RCPT commands seen.", of(func(s *milter.Stats) float64 { return float64(s.Recipients) }))
	number(telemetry.Counter, "milter_protocol_errors_total", "Milter connections ended by a malformed frame.", of(func(s *milter.Stats) float64 { return float64(s.ProtocolErrors) }))
	number(telemetry.Counter, "milter_timeouts_total", "Milter connections ended for being silent or slow.", of(func(s *milter.Stats) float64 { return float64(s.TimedOut) }))
}

func (d *daemon) registerProbes(number registrar) {
	of := func(f func(s *callahead.Stats) float64) func() float64 {
		return func() float64 {
			st := d.probes.Stats()
			return f(&st)
		}
	}
	number(telemetry.Gauge, "probes_in_flight", "Recipients being asked about.", of(func(s *callahead.Stats) float64 { return float64(s.InFlight) }))
	number(telemetry.Gauge, "refreshes_waiting", "Refreshes not yet begun.", of(func(s *callahead.Stats) float64 { return float64(s.RefreshesWaiting) }))
	number(telemetry.Counter, "probes_joined_total", "Questions that shared the probe of another.", of(func(s *callahead.Stats) float64 { return float64(s.Joined) }))
	number(telemetry.Counter, "probes_busy_total", "Questions not asked: too many probes in progress.", of(func(s *callahead.Stats) float64 { return float64(s.Busy) }))
	number(telemetry.Counter, "probes_fallback_total", "Probes repeated with the fallback sender.", of(func(s *callahead.Stats) float64 { return float64(s.Fallback) }))
	number(telemetry.Counter, "loops_total", "Call-aheads that came back to us.", of(func(s *callahead.Stats) float64 { return float64(s.Loops) }))
	number(telemetry.Counter, "refreshes_total", "Answers asked again in the background.", of(func(s *callahead.Stats) float64 { return float64(s.Refreshes) }))
	number(telemetry.Counter, "refreshes_dropped_total", "Refreshes that found no place to wait.", of(func(s *callahead.Stats) float64 { return float64(s.RefreshesDropped) }))
	number(telemetry.Counter, "demotions_total", "Valid answers taken back after confirmed unknowns.", of(func(s *callahead.Stats) float64 { return float64(s.Demotions) }))
	number(telemetry.Counter, "demotions_held_total", "Valid answers not taken back: too much of the domain looked unknown.", of(func(s *callahead.Stats) float64 { return float64(s.DemotionsHeld) }))
	number(telemetry.Counter, "accept_all_tests_total", "Made-up recipients asked about.", of(func(s *callahead.Stats) float64 { return float64(s.AcceptAllTests) }))
	number(telemetry.Counter, "accept_all_found_total", "Made-up recipients taken.", of(func(s *callahead.Stats) float64 { return float64(s.AcceptAllFound) }))
	number(telemetry.Counter, "refusals_unproven_total", "Refusals that may be about us, made temporary.", of(func(s *callahead.Stats) float64 { return float64(s.Unproven) }))
	number(telemetry.Counter, "refusals_cautious_total", "Refusals passed over: only the MTA named the route.", of(func(s *callahead.Stats) float64 { return float64(s.Cautious) }))
}

func (d *daemon) registerStores() []error {
	perPlace := func(kind telemetry.Kind, name, help string, f func(s *store.Stats) float64) error {
		return d.telemetry.Register(kind, name, help, []string{"place"}, func(emit telemetry.Emit) {
			for _, st := range d.memory.Stats() {
				emit(f(&st), st.Name)
			}
		})
	}
	return []error{
		d.telemetry.Register(telemetry.Counter, "probes_total", "Questions put to backends, by what came of them.", []string{"class"}, func(emit telemetry.Emit) {
			for class, n := range d.probes.Stats().Probes {
				emit(float64(n), class)
			}
		}),
		perPlace(telemetry.Gauge, "cache_records", "Records remembered.", func(s *store.Stats) float64 { return float64(s.Entries) }),
		perPlace(telemetry.Gauge, "cache_refusals", "Records that only refuse.", func(s *store.Stats) float64 { return float64(s.Refusals) }),
		perPlace(telemetry.Counter, "cache_hits_total", "Look-ups that found something.", func(s *store.Stats) float64 { return float64(s.Hits) }),
		perPlace(telemetry.Counter, "cache_misses_total", "Look-ups that found nothing.", func(s *store.Stats) float64 { return float64(s.Misses) }),
		perPlace(telemetry.Counter, "cache_errors_total", "Look-ups and writes that failed.", func(s *store.Stats) float64 { return float64(s.Errors) }),
		perPlace(telemetry.Counter, "cache_evicted_total", "Records dropped before their end.", func(s *store.Stats) float64 { return float64(s.Evicted) }),
	}
}

func (d *daemon) registerBackends() []error {
	perBackend := func(kind telemetry.Kind, name, help string, f func(h *backend.Health) float64) error {
		return d.telemetry.Register(kind, name, help, []string{"backend"}, func(emit telemetry.Emit) {
			for _, h := range d.backends.Health() {
				emit(f(&h), h.Backend)
			}
		})
	}
	return []error{
		d.telemetry.Register(telemetry.Counter, "backend_failures_total", "Failures before an answer to RCPT, by stage.", []string{"backend", "stage"}, func(emit telemetry.Emit) {
			for _, h := range d.backends.Health() {
				for stage, n := range h.Failures {
					emit(float64(n), h.Backend, string(stage))
				}
			}
		}),
		perBackend(telemetry.Gauge, "backend_up", "0: the backend is down and is not asked.", func(h *backend.Health) float64 {
			if h.Open {
				return 0
			}
			return 1
		}),
		perBackend(telemetry.Gauge, "backend_connections", "Connections open.", func(h *backend.Health) float64 { return float64(h.Idle + h.Busy) }),
		perBackend(telemetry.Gauge, "backend_waiting", "Probes that wait for a connection.", func(h *backend.Health) float64 { return float64(h.Waiting) }),
		perBackend(telemetry.Gauge, "backend_latency_seconds", "Moving average of a probe's time.", func(h *backend.Health) float64 { return h.Latency.Seconds() }),
		perBackend(telemetry.Counter, "backend_connections_total", "Connections opened.", func(h *backend.Health) float64 { return float64(h.Connections) }),
		perBackend(telemetry.Counter, "backend_probes_total", "Answers to RCPT.", func(h *backend.Health) float64 { return float64(h.Probes) }),
		perBackend(telemetry.Counter, "backend_refusals_total", "Of these, 4xx and 5xx.", func(h *backend.Health) float64 { return float64(h.Refusals) }),
	}
}

func (d *daemon) registerTables() []error {
	perTable := func(kind telemetry.Kind, name, help string, f func(s *tableState) float64) error {
		return d.telemetry.Register(kind, name, help, []string{"table", "use"}, func(emit telemetry.Emit) {
			for _, s := range d.tables.state() {
				emit(f(&s), s.Spec.String(), s.Use.String())
			}
		})
	}
	return []error{
		perTable(telemetry.Gauge, "table_current", "1: what answers is the file as it is; 0: it cannot be read, or is being rebuilt.", func(s *tableState) float64 {
			if s.Err != nil || s.Loaded.IsZero() {
				return 0
			}
			return 1
		}),
		perTable(telemetry.Gauge, "table_entries", "Entries in force.", func(s *tableState) float64 { return float64(s.Entries) }),
		perTable(telemetry.Gauge, "table_bytes", "Memory of a table.", func(s *tableState) float64 { return float64(s.Octets) }),
		perTable(telemetry.Gauge, "table_modified_seconds", "Time stamp of the file whose entries are in force; 0: none are.", func(s *tableState) float64 {
			if s.Modified.IsZero() {
				return 0
			}
			return float64(s.Modified.UnixMilli()) / 1000
		}),
		perTable(telemetry.Counter, "table_loads_total", "Contents that came into force.", func(s *tableState) float64 { return float64(s.Loads) }),
		perTable(telemetry.Counter, "table_failures_total", "Readings that failed.", func(s *tableState) float64 { return float64(s.Failures) }),
	}
}
