// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"rcptgate/config"
	"rcptgate/config/setting"
	"rcptgate/front/listen"
	"rcptgate/kit/exit"
	"rcptgate/metric"
	"rcptgate/unit"
	"rcptgate/view"
)

// ListenConfig is this front's part of [listen].
type ListenConfig struct {
	Milter      []setting.Socket `toml:"milter" doc:"milter sockets, in Sendmail's or Postfix's spelling" example:"[\"unix:/run/rcptgate/milter.sock\"]" restart:"true"`
	MilterLocal []setting.Socket `toml:"milter_local" doc:"further milter sockets, for mail that this machine's own users submit (Postfix: non_smtpd_milters). A recipient is never refused there, which would leave the mail in the queue: the message is refused at its end instead, so that it comes back to its sender" example:"[\"inet:127.0.0.1:8891\"]" restart:"true"`
}

// all are the sockets, those for local mail last.
func (c *ListenConfig) all() []setting.Socket { return slices.Concat(c.Milter, c.MilterLocal) }

// Unit is the front.
func Unit() unit.Unit {
	return unit.Unit{Name: "milter", Open: open, Tables: []view.Table{statusTable()}, Parts: []config.Part{
		{Section: "listen", Defaults: ListenConfig{
			Milter: []setting.Socket{{Network: "tcp", Address: "127.0.0.1:8890"}},
		}},
		{Section: "milter", Doc: "the milter protocol, for Sendmail and Postfix", Defaults: DefaultConfig()},
	}}
}

func open(env *unit.Env) (unit.Live, error) {
	f := &front{env: env}
	c := env.Host.Config()
	f.server = New(&env.Host.Gate, *unit.Part[Config](c), env.Log)
	f.server.SpoolIn(filepath.Join(c.Core().State, "spool"), env.Notices)
	return unit.Live{
		Listen: f.listen, Serve: f.serve, Hurry: f.server.Hurry, Close: f.close, Warn: warn,
		Metrics: f.metrics(), Show: f.show,
	}, nil
}

func warn(c *unit.Config) (list []string) {
	for _, socket := range unit.Part[ListenConfig](c).all() {
		list = append(list, listen.Exposed("milter", socket, "anyone who can reach the port can ask")...)
	}
	return append(list, listen.NoGroup("socket_group in [milter]", unit.Part[Config](c).SocketGroup)...)
}

// front is the server and its sockets.
type front struct {
	env    *unit.Env
	server *Server
	list   []net.Listener
	local  map[net.Listener]bool
}

// listen takes what systemd has opened; one such socket stands for all of the
// configuration's.
func (f *front) listen(ctx context.Context, c *unit.Config) error {
	if f.list = f.env.Host.Inherited(""); len(f.list) > 0 {
		return nil
	}
	sockets, cfg := unit.Part[ListenConfig](c).Milter, unit.Part[Config](c)
	if len(sockets) == 0 {
		return exit.With(exit.Config, errors.New("no milter socket: milter in [listen] is empty, and systemd has opened none"))
	}
	f.local = make(map[net.Listener]bool)
	for i, socket := range unit.Part[ListenConfig](c).all() {
		ln, err := listen.Open(ctx, "milter", socket, listen.Options{Mode: os.FileMode(cfg.SocketMode), Group: cfg.SocketGroup, MakeFolder: true}, f.env.Host.LookEvery(), f.env.Log)
		if err != nil {
			return err
		}
		f.list = append(f.list, ln)
		f.local[ln] = i >= len(sockets)
	}
	return nil
}

func (f *front) serve(ctx context.Context) error {
	var all sync.WaitGroup
	failed := make([]error, len(f.list))
	for i, ln := range f.list {
		serve := f.server.Serve
		if f.local[ln] {
			serve = f.server.ServeLocal
		}
		all.Go(func() { failed[i] = serve(ctx, ln) })
	}
	all.Wait()
	return errors.Join(failed...)
}

// close is for sockets that were never served.
func (f *front) close() error {
	for _, ln := range f.list {
		_ = ln.Close()
	}
	return nil
}

func (f *front) metrics() []metric.Family {
	of := func(get func(*Stats) float64) func() float64 {
		return func() float64 { st := f.server.Stats(); return get(&st) }
	}
	return []metric.Family{
		metric.Level("milter_connections", "Milter connections open.", of(func(s *Stats) float64 { return float64(s.Open) })),
		metric.Count("milter_connections_total", "Milter connections accepted.", of(func(s *Stats) float64 { return float64(s.Accepted) })),
		metric.Count("milter_connections_refused_total", "Milter connections closed at once because there were too many.", of(func(s *Stats) float64 { return float64(s.Refused) })),
		metric.Count("milter_transactions_total", "MAIL commands seen.", of(func(s *Stats) float64 { return float64(s.Transactions) })),
		metric.Count("milter_recipients_total", "RCPT commands seen.", of(func(s *Stats) float64 { return float64(s.Recipients) })),
		metric.Count("milter_protocol_errors_total", "Milter connections ended by a malformed frame.", of(func(s *Stats) float64 { return float64(s.ProtocolErrors) })),
		metric.Level("milter_spool_bytes", "Octets of message bodies kept now, in memory and on disk.", of(func(s *Stats) float64 { return float64(s.Spooled) })),
		metric.Count("milter_unspooled_total", "Messages deferred because their bodies could not be kept.", of(func(s *Stats) float64 { return float64(s.Unspooled) })),
		metric.Count("milter_timeouts_total", "Milter connections ended for being silent or slow.", of(func(s *Stats) float64 { return float64(s.TimedOut) })),
	}
}

func (f *front) show() []view.Table {
	st := f.server.Stats()
	t := statusTable()
	t.Add("", st.Open, st.Accepted, st.Refused, st.Transactions, st.Recipients, st.ProtocolErrors, st.TimedOut)
	return []view.Table{t}
}

// statusTable is the table "milter" without rows.
func statusTable() view.Table {
	return view.Table{
		Name: "milter", Title: "Milter",
		Doc: "the MTA's questions",
		Columns: view.Explained(
			"open", "Connections open", "connections open now",
			"accepted", "Accepted", "connections that the MTA has opened",
			"refused", "Refused", "connections turned away because too many were open",
			"transactions", "Transactions", "mails begun (MAIL FROM)",
			"recipients", "Recipients", "recipients asked about (RCPT TO)",
			"malformed", "Malformed", "connections ended because of a frame that breaks the protocol",
			"timed_out", "Timed out", "connections ended because the MTA was silent or slow",
		),
	}
}
