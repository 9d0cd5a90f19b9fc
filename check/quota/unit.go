// SPDX-License-Identifier: BSD-2-Clause

package quota

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"rcptgate"
	"rcptgate/check/quota/directory"
	"rcptgate/check/quota/room"
	"rcptgate/check/quota/source"
	"rcptgate/check/quota/wire"
	"rcptgate/config"
	"rcptgate/config/setting"
	"rcptgate/kit/keyfile"
	"rcptgate/metric"
	"rcptgate/route"
	"rcptgate/store"
	"rcptgate/unit"
	"rcptgate/view"
)

// Unit is the check.
func Unit() unit.Unit {
	return unit.Unit{Name: "quota", Open: open, Tables: append([]view.Table{sourcesTable(), mailboxesTable()}, directory.Tables()...), Parts: []config.Part{
		{Section: "quota", Doc: "whether there is room for the message in the mailbox", Defaults: DefaultConfig()},
		{Section: "domain", Repeated: true, Defaults: DomainConfig{}},
	}}
}

func open(env *unit.Env) (unit.Live, error) {
	state := NewState(unit.Part[Config](env.Host.Config()).Mailboxes, env.Notices)
	ldap := directory.NewState(env.Notices)
	var next pending
	return unit.Live{
		Build: func(s *unit.Setup) error {
			var err error
			next, err = build(s, state, ldap)
			return err
		},
		Adopt: func(*unit.Config) {
			state.sources.Configure(next.settings)
			ldap.Adopt(next.directory)
		},
		Forget: func(p store.Pattern) {
			ldap.Forget(p)
			state.Forget(p)
		},
		Close:   func() error { state.Close(); return nil },
		Metrics: append(metrics(state), ldap.Metrics()...),
		Show:    func() []view.Table { return append(show(state), ldap.Show()...) },
	}, nil
}

// pending is what a configuration that is on its way in changes in what outlives it.
type pending struct {
	settings  source.Settings
	directory *directory.Directory // nil: none is configured
}

// build adds the step to a configuration, where a source is configured.
func build(s *unit.Setup, state *State, ldap *directory.State) (next pending, err error) {
	cfg := unit.Part[Config](s.Config)
	if next.settings, err = readKeys(cfg); err != nil {
		return next, err
	}
	o := Options{
		Config: *cfg, Domains: unit.Domains[DomainConfig](s.Config), Router: s.Router, FoldCase: s.FoldCase, Delimiter: s.Router.Delimiter(), State: state,
	}
	for _, d := range unit.Domains[route.DomainConfig](s.Config) {
		o.RejectFull = append(o.RejectFull, d.RejectsFull())
	}
	if cfg.LDAP.Enabled() {
		if next.directory, err = ldap.Open(&cfg.LDAP); err != nil {
			return next, below("quota.ldap", err)
		}
		s.Defer(next.directory.Close)
		o.Directory = next.directory
	}
	check, err := New(o)
	if err == nil && check.Active() {
		s.Step(rcptgate.StageRcpt, rcptgate.Step{Name: stepName, Check: check, OnError: check.onError})
	}
	return next, err
}

func readKeys(cfg *Config) (source.Settings, error) {
	next := source.Settings{Timeout: cfg.Timeout.Std(), Root: cfg.DoveadmRoot}
	if cfg.KeyFile != "" {
		keys, err := wire.LoadKeys(cfg.KeyFile)
		if err != nil {
			return next, setting.Keyf("quota.key_file", "%w", err)
		}
		next.Keys = keys
	}
	if cfg.DoveadmKey != "" {
		text, err := keyfile.Read(cfg.DoveadmKey)
		if err != nil {
			return next, setting.Keyf("quota.doveadm_key_file", "%w", err)
		}
		next.Doveadm = strings.TrimSpace(string(text))
	}
	return next, nil
}

// below says in which section the key of err stands.
func below(section string, err error) error {
	var key *setting.KeyError
	if errors.As(err, &key) {
		return &setting.KeyError{Key: section + "." + key.Key, Err: key.Err}
	}
	return fmt.Errorf("[%s]: %w", section, err)
}

func metrics(s *State) []metric.Family {
	perSource := func(kind metric.Kind, name, help string, of func(*source.Guarded, *source.Health) float64) metric.Family {
		return metric.Family{Kind: kind, Name: name, Help: help, Labels: []string{"source"}, Read: func(emit metric.Emit) {
			for _, g := range s.sources.All() {
				h := g.Health()
				emit(of(g, &h), g.Name)
			}
		}}
	}
	return []metric.Family{
		{Kind: metric.Counter, Name: "quota_questions_total", Help: "Questions to quota sources, by what came of them.", Labels: []string{"source", "result"}, Read: func(emit metric.Emit) {
			for _, g := range s.sources.All() {
				for result, n := range g.Health().Counts {
					emit(float64(n), g.Name, result)
				}
			}
		}},
		{Kind: metric.Histogram, Name: "quota_seconds", Help: "How long quota sources took for their answers.", Labels: []string{"source"}, Fill: func(emit metric.EmitBuckets) {
			for _, g := range s.sources.All() {
				emit(g.Times(), g.Name)
			}
		}},
		perSource(metric.Gauge, "quota_up", "1: the source answers.", func(_ *source.Guarded, h *source.Health) float64 { return metric.Bool(h.Up) }),
		perSource(metric.Gauge, "quota_held", "1: refusals by the source are held back, because too many mailboxes are full at once.", func(g *source.Guarded, _ *source.Health) float64 {
			return metric.Bool(g.Storm.Held())
		}),
		{Kind: metric.Counter, Name: "quota_memory_total", Help: "Questions to the memory of the quota check: served from it; asked of a source; early, asked before the remembered answer ended, because of the message's size or of what was let through; joined to a question in progress; busy, neither because too many were; late, no answer in time.", Labels: []string{"result"}, Read: func(emit metric.Emit) {
			emit(float64(s.known.Served()+s.unknown.Served()), "served")
			emit(float64(s.count.asked.Load()), "asked")
			emit(float64(s.count.early.Load()), "early")
			emit(float64(s.count.joined.Load()), "joined")
			emit(float64(s.count.busy.Load()), "busy")
			emit(float64(s.count.late.Load()), "late")
		}},
		{Kind: metric.Counter, Name: "quota_refused_total", Help: "Recipients refused for want of room.", Labels: []string{"why"}, Read: func(emit metric.Emit) {
			emit(float64(s.count.full.Load()), "full")
			emit(float64(s.count.tooLarge.Load()), "too-large")
		}},
		metric.Count("quota_refusals_held_total", "Refusals held back because the source says of too many mailboxes that they are full.", func() float64 { return float64(s.count.held.Load()) }),
		{Kind: metric.Counter, Name: "quota_implausible_total", Help: "Answers with numbers that were not believed.", Labels: []string{"why"}, Read: func(emit metric.Emit) {
			emit(float64(s.count.implausible.Load()), "numbers")
			emit(float64(s.count.shrunk.Load()), "shrunk")
		}},
		metric.Count("quota_bad_mac_total", "Replies to signed questions that were not believed: without a MAC, with a wrong one, or about something else.", func() (n float64) {
			for _, g := range s.sources.All() {
				n += float64(g.Health().BadMAC)
			}
			return n
		}),
		metric.Level("quota_mailboxes", "Mailboxes of which an answer is remembered.", func() float64 { return float64(s.known.Len()) }),
	}
}

// maxShown bounds the mailboxes that are listed.
const maxShown = 100

// show is the sources, and the mailboxes that have little room left.
func show(s *State) []view.Table {
	all := s.sources.All()
	if len(all) == 0 {
		return nil
	}
	sources := sourcesTable()
	for _, g := range all {
		h := g.Health()
		attention, matter := "", "quota: "+g.Name
		switch {
		case g.Storm.Held():
			matter = "quota: storm " + g.Name
			attention = "quota source " + g.Name + " reports too many mailboxes as full: its refusals are held back"
		case !h.Up:
			attention = "quota source " + g.Name + " does not answer: " + h.Error
		}
		sources.Add(attention, g.Name, h.Up, h.Counts["room"], h.Counts["full"], h.Counts["unknown"], h.Counts["error"], h.Counts["timeout"], g.Storm.Held(), h.Error)
		sources.About(matter)
	}
	type row struct {
		key string
		room.Known
	}
	var rows []row
	s.known.Range(func(key []byte, e *room.Entry) {
		if k := e.Known(); k.Numbers && !k.NoLimit && k.Used >= k.Soft {
			rows = append(rows, row{string(key), k})
		}
	})
	slices.SortFunc(rows, func(x, y row) int { return strings.Compare(x.key, y.key) })
	nearly := mailboxesTable()
	for _, r := range rows {
		nearly.Add("", r.key, r.Used, r.Hard, fmt.Sprintf("%d%%", 100*r.Used/max(r.Hard, 1)), s.clock.Time(r.Asked))
	}
	nearly.Limit(maxShown)
	return []view.Table{sources, nearly}
}

// sourcesTable is the table "quota" without rows.
func sourcesTable() view.Table {
	return view.Table{
		Name: "quota", Title: "Quota sources",
		Doc: "the sources of [quota]; shown if there is one",
		Columns: view.Explained(
			"source", "Source", "as in the configuration",
			"up", "Answers", "no: it failed and is left alone for a while",
			"room", "Room", "answers that there is room",
			"full", "Full", "answers that the mailbox is full",
			"unknown", "Unknown", "answers that the source does not know the mailbox",
			"errors", "Errors", "questions that failed",
			"timeouts", "Timeouts", "questions that were not answered in time",
			"held", "Held back", "yes: it says of too many mailboxes that they are full, so that its refusals are not believed in the meantime",
			"error", "Error", "the last failure",
		),
	}
}

// mailboxesTable is the table "quota-mailboxes" without rows.
func mailboxesTable() view.Table {
	return view.Table{
		Name: "quota-mailboxes", Title: "Mailboxes above their soft limit", Empty: "none that were asked about",
		Doc: "mailboxes that have little room left, of those that were asked about",
		Columns: view.Explained(
			"mailbox", "Mailbox", "its address",
			"used", "Used", "octets in it",
			"limit", "Limit", "octets that it may hold",
			"share", "Share", "used, in percent of the limit",
			"asked", "Asked", "when the source was asked",
		),
	}
}
