// SPDX-License-Identifier: BSD-2-Clause

package pool

import (
	"time"

	"rcptgate/metric"
	"rcptgate/view"
)

// Metrics are about every file in use.
func (p *Pool) Metrics() []metric.Family {
	per := func(kind metric.Kind, name, help string, of func(*State) float64) metric.Family {
		return metric.Family{Kind: kind, Name: name, Help: help, Labels: []string{"table", "use"}, Read: func(emit metric.Emit) {
			for _, s := range p.States() {
				emit(of(&s), s.Spec.String(), s.Use)
			}
		}}
	}
	return []metric.Family{
		per(metric.Gauge, "table_current", "1: the active content is the file as it is; 0: the file cannot be read, or is being rebuilt.", func(s *State) float64 {
			return metric.Bool(s.Err == nil && s.Readable())
		}),
		per(metric.Gauge, "table_entries", "Active entries.", func(s *State) float64 { return float64(s.Entries) }),
		per(metric.Gauge, "table_bytes", "Memory of a table.", func(s *State) float64 { return float64(s.Octets) }),
		per(metric.Gauge, "table_modified_seconds", "Time stamp of the file whose content is active; 0: none is.", func(s *State) float64 {
			return seconds(s.Modified)
		}),
		per(metric.Counter, "table_loads_total", "Contents that became active.", func(s *State) float64 { return float64(s.Loads) }),
		per(metric.Counter, "table_failures_total", "Readings that failed.", func(s *State) float64 { return float64(s.Failures) }),
	}
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// Show lists the files; one that cannot be read needs a person.
func (p *Pool) Show() []view.Table {
	t := Table()
	for _, s := range p.States() {
		state, attention := "current", ""
		if s.Err != nil {
			state = s.Err.Error()
			attention = "table " + s.String()
		}
		t.Add(attention, s.Spec.String(), s.Use, s.Entries, s.Modified, state)
	}
	return []view.Table{t}
}

// Table is what Show gives, without rows.
func Table() view.Table {
	return view.Table{
		Name: "tables", Title: "The MTA's tables", Empty: "no tables are configured",
		Doc: "map files of the MTA, and lists and tables of rules",
		Columns: view.Explained(
			"table", "Table", "type and file",
			"use", "Read for", "the setting that names it",
			"entries", "Entries", "entries of the content that is active",
			"modified", "Written", "time stamp of the file whose content is active",
			"state", "State", "current, or why the file is not: then the last content that could be read stays active",
		),
	}
}
