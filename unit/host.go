// SPDX-License-Identifier: BSD-2-Clause

package unit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"rcptgate"
	"rcptgate/backend"
	"rcptgate/kit/exit"
	"rcptgate/kit/notice"
	"rcptgate/kit/term"
	"rcptgate/metric"
	"rcptgate/store/memcached"
	"rcptgate/store/tiers"
	"rcptgate/table/pool"
	"rcptgate/telemetry"
	"rcptgate/view"
)

// Env is what units are opened with. It lives as long as the process.
type Env struct {
	Log      *slog.Logger
	Notices  *notice.Board // what a postmaster should know: logged and listed
	Backends *backend.Set
	Memory   *tiers.Tiers
	Shared   *memcached.Client // nil: nothing is shared with other gateways
	Tables   *pool.Pool
	// Host is the whole, for fronts that show it or ask it.
	Host *Host
}

// Options are for the program, the demonstration and tests.
type Options struct {
	Version string
	// Offline opens only what answers need: no disk, nothing shared, no log.
	Offline bool
	// Dry does not even read tables: it is for looking at a configuration.
	Dry    bool
	Disk   tiers.Disk              // opens what outlives the process; nil keeps nothing on disk
	Stderr io.Writer               // the log's standard error; nil is the process's
	Reread func() (*Config, error) // for Reload; nil: there is nothing to read
	Every  time.Duration           // how often gateways exchange what was forgotten; 0: the default
	Wait   time.Duration           // for one question to memcached and for all of an answer's; 0: the defaults
	Look   time.Duration           // how often sockets are looked at; 0: the default
	Set    []backend.Option        // how backends are asked
	Hook   func(*Setup)            // sees each setup before it becomes active; for tests
}

// Host is the gate with its units: what lives as long as the process, and which
// configuration is active. Open it, Start it, Stop it.
type Host struct {
	Env
	Gate      rcptgate.Gate
	Telemetry *telemetry.Telemetry

	options   Options
	units     []Unit
	live      []Live
	names     []string
	observers []rcptgate.Observer
	exchange  *memcached.Store // nil: nothing is shared
	started   time.Time
	inherited map[string][]net.Listener // that systemd opened, by their names

	reloading sync.Mutex // held by the one reload; it may take as long as a table is being written

	mu       sync.Mutex // guards what a reload changes; never held for long
	setup    *Setup
	config   *Config
	begun    *Config    // what it was opened with, for what a reload cannot change
	followed []Followed // of the active setup
	foldCase func(domain string) bool
	failed   error // of the last reload
	notReady string

	fronts sync.WaitGroup // they drain
	jobs   sync.WaitGroup
	broken chan error // a front that ended by itself
	drain  context.CancelFunc
	end    context.CancelFunc
}

// Open opens everything that a configuration needs, and builds its setup. It listens on
// nothing and asks nobody yet. On an error nothing is left behind.
func Open(ctx context.Context, units []Unit, c *Config, o Options) (_ *Host, err error) {
	h := &Host{units: units, options: o, config: c, begun: c, notReady: "starting", started: time.Now(), broken: make(chan error, 8)}
	defer func() {
		if err != nil {
			h.Stop()
		}
	}()
	if err := h.openServices(c); err != nil {
		return nil, err
	}
	if err := h.openUnits(); err != nil {
		return nil, err
	}
	setup, err := h.build(c)
	if err != nil {
		return nil, exit.With(exit.Config, err)
	}
	if err := h.reconfigureMemory(c); err != nil { // offline, only looks at the key file
		setup.close()
		return nil, exit.With(exit.Config, c.Place(err))
	}
	if !h.options.Offline {
		if err := setup.verified(); err != nil {
			h.Notices.Raise(slog.LevelError, "configuration", "the configuration fails its own expectations; it is active because there is no older one", "error", err)
		}
	}
	h.adopt(setup)
	return h, nil
}

// openServices opens what units stand on: log, memory, backends, tables.
func (h *Host) openServices(c *Config) (err error) {
	h.Env.Host = h
	h.Log = slog.New(slog.DiscardHandler)
	core := c.Core()
	if !h.options.Offline {
		if h.Telemetry, err = telemetry.New(*Part[telemetry.Config](c), telemetry.Options{Stderr: h.options.Stderr, Version: h.options.Version}); err != nil {
			return exit.With(exit.Config, err)
		}
		h.Log = h.Telemetry.Logger()
	}
	h.Notices = notice.New(h.Log)
	if h.Telemetry != nil {
		h.Notices = h.Telemetry.Notices()
	}
	if err := h.openMemory(c); err != nil {
		return err
	}
	h.Backends = backend.NewSet(backend.DefaultConfig(), core.Hostname, h.Log, append([]backend.Option{backend.WithNotices(h.Notices)}, h.options.Set...)...)
	h.Tables = pool.New(h.Log, !h.options.Dry)
	return nil
}

// openUnits opens the units in their order.
func (h *Host) openUnits() error {
	if h.Telemetry != nil {
		h.observers = append(h.observers, h.Telemetry)
	}
	for i := range h.units {
		u := &h.units[i]
		var live Live
		if u.Open != nil {
			var err error
			if live, err = u.Open(&h.Env); err != nil {
				return exit.With(exit.Unavailable, fmt.Errorf("%s: %w", u.Name, err))
			}
		}
		h.live, h.names = append(h.live, live), append(h.names, u.Name)
		if live.Observer != nil {
			h.observers = append(h.observers, live.Observer)
		}
		if live.Forget != nil {
			h.Memory.OnForget(live.Forget)
		}
	}
	return nil
}

// adopt makes a setup the active one.
func (h *Host) adopt(s *Setup) {
	if h.options.Hook != nil {
		h.options.Hook(s)
	}
	if h.Telemetry != nil {
		h.Telemetry.Configure(*Part[telemetry.Config](s.Config))
	}
	for i := range h.live {
		if adopt := h.live[i].Adopt; adopt != nil {
			adopt(s.Config)
		}
	}
	h.mu.Lock()
	h.setup, h.config, h.foldCase, h.followed = s, s.Config, s.FoldCase, s.followed
	h.mu.Unlock()
	h.Gate.Swap(s.gateSetup(h))
}

// Start opens the fronts' sockets, serves on them and runs the background jobs.
func (h *Host) Start(ctx context.Context) error {
	if err := h.inherit(); err != nil {
		return err
	}
	for i := range h.live {
		if listen := h.live[i].Listen; listen != nil {
			if err := listen(ctx, h.Config()); err != nil {
				return exit.With(exit.Unavailable, err)
			}
		}
	}
	if err := metric.Check(h.Metrics()); err != nil {
		return exit.With(exit.Software, err)
	}
	frontsCtx, drain := context.WithCancel(context.Background())
	jobsCtx, end := context.WithCancel(context.Background())
	h.drain, h.end = drain, end
	h.jobs.Go(func() { h.follow(jobsCtx) })
	for i := range h.live {
		if run := h.live[i].Run; run != nil {
			h.jobs.Go(func() { run(jobsCtx) })
		}
		if serve := h.live[i].Serve; serve != nil {
			h.fronts.Go(func() {
				if err := serve(frontsCtx); err != nil {
					select {
					case h.broken <- err:
					default:
					}
				}
			})
		}
	}
	h.setReady("")
	return nil
}

// Verify asks whether the active configuration does what it says that it does, and could keep
// its state where it says.
func (h *Host) Verify() error {
	h.mu.Lock()
	s := h.setup
	h.mu.Unlock()
	return errors.Join(h.Config().checkState(), s.verified())
}

// Step gives the check of a step of the active configuration, for commands; nil if it has no
// such step.
func (h *Host) Step(at rcptgate.Stage, name string) rcptgate.Check {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, step := range h.setup.steps[at] {
		if step.Name == name {
			return step.Check
		}
	}
	return nil
}

// Broken gives the error of a front that has ended by itself.
func (h *Host) Broken() <-chan error { return h.broken }

// Hurry ends the wait of a Stop for what is in progress.
func (h *Host) Hurry() {
	for i := range h.live {
		if hurry := h.live[i].Hurry; hurry != nil {
			hurry()
		}
	}
}

// Stop drains: what is in progress at the fronts ends first, then the background jobs;
// then everything is closed, units in reverse order, and what is pending is written.
func (h *Host) Stop() {
	if h.drain != nil {
		h.setReady("stopping")
		h.drain()
		h.fronts.Wait() // each front bounds it
		h.end()
		h.jobs.Wait()
	}
	h.Gate.Close()
	for i := len(h.live) - 1; i >= 0; i-- {
		if closeUnit := h.live[i].Close; closeUnit != nil {
			if err := closeUnit(); err != nil {
				h.Log.Error("closing failed", "unit", h.names[i], "error", err)
			}
		}
	}
	h.closeServices()
}

func (h *Host) closeServices() {
	h.closeInherited()
	if h.Tables != nil {
		h.Tables.Close()
	}
	if h.Backends != nil {
		h.Backends.Close()
	}
	if h.Memory != nil {
		if err := h.Memory.Close(); err != nil {
			h.Log.Error("closing the memory failed", "error", err)
		}
	}
	if h.Shared != nil {
		_ = h.Shared.Close()
	}
	if h.Telemetry != nil {
		_ = h.Telemetry.Close(2 * time.Second)
	}
}

// Metrics are those of the host and of its units.
func (h *Host) Metrics() []metric.Family {
	families := append(h.Telemetry.Metrics(), h.metrics()...)
	families = append(families, h.Tables.Metrics()...)
	families = append(families, h.Backends.Metrics()...)
	families = append(families, h.memoryMetrics()...)
	for i := range h.live {
		families = append(families, h.live[i].Metrics...)
	}
	return families
}

// Views are what everything shows of itself, the host's own first.
func (h *Host) Views() []view.Table {
	list := append(h.decisions(), h.Backends.Show()...)
	list = append(list, h.memoryShow()...)
	list = append(list, h.Tables.Show()...)
	for i := range h.live {
		if show := h.live[i].Show; show != nil {
			for _, t := range show() {
				t.Unit = h.names[i]
				list = append(list, t)
			}
		}
	}
	return list
}

// Do answers a unit's op.
func (h *Host) Do(ctx context.Context, name, op string, args []string) ([]view.Table, error) {
	for i := range h.live {
		if h.names[i] == name && h.live[i].Do != nil {
			return h.live[i].Do(ctx, op, args)
		}
	}
	return nil, fmt.Errorf("%s %s: %w", name, op, ErrNoOp)
}

// Live gives a unit of this host by its name, for tests.
func (h *Host) Live(name string) *Live {
	for i := range h.live {
		if h.names[i] == name {
			return &h.live[i]
		}
	}
	return nil
}

// FoldCase reports whether the local parts of a domain ignore case.
func (h *Host) FoldCase(domain string) bool {
	h.mu.Lock()
	fold := h.foldCase
	h.mu.Unlock()
	return fold == nil || fold(domain)
}

// Remembered says how much the memory holds: "3 records".
func (h *Host) Remembered() string {
	most := int64(0)
	for _, st := range h.Memory.Stats() {
		most = max(most, st.Entries)
	}
	return term.Count(int(most), "record")
}

// Address says where a front listens: HOST:PORT or a path; "" when it does not.
func (h *Host) Address(name string) string {
	if l := h.Live(name); l != nil && l.Address != nil {
		return l.Address()
	}
	return ""
}

// Version is the version of the program.
func (h *Host) Version() string { return h.options.Version }

// IsOffline reports whether the host answers in this process alone: nothing is kept or shared.
func (h *Host) IsOffline() bool { return h.options.Offline }

// LookEvery is how often sockets are looked at: names that are gone, addresses that were taken.
func (h *Host) LookEvery() time.Duration { return cmp.Or(h.options.Look, 5*time.Second) }
