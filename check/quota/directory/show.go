// SPDX-License-Identifier: BSD-2-Clause

package directory

import (
	"rcptgate/metric"
	"rcptgate/view"
)

// status is what there is to say of one server.
type status struct {
	name, why     string
	matter        string // of the notice that it does not answer
	up, connected bool
	asked, failed uint64
}

func (s *server) status() status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return status{name: s.name, why: s.why, matter: s.key, up: s.until.IsZero(), connected: s.link != nil && !s.link.IsClosing(), asked: s.asked.Load(), failed: s.failed.Load()}
}

// servers are those of the active configuration.
func (s *State) servers() (out []status) {
	if d := s.current.Load(); d != nil {
		for _, one := range d.servers {
			out = append(out, one.status())
		}
	}
	return out
}

func (s *State) remembered() (found, empty int) {
	if d := s.current.Load(); d != nil {
		return d.memory.len()
	}
	return 0, 0
}

// Metrics are the counters of the LDAP directory.
func (s *State) Metrics() []metric.Family {
	c := &s.counts
	return []metric.Family{
		{Kind: metric.Counter, Name: "quota_ldap_memory_total", Help: "Questions to the directory, by how they were answered.", Labels: []string{"result"}, Read: func(emit metric.Emit) {
			emit(float64(c.served.Load()), "served")
			emit(float64(c.stale.Load()), "stale")
			emit(float64(c.asked.Load()), "asked")
			emit(float64(c.joined.Load()), "joined")
			emit(float64(c.busy.Load()), "busy")
		}},
		{Kind: metric.Counter, Name: "quota_ldap_lookups_total", Help: "LDAP look-ups, by what they found.", Labels: []string{"result"}, Read: func(emit metric.Emit) {
			emit(float64(c.found.Load()), "found")
			emit(float64(c.none.Load()), "none")
			emit(float64(c.several.Load()), "several")
			emit(float64(c.failed.Load()), "error")
		}},
		metric.Count("quota_ldap_odd_total", "LDAP entries with values that cannot be used.", func() float64 { return float64(c.odd.Load()) }),
		metric.Count("quota_ldap_refreshes_total", "Look-ups in the background for remembered entries.", func() float64 { return float64(c.refreshed.Load()) }),
		metric.Count("quota_ldap_refreshes_dropped_total", "Refreshes that found no place to wait.", func() float64 { return float64(c.dropped.Load()) }),
		metric.Level("quota_ldap_entries", "Mailboxes whose entry is remembered.", func() float64 { n, _ := s.remembered(); return float64(n) }),
		metric.Each(metric.Gauge, "quota_ldap_up", "1 if the LDAP server is asked, 0 while it rests after failures.", "server", s.servers,
			func(o *status) (float64, string) { return metric.Bool(o.up), o.name }),
		metric.Each(metric.Counter, "quota_ldap_server_errors_total", "Searches and connections that failed.", "server", s.servers,
			func(o *status) (float64, string) { return float64(o.failed), o.name }),
	}
}

// Show is a table of the servers; none without a directory.
func (s *State) Show() []view.Table {
	if s.current.Load() == nil {
		return nil
	}
	t := serversTable()
	for _, o := range s.servers() {
		attention := ""
		if !o.up {
			attention = "LDAP server " + o.name + " does not answer"
		}
		t.Add(attention, o.name, o.up, o.connected, o.asked, o.failed, o.why)
		t.About(o.matter)
	}
	found, empty := s.remembered()
	c := &s.counts
	m := memoryTable()
	m.Add("", found, empty, c.served.Load(), c.stale.Load(), c.asked.Load(), c.refreshed.Load())
	return []view.Table{t, m}
}

// serversTable is the table "ldap" without rows.
func serversTable() view.Table {
	return view.Table{
		Name: "ldap", Title: "LDAP servers",
		Doc: "the servers of [quota.ldap]; shown if there is one",
		Columns: view.Explained(
			"server", "Server", "its address",
			"up", "Up", "no: it failed and is left alone for a while",
			"connected", "Connected", "connections open now",
			"asked", "Asked", "searches",
			"failed", "Failed", "searches and connections that failed",
			"error", "Last error", "the last failure",
		),
	}
}

// memoryTable is the table "ldap-memory" without rows.
func memoryTable() view.Table {
	return view.Table{
		Name: "ldap-memory", Title: "LDAP entries remembered",
		Doc: "what is remembered of the directory",
		Columns: view.Explained(
			"entries", "Entries", "mailboxes whose entry is remembered",
			"absent", "Without entry", "addresses that have no entry",
			"served", "Served", "answers from memory",
			"stale", "Served stale", "of these, answers past their time, given because no server answered",
			"asked", "Asked", "searches",
			"refreshed", "Refreshed", "searches in the background, so that nobody waits when an answer ends",
		),
	}
}

// Tables are what Show gives, without rows.
func Tables() []view.Table { return []view.Table{serversTable(), memoryTable()} }
