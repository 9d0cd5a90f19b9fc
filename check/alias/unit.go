// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"context"
	"errors"
	"time"

	"rcptgate"
	"rcptgate/config"
	"rcptgate/config/setting"
	"rcptgate/metric"
	"rcptgate/names"
	"rcptgate/store"
	"rcptgate/store/memcached"
	"rcptgate/table"
	"rcptgate/table/pool"
	"rcptgate/unit"
)

// Unit is the check.
func Unit() unit.Unit {
	return unit.Unit{Name: "aliases", Open: openUnit, Parts: []config.Part{
		{Section: "aliases", Doc: "local names: the MTA's own tables, read as they are on disk", Defaults: DefaultConfig()},
	}}
}

// KnowsLocalNames reports whether names without a domain are looked up.
func (c *Config) KnowsLocalNames() bool { return c.Active() }

// Published gives the alias databases of this machine whose names are published (package
// names), in the setup that was built of the Config.
func (c *Config) Published() (use string, specs []table.Spec) {
	if c.Publish && c.effective != nil {
		specs = c.effective.Real()
	}
	return UseAliases.String(), specs
}

func openUnit(env *unit.Env) (unit.Live, error) {
	published := names.NewReader(noNames{})
	var families []metric.Family
	if env.Shared != nil {
		published = names.NewReader(memcached.NewNames(env.Shared))
		families = published.Metrics()
	}
	return unit.Live{Metrics: families, Build: func(s *unit.Setup) error { return build(s, published) }}, nil
}

// build adds the step to a configuration.
func build(s *unit.Setup, published Published) error {
	cfg := unit.Part[Config](s.Config)
	if err := cfg.needsServers(unit.Part[memcached.Config](s.Config)); err != nil {
		return err
	}
	if !cfg.Active() {
		return nil
	}
	eff, err := cfg.Effective()
	if err != nil {
		return err
	}
	check, err := New(Options{Config: *cfg, Effective: eff, Router: s.Router, Published: published, Open: func(use Use, spec table.Spec) (table.Table, error) {
		return s.Table(use.pool(), spec)
	}})
	if err == nil {
		cfg.effective = eff
		s.Follow(unit.Followed{Section: "aliases", Source: eff.Source, Again: eff.again})
		s.Local = check.Local
		s.Step(rcptgate.StageRcpt, rcptgate.Step{Name: "aliases", Check: check})
	}
	return err
}

// pool is the use as the pool of tables has it.
func (u Use) pool() pool.Use {
	format, _ := NamesFormat(u)
	return pool.Use{Name: u.String(), Aliases: u == UseAliases, Format: format}
}

// needsServers holds that names are shared only where there is a memcached.
func (c *Config) needsServers(shared *memcached.Config) error {
	if shared.Active() {
		return nil
	}
	var errs []error
	if c.Reads() {
		errs = append(errs, setting.Keyf("aliases.files", "\"memcached:\" needs servers, and memcached in [cache] is empty"))
	}
	if c.Publish {
		errs = append(errs, setting.Keyf("aliases.publish", "publishing needs servers, and memcached in [cache] is empty"))
	}
	return errors.Join(errs...)
}

// noNames are those that are shared where no memcached is configured: a reload that
// names one needs a restart, and until then they are unknown.
type noNames struct{}

var errNoNames = errors.New("no memcached was configured when the daemon started")

func (noNames) Find(context.Context, []string) (map[string]store.Name, error) { return nil, errNoNames }
func (noNames) Publish(context.Context, string, store.Name) error             { return errNoNames }
func (noNames) Withdraw(context.Context, string) error                        { return errNoNames }
func (noNames) Down() bool                                                    { return true }
func (noNames) Survey(context.Context, string, time.Duration) (store.Survey, error) {
	return store.Intact, errNoNames
}
