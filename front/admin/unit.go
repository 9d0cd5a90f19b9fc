// SPDX-License-Identifier: BSD-2-Clause

package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"

	"github.com/spf13/cobra"

	"rcptgate/config"
	"rcptgate/config/setting"
	"rcptgate/front/listen"
	"rcptgate/unit"
	"rcptgate/view"
)

// ListenConfig is this front's part of [listen].
type ListenConfig struct {
	Admin      setting.Socket `toml:"admin" doc:"socket over which commands reach the daemon; the default is admin.sock in state" example:"\"unix:/run/rcptgate/admin.sock\"" restart:"true"`
	AdminGroup string         `toml:"admin_group" doc:"group of the admin socket, whose mode is 0660" example:"\"adm\"" restart:"true"`
}

// Validate holds that only a unix socket, whose mode says who may use it, is opened.
func (c ListenConfig) Validate() error {
	if !c.Admin.IsZero() && c.Admin.Network != "unix" {
		return setting.Keyf("admin", "%q is not a unix socket; expected \"unix:/path\", since its mode says who may use it", c.Admin)
	}
	return nil
}

// SocketOf is where the daemon and the command line meet.
func SocketOf(c *unit.Config) setting.Socket {
	if s := unit.Part[ListenConfig](c).Admin; !s.IsZero() {
		return s
	}
	return setting.Socket{Network: "unix", Address: filepath.Join(c.Core().State, "admin.sock")}
}

// Derive writes the default socket out.
func (c *ListenConfig) Derive(core *unit.Core) {
	if c.Admin.IsZero() {
		c.Admin = setting.Socket{Network: "unix", Address: filepath.Join(core.State, "admin.sock")}
	}
}

// Unit is the front, with the commands that go through it.
func Unit() unit.Unit {
	return unit.Unit{
		Name: "admin", Socket: "admin", Open: open,
		Parts:    []config.Part{{Section: "listen", Defaults: ListenConfig{}}},
		Commands: func(c *unit.CLI) []*cobra.Command { return commands{c}.all() },
	}
}

func open(env *unit.Env) (unit.Live, error) {
	h := env.Host
	f := &front{env: env, server: New(Options{
		Gate: &h.Gate, Memory: env.Memory, Show: h.Show, FoldCase: h.FoldCase, Version: h.Version(), Hostname: h.Hostname, Log: env.Log,
		Reload: func(context.Context) (unit.Reloaded, error) { return h.Reload() },
		Status: h.Status,
		Views:  func() []view.Table { return h.Views() },
		Tables: h.Declared(),
		Do:     h.Do,
	})}
	return unit.Live{Listen: f.listen, Serve: func(ctx context.Context) error { return f.server.Serve(ctx, f.listener) }, Close: f.close, Warn: func(c *unit.Config) []string {
		return listen.NoGroup("admin_group in [listen]", unit.Part[ListenConfig](c).AdminGroup)
	}}, nil
}

// socketMode lets owner and group in, and no one else.
const socketMode = 0o660

type front struct {
	env      *unit.Env
	server   *Server
	listener net.Listener
}

// listen opens the socket. That the default one cannot be made does not keep mail from
// being answered: a state directory that is read-only or gone is reported, and the socket
// is made as soon as it can be.
func (f *front) listen(ctx context.Context, c *unit.Config) error {
	if list := f.env.Host.Inherited("admin"); len(list) > 0 {
		f.listener = list[0]
		return nil
	}
	cfg, socket := unit.Part[ListenConfig](c), SocketOf(c)
	ln, err := listen.KeepUnix(ctx, "admin", socket, listen.Options{Mode: socketMode, Group: cfg.AdminGroup, Made: f.made}, f.env.Host.LookEvery(), f.env.Log)
	f.listener = ln
	if err != nil && (!cfg.Admin.IsZero() || errors.Is(err, listen.ErrInUse)) {
		return err
	}
	if err != nil {
		f.env.Notices.Raise(slog.LevelWarn, "admin socket", "no admin socket: commands cannot reach this daemon; retrying", "error", err)
	}
	return nil
}

// made takes the trouble with the socket off the board.
func (f *front) made() { f.env.Notices.Clear("admin socket", "") }

func (f *front) close() error {
	if f.listener != nil {
		_ = f.listener.Close()
	}
	return nil
}
