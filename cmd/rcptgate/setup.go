// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"fmt"
	"log/slog"
	"time"

	"rcptgate"
	"rcptgate/backend"
	"rcptgate/check/alias"
	"rcptgate/check/callahead"
	"rcptgate/check/scope"
	"rcptgate/route"
	"rcptgate/table"
)

// base is what outlives a configuration: connections and breakers, remembered
// answers, probes in progress.
type base struct {
	backends *backend.Set
	memory   callahead.Memory
	probes   *callahead.State
	tables   *tables
	names    *aliasNames
	log      *slog.Logger
	patience time.Duration // what one answer may wait for memory that gateways share
}

// newSetup builds the chain that a configuration describes. The order of the steps
// is fixed, because it matters and users would get it wrong.
func newSetup(cfg *Config, b base, observers ...rcptgate.Observer) (rcptgate.Setup, error) {
	routes, asks := cfg.domainParts()
	files := b.tables.lease()
	maps, err := openMaps(&cfg.Routes, files)
	if err != nil {
		files.release()
		return rcptgate.Setup{}, err
	}
	router, err := route.New(route.Options{
		Domains: routes, Maps: maps, Delimiter: cfg.Routes.Delimiter, FollowMTA: cfg.FollowMTA, Enforce: cfg.Enforce, Hostname: cfg.Hostname, Set: b.backends,
	})
	if err != nil {
		files.release()
		return rcptgate.Setup{}, err
	}
	down := func() { router.Close(); files.release() }
	existence, err := callahead.New(callahead.Options{
		Config: cfg.Callahead, Lives: cfg.Cache.Lives, Domains: asks,
		Hostname: cfg.Hostname, Router: router, Memory: b.memory, State: b.probes, Log: b.log,
	})
	if err != nil {
		down()
		return rcptgate.Setup{}, err
	}
	steps := []rcptgate.Step{{Name: "scope", Check: &scope.Check{Trusted: cfg.Trusted}}}
	if cfg.Aliases.Active() {
		local, err := alias.New(alias.Options{Config: cfg.Aliases, Router: router, Open: files.open, Published: b.names.table()})
		if err != nil {
			down()
			return rcptgate.Setup{}, err
		}
		steps = append(steps, rcptgate.Step{Name: "aliases", Check: local})
	}
	steps = append(steps, rcptgate.Step{Name: "existence", Check: existence})
	chain := &rcptgate.Chain{Deadline: cfg.Deadline.Std(), Patience: b.patience, Rehearse: router.Rehearse, Steps: steps}
	return rcptgate.Setup{
		Chains:    [rcptgate.StageCount]rcptgate.Check{rcptgate.StageRcpt: chain},
		Rehearse:  router.Rehearse,
		Observers: observers,
		Close:     down,
	}, nil
}

// openMaps opens the MTA's maps of next hops.
func openMaps(cfg *route.TablesConfig, files *lease) (maps []route.Map, err error) {
	for _, group := range []struct {
		specs     []table.Spec
		addresses bool
	}{{cfg.Mailertable, false}, {cfg.TransportMaps, true}} {
		for _, spec := range group.specs {
			t, err := files.open(alias.UseMap, spec)
			if err != nil {
				return nil, fmt.Errorf("[routes]: %w", err)
			}
			maps = append(maps, route.Map{Table: t, Addresses: group.addresses})
		}
	}
	return maps, nil
}

// buildWith builds what a configuration describes beside the tables given, calls look
// and takes it down again.
func buildWith(cfg *Config, files *tables, look func()) error {
	b := base{
		backends: backend.NewSet(cfg.Callahead.Config, cfg.Hostname, slog.New(slog.DiscardHandler)),
		memory:   nowhere{},
		probes:   callahead.NewState(nil),
		tables:   files,
		log:      slog.New(slog.DiscardHandler),
	}
	defer b.probes.Close()
	defer b.backends.Close()
	setup, err := newSetup(cfg, b)
	if err != nil {
		return err
	}
	look()
	setup.Close()
	return nil
}
