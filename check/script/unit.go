// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"rcptgate"
	"rcptgate/check/script/keep"
	"rcptgate/check/script/star"
	"rcptgate/config"
	"rcptgate/config/setting"
	"rcptgate/table"
	"rcptgate/table/pool"
	"rcptgate/unit"
	"rcptgate/view"
)

// stepName is the step's name in traces.
const stepName = "script"

// Unit is the check.
func Unit() unit.Unit {
	return unit.Unit{
		Name: "script", Open: openUnit, Commands: commands, Tables: []view.Table{scriptTable(), keptTable()},
		Reasons: []rcptgate.ReasonDoc{{Reason: star.Reason, Doc: "the script says so"}},
		Parts:   []config.Part{{Section: "script", Doc: "the postmaster's own program, in Starlark: docs/script.md", Defaults: DefaultConfig()}},
	}
}

// live is what outlives configurations.
type live struct {
	env    *unit.Env
	keep   *keep.Keep // nil until the first configuration with a script
	report *reporter
	active atomic.Pointer[Program]
}

func openUnit(env *unit.Env) (unit.Live, error) {
	u := &live{env: env, report: newReporter(env.Log, env.Notices)}
	return unit.Live{
		Build: u.build,
		Adopt: func(c *unit.Config) {
			u.active.Store(programOf(c))
			u.report.renewed()
		},
		Warn: func(*unit.Config) []string { return u.warnings() },
		Close: func() error {
			if u.keep == nil { // opened, and never built
				return nil
			}
			return u.keep.Close()
		},
		Metrics: u.report.metrics(),
		Show: func() []view.Table {
			if u.active.Load() == nil {
				return nil
			}
			return u.show()
		},
	}, nil
}

// part has the program of a configuration, for Adopt and for commands.
type part struct {
	program *Program
	env     *star.Env // also where there is no script, for tests of one
}

// build compiles the script and adds its steps to a configuration.
func (u *live) build(s *unit.Setup) error {
	cfg := unit.Part[Config](s.Config)
	if u.keep == nil {
		u.keep = keep.New(u.keeping(s))
	}
	cfg.part = &part{env: u.words(s)}
	if cfg.File == "" {
		return nil
	}
	p, err := compile(*cfg, options{env: cfg.part.env, report: u.report})
	switch {
	case err != nil && cfg.named:
		return &unusableError{err}
	case err != nil:
		return &setting.KeyError{Key: "script.file", Err: err}
	}
	s.Defer(p.close)
	cfg.part.program = p
	s.Function = func(name string) (rcptgate.Check, bool) {
		f := p.functions[name]
		p.ruled[name] = true
		if f == nil && cfg.named {
			return rcptgate.CheckFunc(func(context.Context, *rcptgate.Query) (rcptgate.Verdict, error) { return rcptgate.Verdict{}, nil }), true
		}
		if f == nil || f.f.NumParams() != 1 || f.f.HasVarargs() || f.f.HasKwargs() {
			return nil, false
		}
		return mild{f}, true
	}
	for _, h := range hooks {
		if f := p.functions[h.name]; f != nil {
			s.Step(h.stage, rcptgate.Step{Name: stepName, Check: f, OnError: p.onError()})
		}
	}
	s.Want(p.wants())
	if cfg.Tests {
		s.Verify(func(ctx context.Context) error { return verifyTests(ctx, *cfg) })
	}
	return nil
}

// keeping says where memories are kept.
func (u *live) keeping(s *unit.Setup) keep.Options {
	o := keep.Options{Log: u.env.Log}
	if !u.env.Host.IsOffline() {
		o.Dir = s.Core().State
	}
	if u.env.Shared != nil {
		o.Shared = u.env.Shared
	}
	return o
}

// onError is the verdict for a call that failed.
func (p *Program) onError() func(*rcptgate.Query, error) rcptgate.Verdict {
	if p.config.OnError == "continue" {
		return func(*rcptgate.Query, error) rcptgate.Verdict { return rcptgate.Verdict{} }
	}
	return nil // CouldNotFindOut
}

// mild is a function for rules: a failure is what on_error says.
type mild struct{ *function }

// Check calls the function.
func (m mild) Check(ctx context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
	v, err := m.function.Check(ctx, q)
	if err != nil && m.p.config.OnError == "continue" {
		return rcptgate.Verdict{}, nil
	}
	return v, err
}

// words are what a script of a configuration works with.
func (u *live) words(s *unit.Setup) *star.Env {
	var rest rcptgate.Check
	s.Finish(func() error { rest = s.After(stepName); return nil })
	return &star.Env{
		Language: s.Language,
		Table: func(spec table.Spec) (table.Table, error) {
			return s.Table(pool.Use{Name: "map"}, spec)
		},
		Blocklist: func(name string) rcptgate.Blocklist { return s.Blocklists[name] },
		Keep:      u.keep,
		Trusted:   func(client netip.Addr) bool { return s.Trusted != nil && s.Trusted(client) },
		Exists: func(ctx context.Context, q *rcptgate.Query) rcptgate.Verdict {
			if rest == nil {
				return rcptgate.Verdict{}
			}
			v, _ := rest.Check(ctx, q.Again()) // a chain's error is always nil
			return v
		},
		Scan: s.Scan, DNS: s.Router, Now: time.Now, Log: star.NewLog(u.env.Log),
	}
}

func programOf(c *unit.Config) *Program {
	if p := unit.Part[Config](c).part; p != nil {
		return p.program
	}
	return nil
}

// warnings are what is probably a mistake in the active script.
func (u *live) warnings() (list []string) {
	p := u.active.Load()
	if p == nil {
		return nil
	}
	for _, w := range p.warnings() {
		list = append(list, "[script] "+w)
	}
	return list
}

// warnings are what is probably a mistake.
func (p *Program) warnings() []string {
	list := append(slices.Clone(p.lint.warnings), p.uncalled()...)
	for _, m := range p.files {
		if info, err := os.Stat(m.path); err == nil && info.Mode().Perm()&0o022 != 0 {
			list = append(list, fmt.Sprintf("%s: others than its owner may write it (mode %v)", m.path, info.Mode().Perm()))
		}
	}
	return list
}

// show describes the script: its calls, its counters and memories.
func (u *live) show() []view.Table {
	tables := []view.Table{u.report.show()}
	kept := keptTable()
	for _, s := range u.keep.Stats() {
		kept.Add("", s.Name, s.Kind, s.Entries, s.Max, s.Where, s.Failed)
	}
	if len(kept.Rows) > 0 {
		tables = append(tables, kept)
	}
	return tables
}

// keptTable is the table "script-memory" without rows.
func keptTable() view.Table {
	return view.Table{
		Name: "script-memory", Title: "Counters and memories of the script", Empty: "none",
		Doc: "what the script keeps; shown if it keeps anything",
		Columns: view.Explained(
			"name", "Name", "as in the script",
			"kind", "Kind", "counter or memory",
			"entries", "Entries", "keys that it holds",
			"max", "At most", "most keys that it holds",
			"where", "Where", "ram, disk or memcached",
			"failed", "Failed", "questions to memcached that failed",
		),
	}
}
