// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"

	"rcptgate/config/unit"
	"rcptgate/front/admin"
	"rcptgate/front/milter"
)

// listeners are the daemon's open sockets.
type listeners struct {
	milter []net.Listener
	admin  net.Listener
	// adminErr is why the default admin socket, in state, could not be opened.
	adminErr error
	http     net.Listener
}

// openListeners takes what systemd has opened (socket units with
// FileDescriptorName=admin or http, all others are milter sockets; systemd.socket(5))
// and opens the rest. One milter socket of systemd's stands for all of the
// configuration's.
func openListeners(ctx context.Context, cfg *Config) (l listeners, err error) {
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
			ln, err := milter.Listen(ctx, socket, cfg.Listen.SocketMode, cfg.Listen.SocketGroup)
			if err != nil {
				return l, exitWith(exitUnavailable, err)
			}
			l.milter = append(l.milter, ln)
		}
	}
	if l.admin == nil {
		ln, err := admin.Listen(cfg.adminSocket().Address, cfg.Listen.AdminGroup)
		switch {
		case err == nil:
			l.admin = ln
		case !cfg.Listen.Admin.IsZero() || errors.Is(err, admin.ErrInUse):
			return l, exitWith(exitUnavailable, err)
		default:
			// A state directory that is read-only or gone must not keep mail from being
			// answered: the daemon goes on, and tries again.
			l.adminErr = err
		}
	}
	if l.http == nil && !cfg.Listen.HTTP.IsZero() {
		ln, err := listenHTTP(ctx, cfg.Listen.HTTP)
		if err != nil {
			return l, exitWith(exitUnavailable, err)
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

func listenHTTP(ctx context.Context, socket unit.Socket) (net.Listener, error) {
	ln, err := milter.Listen(ctx, socket, httpMode, "") // it knows how to follow a daemon that was killed
	if err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	return ln, nil
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
