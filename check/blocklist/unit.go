// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate"
	"rcptgate/config"
	"rcptgate/config/setting"
	"rcptgate/metric"
	"rcptgate/pattern"
	"rcptgate/route"
	"rcptgate/unit"
	"rcptgate/view"
)

// Unit is the check.
func Unit() unit.Unit {
	return unit.Unit{
		Name: "blocklist", Open: open, Ops: ops(), OpsDoc: "list and remove blocked clients, or export them", Tables: []view.Table{statsTable(), listingsTable()},
		Parts: []config.Part{{
			Section: "blocklist", Repeated: true, Defaults: Config{},
			Doc: "a list of clients that are refused for a while, each with its evidence: senders of viruses, and whoever scripts and commands add",
		}},
		Reasons: []rcptgate.ReasonDoc{{Reason: "blocklist:NAME", Doc: "the client is on the blocklist of that name"}},
	}
}

// live is what outlives configurations.
type live struct {
	env      *unit.Env
	now      func() time.Time
	dns      *dns
	exchange *exchange
	active   atomic.Pointer[[]*List]

	mu      sync.Mutex
	states  map[string]*state
	started bool
	next    []*List  // of the configuration that was built last
	own     []string // its domains
}

func open(env *unit.Env) (unit.Live, error) {
	u := &live{env: env, now: time.Now, dns: newDNS(net.DefaultResolver, env.Notices), exchange: newExchange(env.Shared), states: map[string]*state{}}
	return unit.Live{
		Build: u.build, Adopt: func(*unit.Config) { u.adopt() }, Warn: warn, Observer: u,
		Listen: func(context.Context, *unit.Config) error { u.start(); return nil }, Run: u.run, Close: u.close,
		Metrics: u.metrics(), Show: u.show, Do: u.do,
	}, nil
}

// build adds a step for each stage at which a list refuses.
func (u *live) build(s *unit.Setup) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.next, u.own = nil, nil
	for _, d := range unit.Domains[route.DomainConfig](s.Config) {
		if len(d.Backend) > 0 && !strings.ContainsAny(d.Name, "*") {
			u.own = append(u.own, strings.TrimPrefix(d.Name, "."))
		}
	}
	if err := sameFile(unit.Domains[Config](s.Config)); err != nil {
		return err
	}
	checks, all := map[rcptgate.Stage]*check{}, new([]*List)
	for i, cfg := range unit.Domains[Config](s.Config) {
		l, err := u.newList(s, cfg)
		if err != nil {
			return setting.Keyf(fmt.Sprintf("blocklist[%d].%s", i+1, err.Key), "%w", err.Err)
		}
		u.next = append(u.next, l)
		if s.Blocklists == nil {
			s.Blocklists = map[string]rcptgate.Blocklist{}
		}
		if s.Blocklists[cfg.Name] != nil {
			return setting.Keyf(fmt.Sprintf("blocklist[%d].name", i+1), "%q is the name of another blocklist", cfg.Name)
		}
		s.Blocklists[cfg.Name] = l
		stage := stages[cfg.Stage]
		if checks[stage] == nil {
			checks[stage] = &check{delimiter: s.Router.Delimiter(), exchange: u.exchange, all: all}
			s.Step(stage, rcptgate.Step{Name: stepName, Check: checks[stage]})
		}
		checks[stage].lists = append(checks[stage].lists, l)
	}
	*all = u.next
	return nil
}

// sameFile finds two exports to one file: each would overwrite the other.
func sameFile(lists []Config) error {
	seen := map[string]string{}
	for i, l := range lists {
		for j, x := range l.Export {
			file := filepath.Clean(x.File)
			if other, twice := seen[file]; twice {
				return setting.Keyf(fmt.Sprintf("blocklist[%d].export[%d].file", i+1, j+1), "%q is also written by blocklist %q", x.File, other)
			}
			seen[file] = l.Name
		}
	}
	return nil
}

// warn names lists that keep their clients from whoever could help them, and files that cannot
// be written.
func warn(c *unit.Config) (list []string) {
	for _, l := range unit.Domains[Config](c) {
		if len(l.Exempt) > 0 && stages[l.Stage] != rcptgate.StageRcpt {
			list = append(list, fmt.Sprintf("[[blocklist]] %q: at stage = %q listed clients cannot reach the recipients of exempt (%s) either; exempt = [] says that this is meant",
				l.Name, l.Stage, strings.Join(l.Exempt, ", ")))
		}
		for _, x := range l.Export {
			if info, err := os.Stat(filepath.Dir(x.File)); err != nil {
				list = append(list, fmt.Sprintf("[[blocklist]] %q: export to %s: %v", l.Name, x.File, err))
			} else if !info.IsDir() {
				list = append(list, fmt.Sprintf("[[blocklist]] %q: export to %s: %s is not a directory", l.Name, x.File, filepath.Dir(x.File)))
			}
		}
	}
	return list
}

var stages = map[string]rcptgate.Stage{"rcpt": rcptgate.StageRcpt, "mail": rcptgate.StageMail, "connect": rcptgate.StageConnect}

// newList makes a list of a section.
func (u *live) newList(s *unit.Setup, cfg Config) (*List, *setting.KeyError) {
	trusted := func(a netip.Addr) bool { return s.Trusted != nil && s.Trusted(a) }
	language := &pattern.Language{
		Delimiters: s.Router.Delimiter(),
		Clients: map[string]func(netip.Addr) bool{
			"trusted": trusted, "own": s.Router.IsSelf, "backends": s.Router.IsBackend, "local": isLocal,
		},
	}
	l := &List{cfg: cfg, enforced: s.Core().Enforce, dns: u.dns, exchange: u.exchange, notices: u.env.Notices, never: &never{
		trusted: trusted, own: s.Router.IsSelf, backend: s.Router.IsBackend, isMX: u.dns.isMX, known: func() []netip.Prefix { return u.known(s, cfg.Never) },
	}}
	for _, p := range []struct {
		key   string
		kind  pattern.Kind
		texts []string
		set   **pattern.Set
	}{
		{"never", pattern.Clients, cfg.Never, &l.never.extra}, {"never_names", pattern.Hosts, cfg.NeverNames, &l.names},
		{"evidence", pattern.Names, cfg.Evidence, &l.evidence}, {"exempt", pattern.Addresses, cfg.Exempt, &l.exempt},
	} {
		var err error
		if *p.set, err = newSet(language, p.kind, p.texts); err != nil {
			return nil, &setting.KeyError{Key: p.key, Err: err}
		}
	}
	l.verdict = rcptgate.Verdict{Action: rcptgate.Reject, Code: cfg.Code, Text: cfg.Text, Reason: rcptgate.Reason("blocklist:" + cfg.Name), Source: stepName}
	if cfg.Code < 500 {
		l.verdict.Action = rcptgate.Tempfail
	}
	l.verdict.Fit(cfg.Code, "5.7.1", "")
	if cfg.Enforce != nil {
		l.enforced = *cfg.Enforce
		if l.verdict.Enforce = l.enforced; !l.enforced {
			l.verdict.Would, l.verdict.Action = l.verdict.Action, rcptgate.Continue
		}
	}
	if l.state = u.states[cfg.Name]; l.state == nil {
		l.state = newState(cfg.Name, &cfg, u.env.Log, u.now)
		l.journal = journal{path: journalFile(s.Core().State, cfg.Name), notices: u.env.Notices}
		u.states[cfg.Name] = l.state
	}
	return l, nil
}

// known are the networks and addresses that are never listed, as far as they can be counted.
func (u *live) known(s *unit.Setup, texts []string) []netip.Prefix {
	list := slices.Clone(s.TrustedNetworks)
	one := func(a netip.Addr) { list = append(list, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())) }
	for _, a := range s.Router.Backends() {
		one(a)
	}
	for _, a := range u.dns.mxHosts() {
		one(a)
	}
	own, _ := net.InterfaceAddrs() //nolint:errcheck // none: the others count all the same
	for _, a := range own {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			one(p.Addr())
		}
	}
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil {
			list = append(list, p.Masked())
		} else if a, err := netip.ParseAddr(text); err == nil {
			one(a)
		}
	}
	return list
}

// newSet reads patterns of which one has to match; no patterns match nothing.
func newSet(language *pattern.Language, kind pattern.Kind, texts []string) (*pattern.Set, error) {
	set := language.NewSet(kind)
	for _, text := range texts {
		if err := set.Add(text); err != nil {
			return nil, err
		}
	}
	return set, nil
}

// isLocal reports whether an address is a private one.
func isLocal(a netip.Addr) bool { return a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsLoopback() }

// adopt makes the lists that were built last the active ones.
func (u *live) adopt() {
	u.mu.Lock()
	defer u.mu.Unlock()
	next, kept := u.next, map[string]bool{}
	for _, l := range next {
		kept[l.name] = true
		l.resize(l.cfg.Entries, l.cfg.IPv6Prefix, l.cfg.For.Std())
		l.shorten()
	}
	if u.started {
		for _, l := range next {
			l.load()
		}
	}
	u.active.Store(&next)
	if len(next) > 0 {
		u.dns.own(u.own)
	}
	maps.DeleteFunc(u.states, func(name string, _ *state) bool { return !kept[name] })
}

// start reads what was listed before the daemon ended.
func (u *live) start() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.started = true
	for _, l := range u.lists() {
		l.load()
	}
}

// Times of what is done in the background.
const (
	saveEvery   = time.Second
	sweepEvery  = 10 * time.Second
	exportEvery = 10 * time.Second // at most
)

// run does what needs time until ctx ends.
func (u *live) run(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { u.dns.run(ctx) })
	if u.exchange != nil {
		all.Go(func() { u.exchange.run(ctx) })
		all.Go(func() { u.rounds(ctx) })
	}
	save, sweep := time.NewTicker(saveEvery), time.NewTicker(sweepEvery)
	defer save.Stop()
	defer sweep.Stop()
	written := exports{}
	for {
		select {
		case <-ctx.Done():
			all.Wait()
			return
		case <-save.C:
			u.each((*List).save)
			u.each(func(l *List) { written.renew(l, u.now()) })
			active := u.lists()
			maps.DeleteFunc(written, func(l *List, _ editionAt) bool { return !slices.Contains(active, l) })
		case <-sweep.C:
			u.each((*List).sweep)
		}
	}
}

// each calls f for each active list. No configuration changes meanwhile.
func (u *live) each(f func(*List)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, l := range u.lists() {
		f(l)
	}
}

// rounds compares the lists with those of the other gateways, now and then, and at once when
// a server of memcached has gone or is back: it may lack what is listed.
func (u *live) rounds(ctx context.Context) {
	tick := time.NewTicker(lostEvery)
	defer tick.Stop()
	last, servers := u.now(), u.exchange.servers()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, found := u.now(), u.exchange.servers()
		if since := now.Sub(last); found == servers && since >= 0 && since < roundEvery {
			continue
		}
		last, servers = now, found
		for _, l := range u.lists() {
			u.exchange.round(ctx, l)
		}
	}
}

// close writes what has not been written.
func (u *live) close() error {
	u.mu.Lock()
	started := u.started
	u.mu.Unlock()
	if started {
		u.each((*List).save)
	}
	return nil
}

// lists are the active lists.
func (u *live) lists() []*List {
	if list := u.active.Load(); list != nil {
		return *list
	}
	return nil
}

func (u *live) metrics() []metric.Family {
	per := func(kind metric.Kind, name, help string, of func(*List) float64) metric.Family {
		return metric.Family{Kind: kind, Name: name, Help: help, Labels: []string{"list"}, Read: func(emit metric.Emit) {
			for _, l := range u.lists() {
				emit(of(l), l.name)
			}
		}}
	}
	return []metric.Family{
		per(metric.Gauge, "blocklist_entries", "Networks that a blocklist remembers, ended listings included.", func(l *List) float64 { return float64(l.table.Load().count.Load()) }),
		per(metric.Counter, "blocklist_listed_total", "Listings begun.", func(l *List) float64 { return float64(l.listed.Load()) }),
		per(metric.Counter, "blocklist_refused_total", "Questions of listed clients that were refused, or would have been in rehearsal.", func(l *List) float64 { return float64(l.refused.Load()) }),
		per(metric.Counter, "blocklist_spared_total", "Viruses that did not list their senders because most of what these sent was clean.", func(l *List) float64 { return float64(l.spared.Load()) }),
		metric.Count("blocklist_excused_total", "Clients that DNS kept from being listed.", func() float64 { return float64(u.dns.excused.Load()) }),
		metric.Count("blocklist_unjudged_total", "Clients that were not listed because too many questions waited for DNS.", func() float64 { return float64(u.dns.dropped.Load()) }),
		per(metric.Counter, "blocklist_evicted_total", "Entries that made room for others before their end.", func(l *List) float64 { return float64(l.table.Load().evicted.Load()) }),
	}
}
