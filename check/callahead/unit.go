// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"rcptgate"
	"rcptgate/config"
	"rcptgate/metric"
	"rcptgate/route"
	"rcptgate/store"
	"rcptgate/unit"
	"rcptgate/view"
)

// Unit is the check.
func Unit() unit.Unit {
	return unit.Unit{Name: "existence", Open: open, Tables: []view.Table{statusTable()}, Parts: []config.Part{
		{Section: "callahead", Doc: "how the servers behind the gateway are asked", Defaults: DefaultConfig()},
		{Section: "cache", Defaults: DefaultLives()},
		{Section: "domain", Repeated: true, Defaults: DomainConfig{}},
	}}
}

func open(env *unit.Env) (unit.Live, error) {
	state := NewState(env.Notices)
	return unit.Live{
		Build: func(s *unit.Setup) error {
			var rejectFull []bool
			for _, d := range unit.Domains[route.DomainConfig](s.Config) {
				rejectFull = append(rejectFull, d.RejectsFull())
			}
			check, err := New(Options{
				Config: *unit.Part[Config](s.Config), Lives: *unit.Part[Lives](s.Config), Domains: unit.Domains[DomainConfig](s.Config), RejectFull: rejectFull,
				Hostname: s.Core().Hostname, Router: s.Router, Memory: env.Memory, State: state, Log: env.Log,
			})
			if err != nil {
				return err
			}
			s.Step(rcptgate.StageRcpt, rcptgate.Step{Name: "existence", Check: check})
			sections := s.Router.Sections()
			s.FoldCase = func(domain string) bool { return check.settings[sections.Find(domain)+1].foldLocal }
			return nil
		},
		Adopt: func(c *unit.Config) {
			env.Backends.Configure(unit.Part[Config](c).Config, c.Core().Hostname)
			env.Notices.ClearAll("cautious ") // a section or a network may have been added
			env.Notices.ClearAll("loop ")
		},
		Forget:  state.Forget,
		Close:   func() error { state.Close(); return nil },
		Metrics: metrics(state),
		Show:    func() []view.Table { return show(state) },
	}, nil
}

// Derive writes the fallback sender out.
func (c *Config) Derive(core *unit.Core) { c.FallbackSender = c.Fallback(core.Hostname) }

// Limits are how long answers serve at most.
func (l *Lives) Limits() store.Limits {
	return store.Limits{
		store.Valid: l.Valid.Expire.Std(), store.Unknown: l.Unknown.Expire.Std(), store.Full: l.Full.Expire.Std(),
		store.Refused: l.Refused.Expire.Std(), store.Deferred: l.Deferred.Expire.Std(),
		store.AcceptAll: l.AcceptAll.Expire.Std(), store.Selective: l.AcceptAll.Expire.Std(),
	}
}

// Limits are how long answers about the domain serve at most, by this section.
func (d *DomainConfig) Limits() (most store.Limits) {
	if d.Valid != nil && d.Valid.Expire != nil {
		most[store.Valid] = d.Valid.Expire.Std()
	}
	for class, life := range map[store.Class]*Life{
		store.Unknown: d.Unknown, store.Full: d.Full, store.Refused: d.Refused, store.Deferred: d.Deferred,
		store.AcceptAll: d.AcceptAll, store.Selective: d.AcceptAll,
	} {
		if life != nil {
			most[class] = life.Expire.Std()
		}
	}
	return most
}

func metrics(state *State) []metric.Family {
	of := func(f func(*Stats) float64) func() float64 {
		return func() float64 { st := state.Stats(); return f(&st) }
	}
	return []metric.Family{
		{Kind: metric.Counter, Name: "probes_total", Help: "Questions put to backends, by what came of them.", Labels: []string{"class"}, Read: func(emit metric.Emit) {
			for class, n := range state.Stats().Probes {
				emit(float64(n), class)
			}
		}},
		metric.Level("probes_in_flight", "Recipients being asked about.", of(func(s *Stats) float64 { return float64(s.InFlight) })),
		metric.Level("refreshes_waiting", "Refreshes not yet begun.", of(func(s *Stats) float64 { return float64(s.RefreshesWaiting) })),
		metric.Count("probes_joined_total", "Questions that shared the probe of another.", of(func(s *Stats) float64 { return float64(s.Joined) })),
		metric.Count("probes_busy_total", "Questions not asked because too many probes were in progress.", of(func(s *Stats) float64 { return float64(s.Busy) })),
		metric.Count("probes_fallback_total", "Probes repeated with the fallback sender.", of(func(s *Stats) float64 { return float64(s.Fallback) })),
		metric.Count("loops_total", "Call-aheads that came back to us.", of(func(s *Stats) float64 { return float64(s.Loops) })),
		metric.Count("refreshes_total", "Answers asked again in the background.", of(func(s *Stats) float64 { return float64(s.Refreshes) })),
		metric.Count("refreshes_dropped_total", "Refreshes that found no place to wait.", of(func(s *Stats) float64 { return float64(s.RefreshesDropped) })),
		metric.Count("demotions_total", "Valid answers withdrawn after confirmed unknowns.", of(func(s *Stats) float64 { return float64(s.Demotions) })),
		metric.Count("demotions_held_total", "Valid answers not withdrawn because too much of the domain looked unknown.", of(func(s *Stats) float64 { return float64(s.DemotionsHeld) })),
		metric.Count("accept_all_tests_total", "Made-up recipients asked about.", of(func(s *Stats) float64 { return float64(s.AcceptAllTests) })),
		metric.Count("accept_all_found_total", "Made-up recipients accepted.", of(func(s *Stats) float64 { return float64(s.AcceptAllFound) })),
		metric.Count("refusals_unproven_total", "Refusals that may be about this gateway, made temporary.", of(func(s *Stats) float64 { return float64(s.Unproven) })),
		metric.Count("refusals_about_us_total", "Refusals of a kind that known-good recipients get as well: they are about this gateway.", of(func(s *Stats) float64 { return float64(s.RefusesUs) })),
		metric.Count("control_questions_total", "Known-good recipients asked about to find out what a refusal means.", of(func(s *Stats) float64 { return float64(s.Controls) })),
		metric.Count("answers_doubted_total", "Answers withdrawn because they may have belonged to another question.", of(func(s *Stats) float64 { return float64(s.Doubted) })),
		metric.Count("refusals_cautious_total", "Refusals passed over because only the MTA named the route.", of(func(s *Stats) float64 { return float64(s.Cautious) })),
	}
}

// show is what is going on now.
func show(state *State) []view.Table {
	st := state.Stats()
	t := statusTable()
	t.Add("", st.InFlight, st.RefreshesWaiting, st.Joined, st.Refreshes, st.Demotions, st.DemotionsHeld, st.Unproven)
	return []view.Table{t}
}

// statusTable is the table "existence" without rows.
func statusTable() view.Table {
	return view.Table{
		Name: "existence", Title: "Call-ahead",
		Doc: "questions to the servers behind about recipients",
		Columns: view.Explained(
			"in_flight", "In flight", "questions being asked now",
			"waiting", "Refreshes waiting", "remembered answers that are due for another question and wait for their turn",
			"joined", "Joined", "questions that were not asked because the same one was already being asked, and shared its answer",
			"refreshes", "Refreshed", "remembered answers that were asked again in the background before their end",
			"demotions", "Withdrawn", "known-good recipients withdrawn: the server has said several times over hours that it does not know them",
			"held", "Held", "withdrawals held back: too many recipients of one domain were called unknown at once, which looks like a broken server and not like deleted mailboxes",
			"unproven", "Unproven refusals", "refusals turned into a temporary failure, because it was not clear whether the server refuses the recipient or refuses us",
		),
	}
}
