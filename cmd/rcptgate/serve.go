// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"rcptgate"
	"rcptgate/kit/exit"
	"rcptgate/store"
	"rcptgate/store/disk"
	"rcptgate/store/tiers"
	"rcptgate/telemetry"
	"rcptgate/unit"
)

func (p *program) serve() *cobra.Command {
	reasons := rcptgate.Reasons()
	for i := range p.units {
		reasons = append(reasons, p.units[i].Reasons...)
	}
	return &cobra.Command{
		Use:   "serve",
		Short: "run the daemon",
		Long: `serve runs the daemon in the foreground. SIGHUP reads the configuration again (a file
with an error changes nothing). SIGTERM and SIGINT end the daemon after the transactions
in progress, for which it waits as long as drain in [milter] says. A second signal ends it
without waiting.

Under systemd it notifies the service manager when it is ready, reloading and ending, and
serves the watchdog. Sockets that socket units have opened replace those of the
configuration: those with FileDescriptorName=admin and http for what they are named, all
others for milters.

` + telemetry.Manual(reasons),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.load(cmd)
			if err != nil {
				return err
			}
			path, err := cmd.Flags().GetString("config")
			if err != nil {
				return err
			}
			return p.serveSignals(cmd.Context(), c, p.rereader(path, c))
		},
	}
}

// rereader reads again what l was read from. A default file that was there at the
// start must be there at a reload: the built-in defaults, while an editor or a packager
// exchanges it, are not what anybody configured.
func (p *program) rereader(path string, c *unit.Config) func() (*unit.Config, error) {
	if c.File != nil {
		path = c.File.Name
	}
	return func() (*unit.Config, error) { return unit.Load(p.schema, path) }
}

// serveSignals is serve that tells a first signal to end from a second. ctx has ended
// already if one came before we listen ourselves.
func (p *program) serveSignals(ctx context.Context, c *unit.Config, reread func() (*unit.Config, error)) error {
	ends := make(chan os.Signal, 4)
	signal.Notify(ends, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(ends)
	if ctx.Err() != nil {
		return nil
	}
	return p.run(context.WithoutCancel(ctx), c, reread, ends)
}

// run runs the daemon until ctx ends, something comes from ends, or one of its servers
// fails. What comes from ends after that ends the drain.
func (p *program) run(ctx context.Context, c *unit.Config, reread func() (*unit.Config, error), ends <-chan os.Signal) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP) // before anything else: a hang-up must not end us
	defer signal.Stop(hangup)
	h, err := p.start(ctx, c, unit.Options{Reread: reread})
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	go tuneHeap(ctx)
	defer func() {
		stopped := make(chan struct{})
		defer close(stopped)
		go hurry(h, ends, stopped)
		h.Stop()
	}()
	ready(h)
	defer notify(sd.SdNotifyStopping)
	watchdog := watchdogTicks()
	// A reload may wait for whoever is writing a table, longer than the watchdog does.
	var reloading chan struct{} // nil while there is none
	defer func() {
		if reloading != nil {
			<-reloading
		}
	}()
	for {
		next := hangup
		if reloading != nil {
			next = nil // one after the other
		}
		select {
		case <-ctx.Done():
			h.Log.Info("stopping: finishing transactions in progress")
			return nil
		case <-ends:
			h.Log.Info("stopping: finishing transactions in progress; a second signal aborts them")
			return nil
		case err := <-h.Broken():
			h.Log.Error("a listener failed", "error", err)
			return exit.With(exit.Unavailable, err)
		case <-next:
			notify(sd.SdNotifyReloading)
			done := make(chan struct{})
			reloading = done
			go func() {
				defer close(done)
				_, _ = h.Reload() // it has logged what came of it
			}()
		case <-reloading:
			reloading = nil
			ready(h)
		case <-watchdog:
			notify(sd.SdNotifyWatchdog)
		}
	}
}

// hurry cuts off what the drain waits for when another signal comes.
func hurry(h *unit.Host, ends <-chan os.Signal, stopped <-chan struct{}) {
	select {
	case <-ends:
		h.Log.Warn("second signal: aborting transactions in progress")
		h.Hurry()
	case <-stopped:
	}
}

// start opens a host and begins to answer. Nothing is left behind when it fails.
func (p *program) start(ctx context.Context, c *unit.Config, o unit.Options) (*unit.Host, error) {
	o.Version, o.Disk = versionText(), openDisk
	h, err := unit.Open(ctx, p.units, c, o)
	if err != nil {
		return nil, err
	}
	if err := h.Start(ctx); err != nil {
		h.Stop()
		return nil, err
	}
	h.Log.Info("rcptgate is ready", "version", versionText(), "configuration", c.Source(), "mode", h.Mode(), "what", summary(c), "remembered", h.Remembered())
	return h, nil
}

// openDisk opens the memory in the state directory.
func openDisk(o tiers.DiskOptions) (store.Store, error) {
	return disk.Open(disk.Options{Dir: o.Dir, Entries: o.Entries, Log: o.Log, Notices: o.Notices, Renewed: o.Renewed})
}

// ready tells the service manager that questions are taken, and, for a line of
// "systemctl status", how.
func ready(h *unit.Host) {
	notify(sd.SdNotifyReady + "\nSTATUS=" + h.Mode() + ", " + summary(h.Config()))
}

// notify reports a state to systemd (sd_notify(3)), if systemd started the daemon; otherwise
// it does nothing.
func notify(state string) {
	if state == sd.SdNotifyReloading {
		state += "\n" + sd.SdNotifyMonotonicUsec()
	}
	_, _ = sd.SdNotify(false, state)
}

// watchdogTicks ticks twice in each period that systemd's watchdog allows; never
// when there is none.
func watchdogTicks() <-chan time.Time {
	every, err := sd.SdWatchdogEnabled(false)
	if err != nil || every <= 0 {
		return nil
	}
	return time.Tick(every / 2)
}
