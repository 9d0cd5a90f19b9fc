// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate"
	"rcptgate/backend"
	"rcptgate/check/callahead"
	"rcptgate/front/admin"
	"rcptgate/front/listen"
	"rcptgate/front/milter"
	"rcptgate/front/web"
	"rcptgate/kit/notice"
	"rcptgate/store/tiers"
	"rcptgate/telemetry"
)

// daemon is a running gate: what it knows, what it listens on, what is in force.
type daemon struct {
	base
	memory    *tiers.Tiers
	shared    *shared // nil: nothing is shared with other gateways
	hints     *hints  // nil then too
	telemetry *telemetry.Telemetry
	gate      rcptgate.Gate
	milter    *milter.Server
	web       *web.Server
	admin     *admin.Server

	reloading sync.Mutex // held by the one reload; it may take as long as a table is being written

	mu       sync.Mutex // guards what a reload changes; never held for long
	config   *loaded
	begun    Config // what it was started with, for what a reload cannot change
	reread   func() (*loaded, error)
	sections sectionNames

	refusals *web.Refusals
	notReady atomic.Pointer[string] // why no questions are taken; nil when they are

	listeners listeners
	milters   sync.WaitGroup // milter servers, which drain
	servers   sync.WaitGroup // the others
	failed    chan error     // a server that ended by itself
	drain     context.CancelFunc
	end       context.CancelFunc
}

// daemonOptions are for the demonstration and for tests.
type daemonOptions struct {
	stderr io.Writer // the log's standard error; nil is the process's
	reread func() (*loaded, error)
	look   time.Duration // how often sockets are looked at; 0: listen.LookEvery
	hints  time.Duration // how often hints are looked up; 0: hintEvery

	exchange time.Duration // how often gateways tell each other what was forgotten; 0: memcached's own

	backends []backend.Option
}

// startDaemon opens everything and begins to answer. Nothing is left behind when
// it fails.
func startDaemon(ctx context.Context, l *loaded, o daemonOptions) (_ *daemon, err error) {
	d := &daemon{config: l, begun: l.Config, reread: o.reread, failed: make(chan error, 8), refusals: web.NewRefusals()}
	d.setReady("starting")
	defer func() {
		if err != nil {
			d.stop()
		}
	}()
	if d.telemetry, err = telemetry.New(l.Log, telemetry.Options{Stderr: o.stderr, Version: versionText()}); err != nil {
		return nil, exitWith(exitConfig, err)
	}
	d.log = d.telemetry.Logger()
	if d.shared, err = openShared(&l.Config, o.exchange, d.log); err != nil {
		return nil, exitWith(exitConfig, l.file.Place(err))
	}
	if d.memory, err = tiers.Open(l.Cache.Config, l.State, d.log, d.shared.places()...); err != nil {
		return nil, exitWith(exitUnavailable, fmt.Errorf("state: %w", err))
	}
	d.base.memory = d.memory
	d.hints = newHints(d.shared, d.hostname, cmp.Or(o.hints, hintEvery), d.log)
	d.backends = backend.NewSet(l.Callahead.Config, l.Hostname, d.log, append(d.hints.options(), o.backends...)...)
	d.probes = callahead.NewState(notice.New(d.log))
	d.memory.OnForget(d.probes.Forget) // whoever asks from then on gets no answer of a probe that began before
	d.tables = newTables(d.log, true)
	d.names = newAliasNames(d.shared, d.log)
	if d.shared != nil {
		d.patience = d.memory.Patience()
	}
	setup, err := newSetup(&l.Config, d.base, d.observers()...)
	if err != nil {
		return nil, exitWith(exitConfig, l.file.Place(err))
	}
	if d.sections, err = newSectionNames(l.Domain); err != nil {
		return nil, exitWith(exitConfig, l.file.Place(err))
	}
	d.gate.Swap(setup)
	d.publish(&l.Config)
	if d.listeners, err = openListeners(ctx, &l.Config, cmp.Or(o.look, listen.LookEvery), d.log); err != nil {
		return nil, err
	}
	if err = d.registerMetrics(); err != nil {
		return nil, err
	}
	d.serve()
	d.setReady("")
	d.log.Info("rcptgate is ready", "version", versionText(), "configuration", l.source(), "what", l.summary(), "remembered", d.remembered())
	return d, nil
}

func (d *daemon) observers() []rcptgate.Observer { return []rcptgate.Observer{d.telemetry, d.refusals} }

// serve starts a goroutine for every listener.
func (d *daemon) serve() {
	milterCtx, drain := context.WithCancel(context.Background())
	otherCtx, end := context.WithCancel(context.Background())
	d.drain, d.end = drain, end
	d.servers.Go(func() { tuneHeap(otherCtx) })
	if h := d.hints; h != nil {
		h.backends = d.backends
		d.servers.Go(func() { h.run(otherCtx) })
	}
	if p := d.names.publisher; p != nil {
		d.servers.Go(func() { _ = p.Run(otherCtx) }) // it ends with the context's error only
	}
	d.milter = milter.New(&d.gate, d.config.Listen.Config, d.log)
	d.admin = admin.New(admin.Options{
		Gate: &d.gate, Memory: told{d.memory, d.places}, Show: d.show, Backends: d.backends.Health, FoldCase: d.foldCase,
		Version: versionText(), Hostname: d.hostname, Log: d.log,
		Reload: func(context.Context) (admin.Reloaded, error) {
			restart, err := d.reload()
			return admin.Reloaded{Restart: restart}, err
		},
	})
	d.web = d.newWeb()
	for _, ln := range d.listeners.milter {
		d.run(&d.milters, func() error { return d.milter.Serve(milterCtx, ln) })
	}
	if err := d.listeners.adminErr; err != nil {
		d.log.Warn("no admin socket: check and cache cannot reach this daemon; trying again", "error", err)
	}
	d.run(&d.servers, func() error { return d.admin.Serve(otherCtx, d.listeners.admin) })
	if ln := d.listeners.http; ln != nil {
		d.run(&d.servers, func() error { return d.web.Serve(otherCtx, ln) })
	}
}

func (d *daemon) run(group *sync.WaitGroup, serve func() error) {
	group.Go(func() {
		if err := serve(); err != nil {
			select {
			case d.failed <- err:
			default:
			}
		}
	})
}

// stop drains: transactions in progress end first, then the rest is closed and
// what is pending is written.
func (d *daemon) stop() {
	if d.drain != nil {
		d.setReady("ending")
		d.drain()
		d.milters.Wait() // bounded by the milter server: [listen] drain
		d.end()
	}
	d.servers.Wait()
	d.listeners.close() // those that were never served
	d.gate.Close()
	if d.tables != nil {
		d.tables.close()
	}
	if d.probes != nil {
		d.probes.Close()
	}
	if d.backends != nil {
		d.backends.Close()
	}
	if d.memory != nil {
		if err := d.memory.Close(); err != nil {
			d.log.Error("closing the memory failed", "error", err)
		}
	}
	d.shared.close()
	if d.telemetry != nil {
		_ = d.telemetry.Close(2 * time.Second)
	}
}

// reload reads the configuration again and puts it in force. On an error nothing
// changes. It names the settings that changed but need a restart.
func (d *daemon) reload() (restart []string, err error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	if d.reread == nil {
		return nil, errors.New("this daemon has no configuration to read again")
	}
	l, err := d.reread()
	var sections sectionNames
	if err == nil {
		sections, err = newSectionNames(l.Domain)
	}
	if err == nil {
		err = d.putInForce(l)
	}
	if err != nil {
		d.log.Error("the configuration was not read again: the old one stays in force", "error", err)
		return nil, err
	}
	restart = needRestart(&d.begun, &l.Config)
	d.mu.Lock()
	d.config, d.sections = l, sections
	d.mu.Unlock()
	d.log.Info("configuration read again", "configuration", l.source(), "what", l.summary(), "needs_restart", restart)
	return restart, nil
}

func (d *daemon) putInForce(l *loaded) error {
	setup, err := newSetup(&l.Config, d.base, d.observers()...)
	if err != nil {
		return l.file.Place(err)
	}
	if err := d.shared.configure(&l.Config); err != nil {
		setup.Close()
		return l.file.Place(err)
	}
	d.backends.Configure(l.Callahead.Config, l.Hostname)
	d.telemetry.Configure(l.Log)
	d.refusals.HideAddresses(l.Listen.HideAddresses)
	d.gate.Swap(setup)
	d.publish(&l.Config)
	return nil
}

// needRestart names what differs from the start but cannot change while the daemon
// runs.
func needRestart(begun, now *Config) (names []string) {
	listen := now.Listen
	listen.HideAddresses = begun.Listen.HideAddresses // takes effect at once
	for _, s := range []struct {
		name     string
		old, now any
	}{
		{"state", begun.State, now.State},
		{"listen", begun.Listen, listen},
		{"log.target", begun.Log.Target, now.Log.Target},
		{"cache.entries", begun.Cache.Entries, now.Cache.Entries},
		{"cache.disk_entries", begun.Cache.DiskEntries, now.Cache.DiskEntries},
		{"cache.memcached", begun.Cache.Active(), begun.Cache.Active() || now.Cache.Active()}, // other servers take effect at once
	} {
		if !reflect.DeepEqual(s.old, s.now) {
			names = append(names, s.name)
		}
	}
	return names
}

func (d *daemon) current() *loaded {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config
}

func (d *daemon) show() string { return d.current().show() + d.tables.comments() }

func (d *daemon) hostname() string { return d.current().Hostname }

func (d *daemon) foldCase(domain string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sections.foldsCase(domain)
}

// remembered says how much the memory holds.
func (d *daemon) remembered() string {
	most := int64(0)
	for _, st := range d.memory.Stats() {
		most = max(most, st.Entries)
	}
	return count(int(most), "record")
}

// httpAddress is where the status page is.
func (d *daemon) httpAddress() string { return listenAddress(d.listeners.http) }

func listenAddress(ln net.Listener) string {
	if ln == nil {
		return ""
	}
	return ln.Addr().String()
}
