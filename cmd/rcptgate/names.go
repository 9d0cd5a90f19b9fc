// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"rcptgate/check/alias"
	"rcptgate/config/setting"
	"rcptgate/store"
	"rcptgate/store/memcached"
	"rcptgate/table"
	"rcptgate/telemetry"
)

// aliasNames are the names of alias databases that gateways share: those that others
// publish, and those that this one does. A nil one knows none and publishes none.
type aliasNames struct {
	published *alias.Published
	publisher *alias.Publisher // nil: there is no shared memory

	reads, publishes atomic.Bool // what the configuration in force asks for
}

// newAliasNames makes them of what is shared; of nil, nothing is ever found.
func newAliasNames(s *shared, log *slog.Logger) *aliasNames {
	if s == nil {
		return new(aliasNames)
	}
	names := memcached.NewNames(s.client)
	return &aliasNames{published: alias.NewPublished(names), publisher: alias.NewPublisher(alias.PublisherOptions{Names: names, Log: log})}
}

// table gives the names that others publish.
func (n *aliasNames) table() *alias.Published {
	if n == nil || n.published == nil {
		return alias.NewPublished(noNames{})
	}
	return n.published
}

// offlineNames are those that others publish, for a command; close gives them back.
func offlineNames(l *loaded) (names *aliasNames, closeNames func(), err error) {
	if !l.Cache.Active() || !l.Aliases.Reads() {
		return nil, func() {}, nil
	}
	client, err := memcached.NewClient(l.Cache.MemcachedConfig, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, exitWith(exitConfig, l.file.Place(inCache(err)))
	}
	return &aliasNames{published: alias.NewPublished(memcached.NewNames(client))}, func() { _ = client.Close() }, nil
}

// noNames are those that are shared where no memcached is configured: a reload that
// names one needs a restart, and until then nobody can be asked.
type noNames struct{}

var errNoNames = errors.New("no memcached was configured when the daemon started")

func (noNames) Find(context.Context, []string) (map[string]store.Name, error) { return nil, errNoNames }
func (noNames) Publish(context.Context, string, store.Name) error             { return errNoNames }
func (noNames) Withdraw(context.Context, string) error                        { return errNoNames }
func (noNames) Down() bool                                                    { return true }
func (noNames) Survey(context.Context, string, time.Duration) (store.Survey, error) {
	return store.Intact, errNoNames
}

// validateNames holds that names are shared only where there is a memcached.
func (c *Config) validateNames() error {
	if c.Cache.Active() {
		return nil
	}
	var errs []error
	if c.Aliases.Reads() {
		errs = append(errs, setting.Keyf("aliases.files", "\"memcached:\" needs servers: memcached in [cache] is empty"))
	}
	if c.Aliases.Publish {
		errs = append(errs, setting.Keyf("aliases.publish", "publishing needs servers: memcached in [cache] is empty"))
	}
	return errors.Join(errs...)
}

// publish puts in force whose names are published.
func (d *daemon) publish(cfg *Config) {
	d.names.reads.Store(cfg.Aliases.Reads())
	d.names.publishes.Store(cfg.Aliases.Publish)
	if d.names.publisher == nil {
		return
	}
	var tables []alias.Content
	if cfg.Aliases.Publish {
		tables = d.tables.contents(cfg.Aliases.Real())
	}
	d.names.publisher.Publish(tables)
}

// contents gives the alias databases of a configuration that is in force.
func (t *tables) contents(specs []table.Spec) (list []alias.Content) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, spec := range specs {
		if f := t.files[tableName{alias.UseAliases, spec}]; f != nil {
			list = append(list, f.Live)
		}
	}
	return list
}

// places describes everywhere that something is remembered, names of others and names
// for others too.
func (d *daemon) places() []store.Stats {
	list := d.memory.Stats()
	if d.names.published != nil && d.names.reads.Load() {
		st := d.names.published.Stats()
		st.Detail = "copies of names that other gateways publish"
		list = append(list, st)
	}
	if d.names.publisher != nil && d.names.publishes.Load() {
		list = append(list, publishedPlace(d.names.publisher.Status()))
	}
	return list
}

// publishedPlace is a publisher as a place: its entries are the names in memcached, and
// its capacity those that should be there.
func publishedPlace(st alias.PublishStatus) store.Stats {
	round := "none yet"
	if !st.Round.IsZero() {
		round = when(st.Round)
	}
	return store.Stats{
		Name: "published", Entries: int64(st.Published), Capacity: int64(st.Of), Errors: st.Failed,
		Detail: fmt.Sprintf("alias names for other gateways: %s; last complete round %s; %d written, %d taken out, lost %s", st.State, round, st.Written, st.Removed, count(int(st.Losses), "time")), //nolint:gosec // small
	}
}

// registerNames makes metrics of the names that gateways share.
func (d *daemon) registerNames(number registrar) {
	if p := d.names.publisher; p != nil {
		of := func(f func(s *alias.PublishStatus) float64) func() float64 {
			return func() float64 { st := p.Status(); return f(&st) }
		}
		number(telemetry.Gauge, "published_names", "Alias names that are in memcached for other gateways, as far as is known.", of(func(s *alias.PublishStatus) float64 { return float64(s.Published) }))
		number(telemetry.Gauge, "published_names_wanted", "Alias names that should be there.", of(func(s *alias.PublishStatus) float64 { return float64(s.Of) }))
		number(telemetry.Gauge, "published_round_seconds", "When all of them were last written; 0: never.", of(func(s *alias.PublishStatus) float64 {
			if s.Round.IsZero() {
				return 0
			}
			return float64(s.Round.UnixMilli()) / 1000
		}))
		number(telemetry.Counter, "published_written_total", "Alias names written to memcached.", of(func(s *alias.PublishStatus) float64 { return float64(s.Written) }))
		number(telemetry.Counter, "published_removed_total", "Alias names taken out of memcached.", of(func(s *alias.PublishStatus) float64 { return float64(s.Removed) }))
		number(telemetry.Counter, "published_failed_total", "Alias names that could be neither written nor taken out.", of(func(s *alias.PublishStatus) float64 { return float64(s.Failed) }))
		number(telemetry.Counter, "published_losses_total", "Times that memcached had lost alias names.", of(func(s *alias.PublishStatus) float64 { return float64(s.Losses) }))
	}
	p := d.names.published
	if p == nil {
		return
	}
	of := func(f func(s *store.Stats) float64) func() float64 {
		return func() float64 { st := p.Stats(); return f(&st) }
	}
	number(telemetry.Counter, "names_hits_total", "Look-ups that found a name that another gateway publishes.", of(func(s *store.Stats) float64 { return float64(s.Hits) }))
	number(telemetry.Counter, "names_misses_total", "Look-ups that did not.", of(func(s *store.Stats) float64 { return float64(s.Misses) }))
	number(telemetry.Counter, "names_errors_total", "Look-ups for which memcached could not be asked.", of(func(s *store.Stats) float64 { return float64(s.Errors) }))
}

// publishedTable is the spelling of the names that other gateways publish.
const publishedTable = string(table.Memcached) + ":"

// getPublished prints what is published of a name, asking the servers that the
// configuration names.
func getPublished(cmd *cobra.Command, name string) error {
	l, err := loadConfig(cmd)
	if err != nil {
		return err
	}
	if !l.Cache.Active() {
		return exitWith(exitConfig, fmt.Errorf("%s: memcached in [cache] is empty: there is nobody to ask", l.source()))
	}
	client, err := memcached.NewClient(l.Cache.MemcachedConfig, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
	if err != nil {
		return exitWith(exitConfig, l.file.Place(inCache(err)))
	}
	defer client.Close() //nolint:errcheck // nothing is pending
	lower := strings.ToLower(name)
	found, err := memcached.NewNames(client).Find(cmd.Context(), []string{name, lower})
	for _, spelling := range []string{name, lower} {
		if n, ok := found[spelling]; ok {
			if n.Value == "" {
				n.Value = "taken (its targets are not shared)"
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), printable(n.Value))
			return outputError(err)
		}
	}
	if err != nil {
		return exitWith(exitTempfail, fmt.Errorf("%s %w", publishedTable, err))
	}
	return exitQuietly(exitUnknownUser)
}
