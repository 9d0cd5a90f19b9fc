// SPDX-License-Identifier: BSD-2-Clause

package harvest

import (
	"net/netip"
	"slices"

	"rcptgate"
	"rcptgate/config"
	"rcptgate/config/setting"
	"rcptgate/metric"
	"rcptgate/pattern"
	"rcptgate/unit"
	"rcptgate/view"
)

// Unit is the check.
func Unit() unit.Unit {
	return unit.Unit{
		Name: "harvest", Open: open, Tables: []view.Table{statusTable()},
		Parts: []config.Part{{
			Section: "harvest", Defaults: DefaultConfig(),
			Doc: "how much a client may learn about which mailboxes exist, so that guessing names is useless",
		}},
		Reasons: []rcptgate.ReasonDoc{{Reason: reason, Doc: "the client has asked for too many names that do not exist, and nothing good is remembered of this one"}},
	}
}

func open(env *unit.Env) (unit.Live, error) {
	s := newState(env.Log)
	return unit.Live{
		Build: func(set *unit.Setup) error { return build(set, s) },
		Show:  s.show,
		Metrics: []metric.Family{
			metric.Count("harvest_limited_total", "Limits of unknown recipients that clients and networks have reached.", func() float64 { return float64(s.limited.Load()) }),
			metric.Count("harvest_veiled_total", "Temporary answers in the place of \"no such mailbox\".", func() float64 { return float64(s.veiled.Load()) }),
		},
	}, nil
}

// build adds the step, where there is a limit.
func build(s *unit.Setup, state *state) error {
	cfg := unit.Part[Config](s.Config)
	if cfg.Limit == 0 {
		return nil
	}
	trusted := func(a netip.Addr) bool { return s.Trusted != nil && s.Trusted(a) }
	language := &pattern.Language{Clients: map[string]func(netip.Addr) bool{
		"trusted": trusted, "own": s.Router.IsSelf, "backends": s.Router.IsBackend,
	}}
	c := &Check{
		cfg: *cfg, state: state, never: language.NewSet(pattern.Clients), names: language.NewSet(pattern.Hosts),
		exempt: func(a netip.Addr) bool { return s.Router.IsSelf(a) || s.Router.IsBackend(a) || trusted(a) },
		veil:   rcptgate.Verdict{Action: rcptgate.Tempfail, Code: 451, Enhanced: "4.7.1", Text: rcptgate.CleanText(cfg.Text), Reason: reason, Source: stepName},
	}
	for _, text := range cfg.Never {
		if err := c.never.Add(text); err != nil {
			return setting.Keyf("harvest.never", "%w", err)
		}
	}
	for _, text := range cfg.NeverNames {
		if err := c.names.Add(text); err != nil {
			return setting.Keyf("harvest.never_names", "%w", err)
		}
	}
	if cfg.Blocklist != "" {
		if c.joins = s.Blocklists[cfg.Blocklist]; c.joins == nil {
			return setting.Keyf("harvest.blocklist", "there is no [[blocklist]] named %q", cfg.Blocklist)
		}
	}
	s.Step(rcptgate.StageRcpt, rcptgate.Step{Name: stepName, Check: c})
	return nil
}

// show is the limits that were reached last, the newest first.
func (s *state) show() []view.Table {
	s.mu.Lock()
	list := slices.Clone(s.last)
	s.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	t := statusTable()
	for _, r := range slices.Backward(list) {
		t.Add("", r.who, r.limit, r.heard, r.at)
	}
	return []view.Table{t}
}

// statusTable is the table "harvest" without rows.
func statusTable() view.Table {
	return view.Table{
		Name: "harvest", Title: "Clients that have asked for too many unknown recipients",
		Doc: "clients and networks that have last reached a limit of [harvest]; shown if there is one",
		Columns: view.Explained(
			"client", "Client", "the client or the network",
			"limit", "Limit", "the setting that was reached",
			"heard", "Unknown", "unknown recipients asked for in the window",
			"at", "Reached", "when the limit was reached",
		),
	}
}
