// SPDX-License-Identifier: BSD-2-Clause

package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
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
	return unit.Unit{Name: "dns", Open: open, Tables: []view.Table{statusTable()}, Parts: []config.Part{
		{Section: "dns", Doc: "blocklists as DNS zones (RFC 5782, docs/virus-senders.md)", Defaults: DefaultConfig()},
	}}
}

// front is the server, its zones and its sockets.
type front struct {
	env     *unit.Env
	server  *server
	pending *zones // of the configuration that was built last

	mu      sync.Mutex
	sockets []sockets // empty: it does not listen
}

func open(env *unit.Env) (unit.Live, error) {
	f := &front{env: env}
	f.server = newServer(env.Log, func(client net.Addr, err error) {
		env.Log.Debug("a DNS connection was closed for what it sent", "client", listen.Peer(client), "error", err)
	})
	return unit.Live{
		Build: f.build, Adopt: func(*unit.Config) { f.server.active.Store(f.pending) }, Warn: warn,
		Listen: f.listen, Serve: f.serve, Hurry: f.server.tcp.Hurry, Address: f.address, Close: f.close,
		Metrics: f.metrics(), Show: f.show,
	}, nil
}

// build prepares the zones. They are served once the configuration is active.
func (f *front) build(s *unit.Setup) error {
	cfg := unit.Part[Config](s.Config)
	z := &zones{allow: cfg.Allow, trusted: func(client netip.Addr) bool { return s.Trusted != nil && s.Trusted(client) }}
	serial := uint32(time.Now().Unix())
	for i, c := range cfg.Zones {
		list := s.Blocklists[c.List]
		if list == nil {
			return setting.Keyf(fmt.Sprintf("dns.zones[%d].list", i+1), "there is no [[blocklist]] named %q", c.List)
		}
		z.list = append(z.list, newZone(c, s.Core().Hostname, list, serial))
	}
	sortZones(z.list)
	f.pending = z
	return nil
}

func warn(c *unit.Config) (list []string) {
	cfg := unit.Part[Config](c)
	for _, socket := range cfg.Listen {
		addr, err := netip.ParseAddrPort(socket.Address)
		if err == nil && len(cfg.Zones) > 0 && len(cfg.Allow) == 0 && !addr.Addr().IsLoopback() {
			list = append(list, fmt.Sprintf("[dns] listens on %s, but allow has no clients: only this machine is answered", socket))
		}
	}
	return list
}

// listen opens the sockets if there are zones. Mail does not wait for them: a port that is taken
// is reported, and tried again.
func (f *front) listen(ctx context.Context, c *unit.Config) error {
	f.try(ctx, c)
	return nil
}

func (f *front) try(ctx context.Context, c *unit.Config) {
	cfg := unit.Part[Config](c)
	if len(cfg.Zones) == 0 {
		return
	}
	var list []sockets
	for _, socket := range cfg.Listen {
		one, err := openSockets(ctx, socket.Address)
		if err != nil {
			for _, s := range list {
				s.close()
			}
			f.env.Notices.Raise(slog.LevelWarn, "dns", "the DNS zones are not served; retrying", "error", listen.Failed(socket, err))
			return
		}
		list = append(list, one)
	}
	f.env.Notices.Clear("dns", "the DNS zones are served")
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sockets = list
}

func (f *front) current() []sockets {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sockets
}

// serve answers. Where nothing is open it looks now and then whether there is something to
// open: a reload may have brought zones.
func (f *front) serve(ctx context.Context) error {
	retry := time.NewTicker(f.env.Host.LookEvery())
	defer retry.Stop()
	for len(f.current()) == 0 {
		select {
		case <-ctx.Done():
			return nil
		case <-retry.C:
			f.try(ctx, f.env.Host.Config())
		}
	}
	return f.server.serve(ctx, f.current())
}

func (f *front) address() string {
	if list := f.current(); len(list) > 0 {
		return list[0].udp.LocalAddr().String()
	}
	return ""
}

// close is for sockets that were never served.
func (f *front) close() error {
	for _, s := range f.current() {
		s.close()
	}
	return nil
}

var kindWords = [kindCount]string{
	kindListed: "listed", kindAbsent: "absent", kindEmpty: "empty", kindRefused: "refused", kindMalformed: "malformed", kindDropped: "dropped",
}

func (f *front) metrics() []metric.Family {
	return []metric.Family{
		{Kind: metric.Counter, Name: "dns_questions_total", Help: "DNS questions, by what was answered.", Labels: []string{"result"}, Read: func(emit metric.Emit) {
			for k, word := range kindWords {
				emit(float64(f.server.counts[k].Load()), word)
			}
		}},
		metric.Level("dns_connections", "DNS connections over TCP open.", func() float64 { return float64(f.server.tcp.Stats().Open) }),
	}
}

func (f *front) show() []view.Table {
	z := f.server.active.Load()
	if len(z.list) == 0 {
		return nil
	}
	names := make([]string, len(z.list))
	for i := range z.list {
		names[i] = z.list[i].text
	}
	t := statusTable()
	c := &f.server.counts
	t.Add("", strings.Join(names, " "), f.address(), c[kindListed].Load(), c[kindAbsent].Load()+c[kindEmpty].Load(), c[kindRefused].Load(), c[kindMalformed].Load()+c[kindDropped].Load())
	return []view.Table{t}
}

// statusTable is the table "dns" without rows.
func statusTable() view.Table {
	return view.Table{
		Name: "dns", Title: "DNS zones",
		Doc: "blocklists as DNS zones; shown if [dns] has a zone",
		Columns: view.Explained(
			"zones", "Zones", "names of the zones",
			"address", "Address", "where the server listens",
			"listed", "Listed", "questions about clients that are listed",
			"absent", "Not listed", "questions about clients and names that are not",
			"refused", "Refused", "questions from clients that may not ask, or about other zones",
			"malformed", "Malformed", "messages that are not questions, and those dropped",
		),
	}
}
