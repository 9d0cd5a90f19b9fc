// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/coreos/go-systemd/v22/activation"

	"rcptgate/config/setting"
	"rcptgate/front/admin"
	"rcptgate/front/listen"
	"rcptgate/front/milter"
)

// listeners are the daemon's open sockets.
type listeners struct {
	milter []net.Listener
	admin  net.Listener
	// adminErr is why the default admin socket, in state, could not be opened.
	adminErr error
	http     net.Listener

	every time.Duration // how often the names of unix sockets are looked at
	log   *slog.Logger
}

// openListeners takes what systemd has opened (socket units with
// FileDescriptorName=admin or http, all others are milter sockets; systemd.socket(5))
// and opens the rest. One milter socket of systemd's stands for all of the
// configuration's. Unix sockets of our own are made again when somebody removes them.
func openListeners(ctx context.Context, cfg *Config, every time.Duration, log *slog.Logger) (l listeners, err error) {
	l.every, l.log = every, log
	defer func() {
		if err != nil {
			l.close()
			l = listeners{}
		}
	}()
	if err := l.inherit(); err != nil {
		return l, err
	}
	if len(l.milter) == 0 {
		if len(cfg.Listen.Milter) == 0 {
			return l, exitWith(exitConfig, errors.New("[listen] milter is empty, and systemd has opened no socket: nobody could ask"))
		}
		for _, socket := range cfg.Listen.Milter {
			ln, err := l.open(ctx, "milter", socket, cfg.Listen.SocketMode, cfg.Listen.SocketGroup)
			if err != nil {
				return l, exitWith(exitUnavailable, err)
			}
			l.milter = append(l.milter, ln)
		}
	}
	if l.admin == nil {
		path, group := cfg.adminSocket().Address, cfg.Listen.AdminGroup
		ln, err := listen.Keep("admin "+path, every, log, func() (*listen.Socket, error) { return admin.Listen(path, group) })
		l.admin = ln
		switch {
		case err == nil:
		case !cfg.Listen.Admin.IsZero() || errors.Is(err, admin.ErrInUse):
			return l, exitWith(exitUnavailable, err)
		default:
			// A state directory that is read-only or gone must not keep mail from being
			// answered: the daemon goes on, and tries again.
			l.adminErr = err
		}
	}
	if l.http == nil && !cfg.Listen.HTTP.IsZero() {
		ln, err := l.open(ctx, "http", cfg.Listen.HTTP, httpMode, "")
		if err != nil {
			return l, exitWith(exitUnavailable, fmt.Errorf("http: %w", err))
		}
		l.http = ln
	}
	return l, nil
}

func (l *listeners) inherit() error {
	for _, file := range activation.Files(true) {
		name := file.Name()
		ln, err := net.FileListener(file)
		_ = file.Close() // ln has its own
		if err != nil {
			return exitWith(exitUnavailable, fmt.Errorf("take the socket %q that systemd opened: %w", name, err))
		}
		switch {
		case name == "admin" && l.admin == nil:
			l.admin = ln
		case name == "http" && l.http == nil:
			l.http = ln
		case name == "admin" || name == "http":
			_ = ln.Close()
			return exitWith(exitUnavailable, fmt.Errorf("systemd opened more than one socket named %q", name))
		default:
			l.milter = append(l.milter, ln)
		}
	}
	return nil
}

// httpMode is for a unix socket: owner and group, as for the admin socket.
const httpMode = 0o660

// open opens one socket of the configuration's, and keeps it if it has a name.
func (l *listeners) open(ctx context.Context, what string, socket setting.Socket, mode milter.FileMode, group string) (net.Listener, error) {
	if socket.Network != "unix" {
		return milter.Listen(ctx, socket, mode, group)
	}
	k, err := listen.Keep(what+" "+socket.Address, l.every, l.log, func() (*listen.Socket, error) {
		return milter.ListenUnix(context.WithoutCancel(ctx), socket.Address, mode, group)
	})
	if err != nil {
		_ = k.Close()
		return nil, fmt.Errorf("listen on %v: %w", socket, err)
	}
	return k, nil
}

// close is for listeners whose servers never started or have ended.
func (l *listeners) close() {
	for _, ln := range l.milter {
		_ = ln.Close()
	}
	if l.admin != nil {
		_ = l.admin.Close()
	}
	if l.http != nil {
		_ = l.http.Close()
	}
}
