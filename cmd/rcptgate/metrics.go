// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"errors"

	"rcptgate/backend"
	"rcptgate/check/callahead"
	"rcptgate/front/milter"
	"rcptgate/sight"
	"rcptgate/store"
)

// registerMetrics makes the units' own counts metrics. Names are without the
// prefix rcptgate_; no recipient is ever in a label.
func (d *daemon) registerMetrics() error {
	var errs []error
	number := func(kind sight.Kind, name, help string, read func() float64) {
		errs = append(errs, d.sight.Register(kind, name, help, nil, func(emit sight.Emit) { emit(read()) }))
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

type registrar func(kind sight.Kind, name, help string, read func() float64)

func (d *daemon) registerMilter(number registrar) {
	of := func(f func(s *milter.Stats) float64) func() float64 {
		return func() float64 {
			st := d.milter.Stats()
			return f(&st)
		}
	}
	number(sight.Gauge, "milter_connections", "Milter connections open.", of(func(s *milter.Stats) float64 { return float64(s.Open) }))
	number(sight.Counter, "milter_connections_total", "Milter connections taken.", of(func(s *milter.Stats) float64 { return float64(s.Accepted) }))
	number(sight.Counter, "milter_connections_refused_total", "Milter connections closed at once: too many.", of(func(s *milter.Stats) float64 { return float64(s.Refused) }))
	number(sight.Counter, "milter_transactions_total", "MAIL commands seen.", of(func(s *milter.Stats) float64 { return float64(s.Transactions) }))
	number(sight.Counter, "milter_recipients_total", "RCPT commands seen.", of(func(s *milter.Stats) float64 { return float64(s.Recipients) }))
	number(sight.Counter, "milter_protocol_errors_total", "Milter connections ended by a malformed frame.", of(func(s *milter.Stats) float64 { return float64(s.ProtocolErrors) }))
	number(sight.Counter, "milter_timeouts_total", "Milter connections ended for being silent or slow.", of(func(s *milter.Stats) float64 { return float64(s.TimedOut) }))
}

func (d *daemon) registerProbes(number registrar) {
	of := func(f func(s *callahead.Stats) float64) func() float64 {
		return func() float64 {
			st := d.probes.Stats()
			return f(&st)
		}
	}
	number(sight.Gauge, "probes_in_flight", "Recipients being asked about.", of(func(s *callahead.Stats) float64 { return float64(s.InFlight) }))
	number(sight.Gauge, "refreshes_waiting", "Refreshes not yet begun.", of(func(s *callahead.Stats) float64 { return float64(s.RefreshesWaiting) }))
	number(sight.Counter, "probes_joined_total", "Questions that shared the probe of another.", of(func(s *callahead.Stats) float64 { return float64(s.Joined) }))
	number(sight.Counter, "probes_busy_total", "Questions not asked: too many probes in progress.", of(func(s *callahead.Stats) float64 { return float64(s.Busy) }))
	number(sight.Counter, "probes_fallback_total", "Probes repeated with the fallback sender.", of(func(s *callahead.Stats) float64 { return float64(s.Fallback) }))
	number(sight.Counter, "loops_total", "Call-aheads that came back to us.", of(func(s *callahead.Stats) float64 { return float64(s.Loops) }))
	number(sight.Counter, "refreshes_total", "Answers asked again in the background.", of(func(s *callahead.Stats) float64 { return float64(s.Refreshes) }))
	number(sight.Counter, "refreshes_dropped_total", "Refreshes that found no place to wait.", of(func(s *callahead.Stats) float64 { return float64(s.RefreshesDropped) }))
	number(sight.Counter, "demotions_total", "Valid answers taken back after confirmed unknowns.", of(func(s *callahead.Stats) float64 { return float64(s.Demotions) }))
	number(sight.Counter, "demotions_held_total", "Valid answers not taken back: too much of the domain looked unknown.", of(func(s *callahead.Stats) float64 { return float64(s.DemotionsHeld) }))
	number(sight.Counter, "accept_all_tests_total", "Made-up recipients asked about.", of(func(s *callahead.Stats) float64 { return float64(s.AcceptAllTests) }))
	number(sight.Counter, "accept_all_found_total", "Made-up recipients taken.", of(func(s *callahead.Stats) float64 { return float64(s.AcceptAllFound) }))
	number(sight.Counter, "refusals_unproven_total", "Refusals that may be about us, made temporary.", of(func(s *callahead.Stats) float64 { return float64(s.Unproven) }))
	number(sight.Counter, "refusals_cautious_total", "Refusals passed over: only the MTA named the route.", of(func(s *callahead.Stats) float64 { return float64(s.Cautious) }))
}

func (d *daemon) registerStores() []error {
	perPlace := func(kind sight.Kind, name, help string, f func(s *store.Stats) float64) error {
		return d.sight.Register(kind, name, help, []string{"place"}, func(emit sight.Emit) {
			for _, st := range d.memory.Stats() {
				emit(f(&st), st.Name)
			}
		})
	}
	return []error{
		d.sight.Register(sight.Counter, "probes_total", "Questions put to backends, by what came of them.", []string{"class"}, func(emit sight.Emit) {
			for class, n := range d.probes.Stats().Probes {
				emit(float64(n), class)
			}
		}),
		perPlace(sight.Gauge, "cache_records", "Records remembered.", func(s *store.Stats) float64 { return float64(s.Entries) }),
		perPlace(sight.Gauge, "cache_refusals", "Records that only refuse.", func(s *store.Stats) float64 { return float64(s.Refusals) }),
		perPlace(sight.Counter, "cache_hits_total", "Look-ups that found something.", func(s *store.Stats) float64 { return float64(s.Hits) }),
		perPlace(sight.Counter, "cache_misses_total", "Look-ups that found nothing.", func(s *store.Stats) float64 { return float64(s.Misses) }),
		perPlace(sight.Counter, "cache_errors_total", "Look-ups and writes that failed.", func(s *store.Stats) float64 { return float64(s.Errors) }),
		perPlace(sight.Counter, "cache_evicted_total", "Records dropped before their end.", func(s *store.Stats) float64 { return float64(s.Evicted) }),
	}
}

func (d *daemon) registerBackends() []error {
	perBackend := func(kind sight.Kind, name, help string, f func(h *backend.Health) float64) error {
		return d.sight.Register(kind, name, help, []string{"backend"}, func(emit sight.Emit) {
			for _, h := range d.backends.Health() {
				emit(f(&h), h.Backend)
			}
		})
	}
	return []error{
		d.sight.Register(sight.Counter, "backend_failures_total", "Failures before an answer to RCPT, by stage.", []string{"backend", "stage"}, func(emit sight.Emit) {
			for _, h := range d.backends.Health() {
				for stage, n := range h.Failures {
					emit(float64(n), h.Backend, string(stage))
				}
			}
		}),
		perBackend(sight.Gauge, "backend_up", "0: the backend is down and is not asked.", func(h *backend.Health) float64 {
			if h.Open {
				return 0
			}
			return 1
		}),
		perBackend(sight.Gauge, "backend_connections", "Connections open.", func(h *backend.Health) float64 { return float64(h.Idle + h.Busy) }),
		perBackend(sight.Gauge, "backend_waiting", "Probes that wait for a connection.", func(h *backend.Health) float64 { return float64(h.Waiting) }),
		perBackend(sight.Gauge, "backend_latency_seconds", "Moving average of a probe's time.", func(h *backend.Health) float64 { return h.Latency.Seconds() }),
		perBackend(sight.Counter, "backend_connections_total", "Connections opened.", func(h *backend.Health) float64 { return float64(h.Connections) }),
		perBackend(sight.Counter, "backend_probes_total", "Answers to RCPT.", func(h *backend.Health) float64 { return float64(h.Probes) }),
		perBackend(sight.Counter, "backend_refusals_total", "Of these, 4xx and 5xx.", func(h *backend.Health) float64 { return float64(h.Refusals) }),
	}
}

func (d *daemon) registerTables() []error {
	perTable := func(kind sight.Kind, name, help string, f func(s *tableState) float64) error {
		return d.sight.Register(kind, name, help, []string{"table", "use"}, func(emit sight.Emit) {
			for _, s := range d.tables.state() {
				emit(f(&s), s.Spec.String(), s.Use.String())
			}
		})
	}
	return []error{
		perTable(sight.Gauge, "table_current", "1: what answers is the file as it is; 0: it cannot be read, or is being rebuilt.", func(s *tableState) float64 {
			if s.Err != nil || s.Loaded.IsZero() {
				return 0
			}
			return 1
		}),
		perTable(sight.Gauge, "table_entries", "Entries in force.", func(s *tableState) float64 { return float64(s.Entries) }),
		perTable(sight.Gauge, "table_bytes", "Memory of a table.", func(s *tableState) float64 { return float64(s.Octets) }),
		perTable(sight.Gauge, "table_modified_seconds", "Time stamp of the file whose entries are in force; 0: none are.", func(s *tableState) float64 {
			if s.Modified.IsZero() {
				return 0
			}
			return float64(s.Modified.UnixMilli()) / 1000
		}),
		perTable(sight.Counter, "table_loads_total", "Contents that came into force.", func(s *tableState) float64 { return float64(s.Loads) }),
		perTable(sight.Counter, "table_failures_total", "Readings that failed.", func(s *tableState) float64 { return float64(s.Failures) }),
	}
}
