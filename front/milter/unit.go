// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"context"
	"errors"
	"net"
	"os"
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
	Milter []setting.Socket `toml:"milter" doc:"milter sockets, in Sendmail's or Postfix's spelling" example:"[\"unix:/run/rcptgate/milter.sock\"]" restart:"true"`
}

// Unit is the front.
func Unit() unit.Unit {
	return unit.Unit{Name: "milter", Open: open, Parts: []config.Part{
		{Section: "listen", Defaults: ListenConfig{
			Milter: []setting.Socket{{Network: "tcp", Address: "127.0.0.1:8890"}},
		}},
		{Section: "milter", Doc: "the milter protocol, for Sendmail and Postfix", Defaults: DefaultConfig()},
	}}
}

func open(env *unit.Env) (unit.Live, error) {
	f := &front{env: env}
	f.server = New(&env.Host.Gate, *unit.Part[Config](env.Host.Config()), env.Log)
	return unit.Live{
		Listen: f.listen, Serve: f.serve, Hurry: f.server.Hurry, Close: f.close, Warn: warn,
		Metrics: f.metrics(), Show: f.show,
	}, nil
}

func warn(c *unit.Config) (list []string) {
	for _, socket := range unit.Part[ListenConfig](c).Milter {
		list = append(list, listen.Exposed("milter", socket, "everybody who reaches the port can ask")...)
	}
	return append(list, listen.NoGroup("socket_group in [milter]", unit.Part[Config](c).SocketGroup)...)
}

// front is the server and its sockets.
type front struct {
	env    *unit.Env
	server *Server
	list   []net.Listener
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
	for _, socket := range sockets {
		ln, err := listen.Open(ctx, "milter", socket, listen.Options{Mode: os.FileMode(cfg.SocketMode), Group: cfg.SocketGroup, MakeFolder: true}, f.env.Host.LookEvery(), f.env.Log)
		if err != nil {
			return err
		}
		f.list = append(f.list, ln)
	}
	return nil
}

func (f *front) serve(ctx context.Context) error {
	var all sync.WaitGroup
	failed := make([]error, len(f.list))
	for i, ln := range f.list {
		all.Go(func() { failed[i] = f.server.Serve(ctx, ln) })
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
		metric.Count("milter_timeouts_total", "Milter connections ended for being silent or slow.", of(func(s *Stats) float64 { return float64(s.TimedOut) })),
	}
}

func (f *front) show() []view.Table {
	st := f.server.Stats()
	t := view.Table{
		Name: "milter", Title: "Milter",
		Columns: view.Columns("open", "Connections open", "accepted", "Accepted", "refused", "Refused", "transactions", "Transactions", "recipients", "Recipients", "malformed", "Malformed", "timed_out", "Timed out"),
	}
	t.Add("", st.Open, st.Accepted, st.Refused, st.Transactions, st.Recipients, st.ProtocolErrors, st.TimedOut)
	return []view.Table{t}
}
