// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/config"
	"rcptgate/config/setting"
	"rcptgate/metric"
	"rcptgate/pattern"
	"rcptgate/route"
	"rcptgate/table"
	"rcptgate/table/pool"
	"rcptgate/unit"
	"rcptgate/view"
)

// stepName is the step's name in traces.
const stepName = "rules"

// Unit is the check.
func Unit() unit.Unit {
	return unit.Unit{
		Name: "rule", Open: openUnit, Commands: commands, Tables: []view.Table{statusTable()},
		Reasons: []rcptgate.ReasonDoc{{Reason: "rule:NAME", Doc: "the rule of that name says so"}},
		Parts: []config.Part{
			{Section: "rules", Doc: "tables that decide who may write to whom, before the [[rule]] sections", Defaults: Config{}},
			{Section: "list", Doc: "named lists of patterns, for rules", Repeated: true, Defaults: ListConfig{}},
			{Section: "rule", Doc: "who may write to whom. The first rule whose conditions are all met decides; a condition that is not set is met. In a list of patterns one must match, and none of those with \"!\" may match", Repeated: true, Defaults: RuleConfig{}},
		},
		OpsDoc: "list the rules, and test them",
		Ops: []unit.Op{{
			Use: "list", Short: "list the rules of the running daemon with their hits",
			Long: `list shows the rules in their order: what each does, how often it matched since the daemon
started and when it last did, and the key by which it is found. A rule that is found by
"every question" is looked at for each recipient: that costs time if there are many.`,
		}},
	}
}

func openUnit(*unit.Env) (unit.Live, error) {
	u := &live{since: time.Now()}
	return unit.Live{
		Build: u.build,
		Adopt: func(c *unit.Config) { u.adopt(unit.Part[Config](c).check) },
		Warn:  func(*unit.Config) []string { return u.active.Load().warnings() },
		Metrics: []metric.Family{{
			Kind: metric.Counter, Name: "rule_hits_total", Help: "Questions that a rule matched, rehearsed ones included.",
			Labels: []string{"rule", "action"}, Read: u.counters.metrics,
		}},
		Show: func() []view.Table { return u.show(showMax) },
		Do:   func(context.Context, string, []string) ([]view.Table, error) { return u.show(0), nil },
	}, nil
}

// live is what outlives configurations.
type live struct {
	counters counters
	since    time.Time
	active   atomic.Pointer[Check]
}

func (u *live) adopt(c *Check) {
	u.active.Store(c)
	u.counters.keep(c)
}

// build adds the step to a configuration.
func (u *live) build(s *unit.Setup) error {
	cfg, rules := unit.Part[Config](s.Config), unit.Domains[RuleConfig](s.Config)
	lists := unit.Domains[ListConfig](s.Config)
	local, err := localDomains(s, cfg.Local)
	if err != nil {
		return err
	}
	language := languageOf(s, local)
	if len(rules)+len(lists)+len(cfg.Access)+len(cfg.Pairs) == 0 {
		s.Language = &language
		return nil
	}
	check, err := newCheck(options{
		config: cfg, lists: lists, rules: rules, counters: &u.counters, language: language,
		open: func(kind pattern.Kind, spec table.Spec) (table.Table, error) {
			return s.Table(pool.Use{Name: "list of " + kind.String(), Wrap: func(f table.Format) table.Format { return pattern.Format(kind, f) }}, spec)
		},
		openPairs: func(name string, spec table.Spec) (table.Table, error) {
			read := map[string]pairReader{nameAccess: readCompat, namePairs: readPair}[name]
			return s.Table(pool.Use{Name: name + " of rules", Wrap: func(f table.Format) table.Format { return pairFormat{f, name, read} }}, spec)
		},
	})
	if err != nil {
		return err
	}
	cfg.check, s.Language = check, check.language
	s.Finish(func() error { return check.find(s.Function) })
	s.Step(rcptgate.StageRcpt, rcptgate.Step{Name: stepName, Check: check})
	s.Want(check.wants())
	s.Verify(func(ctx context.Context) error { return check.Verify(ctx, false) })
	return nil
}

// languageOf is the language of patterns, without lists.
func languageOf(s *unit.Setup, local func(context.Context, string) (bool, error)) pattern.Language {
	return pattern.Language{
		Delimiters: s.Router.Delimiter(),
		Local:      local,
		Clients: map[string]func(netip.Addr) bool{
			"trusted":  func(a netip.Addr) bool { return s.Trusted != nil && s.Trusted(a) },
			"own":      func(a netip.Addr) bool { return a.IsLoopback() || s.Router.IsSelf(a) },
			"backends": s.Router.IsBackend,
		},
		Hosts: map[string]func(string) bool{"own": func(name string) bool { return name == strings.ToLower(s.Core().Hostname) }},
	}
}

// wants is what the rules need from the MTA.
func (c *Check) wants() (w rcptgate.Wants) {
	if len(c.tables) > 0 { // whatever they say from tomorrow on
		w |= rcptgate.EditRecipients | rcptgate.Quarantine
	}
	for _, r := range c.rules {
		switch r.act {
		case Discard:
			w |= rcptgate.EditRecipients
		case Hold:
			w |= rcptgate.Quarantine
		case Reject, Tempfail, DiscardMessage, Pass, Accept, Call:
		}
		if r.cfg.TLS != nil {
			w |= rcptgate.WantSession
		}
	}
	return w
}

// localDomains is what $local stands for: what the configuration says, or what other units
// know.
func localDomains(s *unit.Setup, written []string) (func(context.Context, string) (bool, error), error) {
	if len(written) > 0 {
		return writtenDomains(written)
	}
	sections, domains := s.Router.Sections(), unit.Domains[route.DomainConfig](s.Config)
	return func(ctx context.Context, domain string) (bool, error) {
		if domain == "" {
			return true, nil
		}
		if i := sections.Find(domain); i >= 0 && len(domains[i].Backend) > 0 && domains[i].Name != "*" {
			return true, nil
		}
		if s.Local == nil {
			return false, nil
		}
		return s.Local(ctx, domain)
	}, nil
}

func writtenDomains(written []string) (func(context.Context, string) (bool, error), error) {
	var set pattern.Language
	domains := set.NewSet(pattern.Hosts)
	for i, d := range written {
		below, name := strings.HasPrefix(d, "."), strings.TrimPrefix(d, ".")
		if name == "" || strings.ContainsAny(d, "*?/@$!: ") {
			return nil, setting.Keyf(fmt.Sprintf("rules.local[%d]", i+1), "%q is not a domain: expected \"example.org\", or \".example.org\" for those below it", d)
		}
		if name = address.Domain(name); below {
			name = "." + name
		}
		if err := domains.Add(name); err != nil {
			return nil, setting.Keyf(fmt.Sprintf("rules.local[%d]", i+1), "%w", err)
		}
	}
	return func(ctx context.Context, domain string) (bool, error) {
		if domain == "" {
			return true, nil
		}
		return domains.Host(ctx, domain)
	}, nil
}
