// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"rcptgate/backend/sim"
	"rcptgate/bench/load"
)

// Options says what is measured and for how long. The zero value of each field is its default.
type Options struct {
	// Binary is the rcptgate to start; default this one.
	Binary string
	// Connections is the number of MTA connections where a row does not name its own; default 8.
	Connections int
	// Each is how long one turn of a measurement lasts; default 2 s.
	Each time.Duration
	// Rounds is the number of turns that each side gets; default 5.
	Rounds int
	// Rate is the offered rate for latencies, in RCPT/s; default pacedRate.
	Rate float64
	// Entries is the number of remembered recipients in the rows on memory, and of names in the alias file; default 1,000,000.
	Entries int
	// Only names the measurements to make (see Names); default all.
	Only []string
	// Progress gets a line for each measurement; default none.
	Progress io.Writer
}

func (o *Options) defaults() error {
	if o.Binary == "" {
		name, err := os.Executable()
		if err != nil {
			return fmt.Errorf("finding the program itself: %w", err)
		}
		o.Binary = name
	}
	o.Connections = cmp.Or(o.Connections, 8)
	o.Each = cmp.Or(o.Each, 2*time.Second)
	o.Rounds = cmp.Or(o.Rounds, 5)
	o.Entries = cmp.Or(o.Entries, 1_000_000)
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	for _, name := range o.Only {
		if !slices.Contains(Names(), name) {
			return fmt.Errorf("no measurement is named %q: %s are allowed", name, strings.Join(Names(), ", "))
		}
	}
	return nil
}

// measurement is one part of the run: it appends its rows.
type measurement struct {
	name string
	what string
	run  func(ctx context.Context, b *bench, t *Table) error
}

func measurements() []measurement {
	return []measurement{
		{"remembered", "remembered answers compared with an echo milter", remembered},
		{"quota", "remembered answers with quota on, compared with an echo milter", withEcho(addQuota)},
		{"rules", "remembered answers with 10,000 pairs and 100 rules, compared with an echo milter", withEcho(addRules)},
		{"all", "remembered answers with quota, rules and a blocklist, compared with an echo milter", withEcho(addQuota, addRules, addLists)},
		{"script", "remembered answers with a script, compared with a gate without", withoutScript},
		{"misses", "misses against a fast backend", fastMisses},
		{"slow", "misses against a backend that takes 200 ms", slowMisses},
		{"same", "simultaneous questions for one address", sameQuestion},
		{"memcached", "answers from memcached, and a memcached that is dead or hangs", sharedMemory},
		{"memory", "a store full of answers", memory},
		{"aliases", "an alias file of a million names, and reading it again", aliasTables},
		{"mute", "a backend that says nothing", muteBackend},
		{"messages", "whole messages compared with an echo milter that takes them", messages},
		{"reports", "reports on a mailbox", reports},
		{"idle", "idle and half-dead milter connections", idleConnections},
	}
}

// Names gives the words for Options.Only.
func Names() (names []string) {
	for _, m := range measurements() {
		names = append(names, m.name)
	}
	return names
}

// bench is one run.
type bench struct {
	Options
	dir   string
	count int     // of the directories given out
	share float64 // the generator's highest share of a processor
}

// Run makes the measurements. The error names those that could not be made; the table has the rows of the others. A bar
// that is missed is not an error.
func Run(ctx context.Context, o Options) (*Table, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "rcptgate-bench-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for the run: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	b := &bench{Options: o, dir: dir}
	t := new(Table)
	var failed error
	for _, m := range measurements() {
		if len(o.Only) > 0 && !slices.Contains(o.Only, m.name) {
			continue
		}
		fmt.Fprintf(o.Progress, "measuring %s ...\n", m.what) //nolint:errcheck // progress
		if err := m.run(ctx, b, t); err != nil {
			failed = errors.Join(failed, fmt.Errorf("measuring %s: %w", m.what, err))
		}
		if err := ctx.Err(); err != nil {
			return t, err
		}
	}
	t.Figure("the machine", machine(), map[string]float64{"processors": float64(runtime.NumCPU())})
	t.Note("%s; %d turns of %v a side, in turns; milter over unix sockets, %d recipients a transaction.",
		machine(), o.Rounds, o.Each, perTransaction)
	t.Note("The load generator shares the machine: one thread, at most %.0f %% of one processor.", 100*b.share)
	return t, failed
}

// machine describes where the figures come from.
func machine() string {
	model := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(text), "model name"); ok {
			line, _, _ := strings.Cut(rest, "\n")
			model = strings.Join(strings.Fields(strings.TrimLeft(line, "\t :")), " ")
		}
	}
	return fmt.Sprintf("%d x %s, %s, %s", runtime.NumCPU(), model, runtime.GOOS, runtime.Version())
}

// perTransaction is the number of recipients between MAIL and the end of the transaction.
const perTransaction = 10

// newDir makes a directory for one child.
func (b *bench) newDir(name string) (string, error) {
	b.count++
	dir := filepath.Join(b.dir, fmt.Sprintf("%s%d", name, b.count))
	return dir, os.Mkdir(dir, 0o700)
}

// starter starts a program for recipients of a backend.
type starter func(ctx context.Context, backend *sim.Server) (*process, error)

// echo starts the echo milter, which has no use for the backend.
func (b *bench) echo(ctx context.Context, _ *sim.Server) (*process, error) { return b.startEcho(ctx) }

// directEcho starts one that reads and writes sockets as the gate does.
func (b *bench) directEcho(ctx context.Context, _ *sim.Server) (*process, error) {
	return b.startEcho(ctx, "--direct")
}

func (b *bench) startEcho(ctx context.Context, flags ...string) (*process, error) {
	dir, err := b.newDir("echo")
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "milter.sock")
	return start(ctx, "the echo milter", socket, append([]string{b.Binary, "bench", "--echo", "unix:" + socket}, flags...)...)
}

// dialogue starts the milter that holds one dialogue a recipient with the backend, or asks over kept connections (--kept).
func (b *bench) dialogue(ctx context.Context, backend *sim.Server, flags ...string) (*process, error) {
	dir, err := b.newDir("dialogue")
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "milter.sock")
	args := append([]string{b.Binary, "bench", "--echo", "unix:" + socket, "--dialogue", backend.Addr()}, flags...)
	return start(ctx, "the milter that only asks", socket, args...)
}

// gateDir makes a directory with a configuration that relays each domain to its backend.
func (b *bench) gateDir(domains map[string]string) (string, error) {
	dir, err := b.newDir("gate")
	if err != nil {
		return "", err
	}
	port, err := freePort()
	if err != nil {
		return "", err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "hostname = %q\nenforce = true\nstate = %q\n\n[listen]\nmilter = [%q]\nadmin = %q\nhttp = \"127.0.0.1:%d\"\n",
		"mx.gate.test", dir, "unix:"+filepath.Join(dir, "milter.sock"), "unix:"+filepath.Join(dir, "admin.sock"), port)
	for domain, backend := range domains {
		fmt.Fprintf(&text, "\n[[domain]]\nname = %q\nbackend = [%q]\n", domain, backend)
	}
	return dir, os.WriteFile(filepath.Join(dir, "rcptgate.toml"), []byte(text.String()), 0o600)
}

// serve starts the gate in a directory that gateDir has made.
func (b *bench) serve(ctx context.Context, dir string) (*process, error) {
	return start(ctx, "the gate", filepath.Join(dir, "milter.sock"), b.Binary, "serve", "-c", filepath.Join(dir, "rcptgate.toml"))
}

// gate starts the gate for the simulated backend's domain, with what more there is.
func (b *bench) gate(ctx context.Context, backend *sim.Server, more ...addition) (*process, error) {
	dir, err := b.gateDir(map[string]string{domain: backend.Backend()})
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "rcptgate.toml")
	text, err := os.ReadFile(path) // #nosec G304 -- our own folder
	for _, a := range more {
		if err == nil {
			var part string
			part, err = a.config(dir)
			text = append(append(text, '\n'), part...)
		}
	}
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		return nil, err
	}
	return b.serve(ctx, dir)
}

// plain starts the gate with its defaults.
func (b *bench) plain(ctx context.Context, backend *sim.Server) (*process, error) {
	return b.gate(ctx, backend)
}

// dial opens n milter connections that ask for recipients.
func (b *bench) dial(ctx context.Context, p *process, n int, r *load.Recipients) ([]*load.Conn, error) {
	m := load.Milter{
		Network: "unix", Address: p.socket, Sender: "sender@example.net", NextHop: "[127.0.0.1]",
		PerTransaction: perTransaction, Recipients: r,
	}
	conns, err := load.DialAll(ctx, n, m.Dial)
	if err != nil {
		return nil, fmt.Errorf("%s: %w%s", p.name, err, p.log.tail())
	}
	return conns, nil
}

// ask runs a plan over the connections. A connection that breaks is an error here: figures of a server that drops its
// clients mean nothing.
func (b *bench) ask(ctx context.Context, conns []*load.Conn, p load.Plan) (*load.Result, error) {
	r, err := load.Run(ctx, conns, p)
	if err != nil {
		return nil, err
	}
	if r.Failed > 0 {
		return nil, fmt.Errorf("%d of %d connections broke: %w", r.Failed, len(conns), r.Err)
	}
	b.share = max(b.share, r.Share())
	return r, ctx.Err()
}

// askOnce opens connections, runs a plan and closes them.
func (b *bench) askOnce(ctx context.Context, p *process, n int, r *load.Recipients, plan load.Plan) (*load.Result, error) {
	conns, err := b.dial(ctx, p, n, r)
	if err != nil {
		return nil, err
	}
	defer load.CloseAll(conns)
	return b.ask(ctx, conns, plan)
}
