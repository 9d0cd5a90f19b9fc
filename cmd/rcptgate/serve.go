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
)

func newServeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "run the daemon",
		Long: `serve runs the daemon in the foreground. SIGHUP reads the configuration again (a file
with an error changes nothing), SIGTERM and SIGINT end it after the transactions in
progress, for which it waits as long as [listen] drain says; a second one ends it without
waiting.

Under systemd it tells when it is ready, reloading and ending, and shows the watchdog that
it lives. Sockets that socket units have opened are used in place of the configuration's:
those with FileDescriptorName=admin and http for what they are named, all others for
milters.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := loadConfig(cmd)
			if err != nil {
				return err
			}
			path, err := cmd.Flags().GetString("config")
			if err != nil {
				return err
			}
			return serveSignals(cmd.Context(), l, rereader(path, l))
		},
	}
}

// rereader reads again what l was read from. A default file that was there at the
// start must be there at a reload: to fall back on the built-in defaults while an
// editor or a packager exchanges it would enforce what was only rehearsed.
func rereader(path string, l *loaded) func() (*loaded, error) {
	if l.file != nil {
		path = l.file.Name
	}
	return func() (*loaded, error) { return readConfig(path) }
}

// serveSignals is serve that tells a first signal to end from a second. ctx has ended
// already if one came before we listen ourselves.
func serveSignals(ctx context.Context, l *loaded, reread func() (*loaded, error)) error {
	ends := make(chan os.Signal, 4)
	signal.Notify(ends, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(ends)
	if ctx.Err() != nil {
		return nil
	}
	return serve(context.WithoutCancel(ctx), l, reread, ends)
}

// serve runs the daemon until ctx ends, something comes from ends, or one of its servers
// fails. What comes from ends after that ends the drain.
func serve(ctx context.Context, l *loaded, reread func() (*loaded, error), ends <-chan os.Signal) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP) // before anything else: a hang-up must not end us
	defer signal.Stop(hangup)
	d, err := startDaemon(ctx, l, daemonOptions{reread: reread})
	if err != nil {
		return err
	}
	defer func() {
		stopped := make(chan struct{})
		defer close(stopped)
		go d.hurry(ends, stopped)
		d.stop()
	}()
	notify(sd.SdNotifyReady)
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
			d.log.Info("ending: transactions in progress are finished")
			return nil
		case <-ends:
			d.log.Info("ending: transactions in progress are finished; a second signal cuts them off")
			return nil
		case err := <-d.failed:
			d.log.Error("a server failed", "error", err)
			return exitWith(exitUnavailable, err)
		case <-next:
			notify(sd.SdNotifyReloading)
			done := make(chan struct{})
			reloading = done
			go func() {
				defer close(done)
				_, _ = d.reload() // it has logged what came of it
			}()
		case <-reloading:
			reloading = nil
			notify(sd.SdNotifyReady)
		case <-watchdog:
			notify(sd.SdNotifyWatchdog)
		}
	}
}

// hurry cuts off what the drain waits for when another signal comes.
func (d *daemon) hurry(ends <-chan os.Signal, stopped <-chan struct{}) {
	select {
	case <-ends:
		d.log.Warn("told again to end: transactions in progress are cut off")
		d.milter.Hurry()
	case <-stopped:
	}
}

// notify tells systemd (sd_notify(3)), if it started us. It is not there to be told
// otherwise, and that is no error.
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
