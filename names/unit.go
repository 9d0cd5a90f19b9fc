// SPDX-License-Identifier: BSD-2-Clause

package names

import (
	"context"
	"sync/atomic"

	"rcptgate/metric"
	"rcptgate/store"
	"rcptgate/store/memcached"
	"rcptgate/table"
	"rcptgate/unit"
	shown "rcptgate/view"
)

// Publishing is a part of the configuration that has tables whose names are published.
type Publishing interface {
	// Published gives them, and what they are read for (see [pool.Use]); none: nothing is
	// published.
	Published() (use string, specs []table.Spec)
}

// Unit is the background job that publishes the names of alias databases for gateways that
// do not have the files. It does nothing when nothing is shared.
func Unit() unit.Unit {
	return unit.Unit{Name: "names", Tables: []shown.Table{statusTable()}, Open: func(env *unit.Env) (unit.Live, error) {
		if env.Shared == nil {
			return unit.Live{}, nil
		}
		p := NewPublisher(PublisherOptions{Names: memcached.NewNames(env.Shared), Log: env.Log})
		var active atomic.Bool
		return unit.Live{
			Adopt: func(c *unit.Config) {
				tables := contents(env, c)
				active.Store(len(tables) > 0)
				p.Publish(tables)
			},
			Run:     func(ctx context.Context) { _ = p.Run(ctx) }, // it ends with the context's error only
			Metrics: p.metrics(),
			Show: func() []shown.Table {
				if !active.Load() {
					return nil
				}
				return []shown.Table{p.table()}
			},
		}, nil
	}}
}

// contents are the tables of a configuration that is active.
func contents(env *unit.Env, c *unit.Config) (list []Content) {
	for _, part := range c.Parts() {
		p, ok := part.(Publishing)
		if !ok {
			continue
		}
		use, specs := p.Published()
		for _, spec := range specs {
			if f := env.Tables.Find(use, spec); f != nil {
				list = append(list, f)
			}
		}
	}
	return list
}
func (p *Publisher) metrics() []metric.Family {
	of := func(f func(*PublishStatus) float64) func() float64 {
		return func() float64 { st := p.Status(); return f(&st) }
	}
	return []metric.Family{
		metric.Level("published_names", "Alias names that are in memcached for other gateways, as far as is known.", of(func(s *PublishStatus) float64 { return float64(s.Published) })),
		metric.Level("published_names_wanted", "Alias names that should be there.", of(func(s *PublishStatus) float64 { return float64(s.Of) })),
		metric.Level("published_round_seconds", "When all of them were last written; 0: never.", of(func(s *PublishStatus) float64 {
			if s.Round.IsZero() {
				return 0
			}
			return float64(s.Round.UnixMilli()) / 1000
		})),
		metric.Count("published_written_total", "Alias names written to memcached.", of(func(s *PublishStatus) float64 { return float64(s.Written) })),
		metric.Count("published_removed_total", "Alias names removed from memcached.", of(func(s *PublishStatus) float64 { return float64(s.Removed) })),
		metric.Count("published_failed_total", "Alias names that could be neither written nor removed.", of(func(s *PublishStatus) float64 { return float64(s.Failed) })),
		metric.Count("published_losses_total", "Times that memcached had lost alias names.", of(func(s *PublishStatus) float64 { return float64(s.Losses) })),
	}
}

func (p *Publisher) table() shown.Table {
	st := p.Status()
	t := statusTable()
	t.Add("", st.Published, st.Of, st.State, st.Round, st.Written, st.Removed, st.Failed, st.Losses)
	return t
}

// Metrics are about the names that other gateways publish.
func (r *Reader) Metrics() []metric.Family {
	of := func(f func(s *store.Stats) float64) func() float64 {
		return func() float64 { st := r.Stats(); return f(&st) }
	}
	return []metric.Family{
		metric.Count("names_hits_total", "Look-ups that found a name that another gateway publishes.", of(func(s *store.Stats) float64 { return float64(s.Hits) })),
		metric.Count("names_misses_total", "Look-ups that did not.", of(func(s *store.Stats) float64 { return float64(s.Misses) })),
		metric.Count("names_errors_total", "Look-ups for which memcached could not be asked.", of(func(s *store.Stats) float64 { return float64(s.Errors) })),
	}
}

// statusTable is the table "names" without rows.
func statusTable() shown.Table {
	return shown.Table{
		Name: "names", Title: "Alias names for other gateways",
		Doc: "local names published in memcached for other gateways; shown if some are",
		Columns: shown.Explained(
			"published", "Published", "names that are in memcached, as far as is known",
			"wanted", "Of", "names to publish",
			"state", "State", "what is being done",
			"round", "Last complete round", "when all names were last written or looked through",
			"written", "Written", "names written",
			"removed", "Removed", "names taken out because they are gone from the tables",
			"failed", "Failed", "names that could be neither written nor removed",
			"losses", "Losses", "times that memcached had lost names, and they were written again",
		),
	}
}
