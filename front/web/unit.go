// SPDX-License-Identifier: BSD-2-Clause

package web

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"rcptgate/config"
	"rcptgate/config/setting"
	"rcptgate/front/listen"
	"rcptgate/metric/exposition"
	"rcptgate/unit"
	"rcptgate/view"
)

// ListenConfig is this front's part of [listen].
type ListenConfig struct {
	HTTP setting.Socket `toml:"http" doc:"address for metrics, health checks and the status page; \"\" turns them off" example:"\"127.0.0.1:8899\"" restart:"true"`
}

// Config is the section [dashboard].
type Config struct {
	// HideAddresses is for sites where those who may see the status page may not see who
	// writes to whom.
	HideAddresses bool `toml:"hide_addresses" doc:"the status page shows the last refusals without local parts"`
}

// Unit is the front.
func Unit() unit.Unit {
	return unit.Unit{Name: "dashboard", Socket: "http", Open: open, Tables: []view.Table{statusTable()}, Parts: []config.Part{
		{Section: "listen", Defaults: ListenConfig{HTTP: setting.Socket{Network: "tcp", Address: "127.0.0.1:8899"}}},
		{Section: "dashboard", Doc: "the status page", Defaults: Config{}},
	}}
}

func open(env *unit.Env) (unit.Live, error) {
	h := env.Host
	f := &front{env: env, refusals: newRefusals()}
	options := Options{Status: h.Status, Views: h.Views, Hide: f.refusals.hide.Load, Log: env.Log}
	if h.Telemetry != nil {
		options.Metrics = exposition.Handler(h.Metrics)
	}
	f.server = New(options)
	return unit.Live{
		Adopt: func(c *unit.Config) { f.refusals.hideAddresses(unit.Part[Config](c).HideAddresses) },
		Warn: func(c *unit.Config) []string {
			return listen.Exposed("http", unit.Part[ListenConfig](c).HTTP, "anyone who can reach the port sees metrics and the last refusals")
		},
		Listen: f.listen, Serve: f.serve, Address: f.address, Close: f.close, Observer: f.refusals,
		Show: func() []view.Table { return []view.Table{f.refusals.table()} },
	}, nil
}

type front struct {
	env      *unit.Env
	server   *Server
	refusals *refusals
	socket   setting.Socket

	mu       sync.Mutex
	listener net.Listener // nil: off, or not yet
}

func (f *front) current() net.Listener {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.listener
}

func (f *front) take(ln net.Listener) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listener = ln
}

// socketMode is for a unix socket: owner and group, as for the admin socket.
const socketMode = 0o660

// listen opens the page. Mail does not wait for a status page: a port that is taken is
// reported, and tried again.
func (f *front) listen(ctx context.Context, c *unit.Config) error {
	if list := f.env.Host.Inherited("http"); len(list) > 0 {
		f.take(list[0])
		return nil
	}
	if f.socket = unit.Part[ListenConfig](c).HTTP; f.socket.IsZero() {
		return nil
	}
	f.open(ctx)
	return nil
}

// open tries to open the configured socket.
func (f *front) open(ctx context.Context) {
	ln, err := listen.Open(ctx, "http", f.socket, listen.Options{Mode: socketMode}, f.env.Host.LookEvery(), f.env.Log)
	if err != nil {
		f.env.Notices.Raise(slog.LevelWarn, "dashboard", "no status page and no metrics; retrying", "error", fmt.Errorf("http: %w", err))
		return
	}
	f.env.Notices.Clear("dashboard", "status page and metrics are served", "address", ln.Addr().String())
	f.take(ln)
}

func (f *front) serve(ctx context.Context) error {
	if f.socket.IsZero() && f.current() == nil {
		return nil
	}
	retry := time.NewTicker(f.env.Host.LookEvery())
	defer retry.Stop()
	for f.current() == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-retry.C:
			f.open(ctx)
		}
	}
	return f.server.Serve(ctx, f.current())
}

func (f *front) address() string {
	if ln := f.current(); ln != nil {
		return ln.Addr().String()
	}
	return ""
}

func (f *front) close() error {
	if ln := f.current(); ln != nil {
		_ = ln.Close()
	}
	return nil
}

// table shows the last refusals.
func (r *refusals) table() view.Table {
	t := statusTable()
	for _, one := range r.list() {
		mode := "refused"
		if one.Rehearsed {
			mode = "rehearsed"
		}
		t.Add("", one.At, one.Recipient, fmt.Sprintf("%d %s %s", one.Code, one.Enhanced, one.Text), one.Reason, one.Source, one.Backend, one.Client, one.Sender, mode)
	}
	return t
}

// statusTable is the table "refusals" without rows.
func statusTable() view.Table {
	return view.Table{
		Name: "refusals", Title: "Last refusals", Empty: "none yet",
		Doc: "the last refusals of this gateway",
		Columns: view.Explained(
			"at", "When", "when",
			"recipient", "Recipient", "whom the mail was for",
			"reply", "Reply", "what the sender was told",
			"reason", "Reason", "why, in one word",
			"source", "Source", "where the answer came from",
			"backend", "Server", "the server that was asked",
			"client", "Client", "who sent it",
			"sender", "Sender", "the reverse-path",
			"mode", "Mode", "refused, or rehearsed: it was let through",
		),
	}
}
