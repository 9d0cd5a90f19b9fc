// SPDX-License-Identifier: BSD-2-Clause

package socketmap

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"rcptgate/config"
	"rcptgate/config/setting"
	"rcptgate/front/listen"
	"rcptgate/metric"
	"rcptgate/unit"
	"rcptgate/view"
)

// Unit is the front.
func Unit() unit.Unit {
	return unit.Unit{Name: "socketmap", Socket: "socketmap", Open: open, Tables: []view.Table{statusTable()}, Parts: []config.Part{
		{Section: "listen", Defaults: ListenConfig{}},
		{Section: "socketmap", Doc: "blocklists as maps for Sendmail and Postfix (docs/virus-senders.md). Addresses are in [listen]", Defaults: DefaultConfig()},
	}}
}

// drainTime is how long look-ups in progress may take after the daemon was asked to end.
const drainTime = 10 * time.Second

// front is the maps and their sockets.
type front struct {
	env     *unit.Env
	server  listen.Exchange
	sockets []net.Listener

	pending *answers // of the configuration that was built last
	active  atomic.Pointer[answers]
	counts  [resultCount]atomic.Uint64
}

func open(env *unit.Env) (unit.Live, error) {
	f := &front{env: env}
	f.active.Store(&answers{})
	cfg := unit.Part[Config](env.Host.Config())
	f.server = listen.Exchange{
		Name: "socketmap", Most: cfg.Connections, Idle: cfg.Idle.Std(), Frame: cfg.FrameTime.Std(), Drain: drainTime,
		Size: maxFrame, Split: split, Answer: f.answer, Broken: f.broken, Log: env.Log,
	}
	return unit.Live{
		Build: f.build, Adopt: func(*unit.Config) { f.active.Store(f.pending) },
		Listen: f.listen, Serve: f.serve, Hurry: f.server.Hurry, Close: f.close, Address: f.address,
		Warn: warn, Metrics: f.metrics(), Show: f.show,
	}, nil
}

// build makes the maps. They become active with the configuration.
func (f *front) build(s *unit.Setup) error {
	cfg := unit.Part[Config](s.Config)
	for i, m := range cfg.Maps {
		if s.Blocklists[m.List] == nil {
			return setting.Keyf(fmt.Sprintf("socketmap.maps[%d].list", i+1), "there is no [[blocklist]] named %q", m.List)
		}
	}
	f.pending = newAnswers(s, cfg.Maps)
	return nil
}

func (f *front) answer(ctx context.Context, _ net.Addr, out, question []byte) ([]byte, error) {
	a := f.active.Load()
	out, r := a.answer(ctx, out, question)
	f.counts[r].Add(1)
	if r == unknownMap {
		name, _, _ := strings.Cut(string(question[:min(len(question), 64)]), " ")
		f.env.Notices.Warn("socketmap unknown", "an MTA asks for a map that does not exist", "map", view.Clean(name), "maps", strings.Join(a.names(), " "))
	}
	return out, nil
}

func (f *front) broken(client net.Addr, err error) {
	f.env.Notices.Warn("socketmap malformed", "a socketmap connection was closed for what it sent", "client", listen.Peer(client), "error", err)
}

func warn(c *unit.Config) (list []string) {
	sockets, cfg := unit.Part[ListenConfig](c).Socketmap, unit.Part[Config](c)
	for _, socket := range sockets {
		list = append(list, listen.Exposed("socketmap", socket, "anyone who can reach the port can ask")...)
	}
	if len(sockets) > 0 {
		list = append(list, listen.NoGroup("socket_group in [socketmap]", cfg.SocketGroup)...)
	}
	return list
}

// listen opens the sockets; what systemd has opened stands for all of the configuration's.
func (f *front) listen(ctx context.Context, c *unit.Config) error {
	if f.sockets = f.env.Host.Inherited("socketmap"); len(f.sockets) > 0 {
		return nil
	}
	cfg := unit.Part[Config](c)
	for _, socket := range unit.Part[ListenConfig](c).Socketmap {
		ln, err := listen.Open(ctx, "socketmap", socket, listen.Options{Mode: os.FileMode(cfg.SocketMode), Group: cfg.SocketGroup, MakeFolder: true}, f.env.Host.LookEvery(), f.env.Log)
		if err != nil {
			return err
		}
		f.sockets = append(f.sockets, ln)
	}
	return nil
}

func (f *front) serve(ctx context.Context) error {
	if len(f.sockets) == 0 {
		return nil
	}
	return f.server.Serve(ctx, f.sockets...)
}

// close is for sockets that were never served.
func (f *front) close() error {
	for _, ln := range f.sockets {
		_ = ln.Close()
	}
	return nil
}

func (f *front) address() string {
	if len(f.sockets) == 0 {
		return ""
	}
	return f.sockets[0].Addr().String()
}

var resultWords = [resultCount]string{found: "found", absent: "absent", failed: "failed", unknownMap: "unknown_map"}

func (f *front) metrics() []metric.Family {
	of := func(get func(listen.ExchangeStats) float64) func() float64 {
		return func() float64 { return get(f.server.Stats()) }
	}
	return []metric.Family{
		{Kind: metric.Counter, Name: "socketmap_questions_total", Help: "Look-ups in socket maps, by result.", Labels: []string{"result"}, Read: func(emit metric.Emit) {
			for r, word := range resultWords {
				emit(float64(f.counts[r].Load()), word)
			}
		}},
		metric.Level("socketmap_connections", "Socketmap connections open.", of(func(s listen.ExchangeStats) float64 { return float64(s.Open) })),
		metric.Count("socketmap_connections_refused_total", "Socketmap connections closed at once because there were too many.", of(func(s listen.ExchangeStats) float64 { return float64(s.Refused) })),
		metric.Count("socketmap_protocol_errors_total", "Socketmap connections ended by a malformed question.", of(func(s listen.ExchangeStats) float64 { return float64(s.Malformed) })),
		metric.Count("socketmap_timeouts_total", "Socketmap connections ended for being slow.", of(func(s listen.ExchangeStats) float64 { return float64(s.TimedOut) })),
	}
}

func (f *front) show() []view.Table {
	if len(f.sockets) == 0 {
		return nil
	}
	t := statusTable()
	st := f.server.Stats()
	t.Add("", strings.Join(f.active.Load().names(), " "), st.Open, f.counts[found].Load(), f.counts[absent].Load(), f.counts[failed].Load()+f.counts[unknownMap].Load(), st.Malformed)
	return []view.Table{t}
}

// statusTable is the table "socketmap" without rows.
func statusTable() view.Table {
	return view.Table{
		Name: "socketmap", Title: "Socket maps",
		Doc: "blocklists as Postfix asks for them; shown if [listen] socketmap is set",
		Columns: view.Explained(
			"maps", "Maps", "the maps that can be asked for",
			"open", "Connections open", "connections open now",
			"found", "Found", "questions about clients that are listed",
			"absent", "Not found", "questions about clients that are not",
			"failed", "Failed", "questions that could not be answered, those for a map that does not exist included",
			"malformed", "Malformed", "questions that break the protocol",
		),
	}
}
