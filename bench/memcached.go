// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"rcptgate"
	"rcptgate/backend/sim"
	"rcptgate/bench/load"
	"rcptgate/store/memcached"
)

// sharedPeople is the number of recipients that memcached holds, and sharedEntries the number of those that the gate
// which is asked about them keeps in RAM, the least that can be configured: 199 of 200 questions go to memcached.
const (
	sharedPeople  = 200_000
	sharedEntries = 1000
)

// sharedPace is the rate at which the latency of answers from memcached is measured, in RCPT/s.
const sharedPace = pacedRate / 2

// errNoMemcached says that there is no memcached to measure with.
var errNoMemcached = errors.New("no memcached in PATH, nor in the lab that \"make lab\" prepares")

// memcachedCommand is how a memcached is started here: Debian's or the administrator's, else the one of the lab of real
// servers (test/install.sh), whose libraries are next to it.
func memcachedCommand() ([]string, error) {
	if name, err := exec.LookPath("memcached"); err == nil {
		return []string{name}, nil
	}
	kit := filepath.Join(cmp.Or(os.Getenv("RCPTGATE_LAB"), "/var/cache/rcptgate-lab"), "memcached")
	name := filepath.Join(kit, "usr/bin/memcached")
	if _, err := os.Stat(name); err != nil {
		return nil, errNoMemcached
	}
	libs, _ := filepath.Glob(filepath.Join(kit, "usr/lib/*-linux-gnu")) // the pattern is well formed
	return []string{"/usr/bin/env", "LD_LIBRARY_PATH=" + strings.Join(libs, ":"), name}, nil
}

// memcached starts a memcached on a unix socket in a directory of its own, or on that socket again.
func (b *bench) memcached(ctx context.Context, socket string) (*process, error) {
	command, err := memcachedCommand()
	if err != nil {
		return nil, err
	}
	if socket == "" {
		dir, err := b.newDir("memcached")
		if err != nil {
			return nil, err
		}
		socket = filepath.Join(dir, "memcached.sock")
	}
	_ = os.Remove(socket) // of one that was killed
	args := append(command, "-U", "0", "-t", "2", "-m", "256", "-s", socket)
	if os.Getuid() == 0 {
		args = append(args, "-u", "root") // the directory is nobody else's
	}
	return start(ctx, "memcached", socket, args...)
}

// kill ends a child at once, whatever state it is in.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// sharingGate starts a gate that uses a memcached; more are lines of its section [cache].
func (b *bench) sharingGate(ctx context.Context, backend *sim.Server, socket, more string) (gate *process, metrics string, err error) {
	dir, err := b.gateDir(map[string]string{domain: backend.Backend()})
	if err != nil {
		return nil, "", err
	}
	text := fmt.Sprintf("\n[cache]\nmemcached = [%q]\n%s", "unix:"+socket, more)
	if err := appendFile(filepath.Join(dir, "rcptgate.toml"), text); err != nil {
		return nil, "", err
	}
	gate, err = b.serve(ctx, dir)
	return gate, metricsOf(dir), err
}

// sharedMemory measures what memcached gives and what it costs.
func sharedMemory(ctx context.Context, b *bench, t *Table) error {
	if _, err := memcachedCommand(); err != nil {
		t.Figure("answers from memcached, and a memcached that is dead or hangs", "left out: "+err.Error(), nil)
		return nil //nolint:nilerr // the figure says so
	}
	if err := b.fromMemcached(ctx, t); err != nil {
		return err
	}
	if err := b.besideMemcached(ctx, t); err != nil {
		return err
	}
	for _, trouble := range []memcachedTrouble{
		{"is killed", (*process).kill},
		{"hangs", func(p *process) { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }},
	} {
		if err := b.withTrouble(ctx, t, trouble); err != nil {
			return err
		}
	}
	return nil
}

// fromMemcached measures answers that are in memcached and not in the gate's own memory, compared with the echo milter.
func (b *bench) fromMemcached(ctx context.Context, t *Table) error {
	backend, err := startBackend(0)
	if err != nil {
		return err
	}
	defer backend.Stop()
	server, err := b.memcached(ctx, "")
	if err != nil {
		return err
	}
	defer server.stop()
	count := min(sharedPeople, b.Entries)
	if err := fillMemcached(ctx, server.socket, backend.Backend(), count); err != nil {
		return fmt.Errorf("filling memcached: %w", err)
	}
	echo, gate := new(side), new(side)
	if echo.process, err = b.echo(ctx, nil); err != nil {
		return err
	}
	defer echo.stop()
	var metrics string
	if gate.process, metrics, err = b.sharingGate(ctx, backend, server.socket, fmt.Sprintf("entries = %d\ndisk_entries = 0\n", sharedEntries)); err != nil {
		return err
	}
	defer gate.stop()
	for _, s := range []*side{echo, gate} {
		if s.conns, err = b.dial(ctx, s.process, b.Connections, people(goodUser, 1, count, domain).Shuffled()); err != nil {
			return err
		}
		defer load.CloseAll(s.conns)
	}
	if err := b.turns(ctx, echo, gate, b.Rounds, b.Each, 0); err != nil {
		return err
	}
	if err := b.turns(ctx, echo, gate, b.Rounds*pieces, b.Each/pieces, cmp.Or(b.Rate, sharedPace)); err != nil {
		return err
	}
	hits, err := metric(ctx, metrics, "rcptgate_memcached_hits_total", "")
	if err != nil {
		return err
	}
	// The answers at a fixed rate are in hits, too: more than those as fast as it goes when all is well.
	if asked := float64(gate.asked); count > 100*sharedEntries && hits < 0.9*asked {
		return fmt.Errorf("of %.0f answers only %.0f are from memcached", asked, hits)
	}
	b.fromMemcachedRows(t, echo, gate, count, backend.Stats().Probes)
	return nil
}

func (b *bench) fromMemcachedRows(t *Table, echo, gate *side, count, probes int) {
	what := fmt.Sprintf("answers from memcached (%d recipients, %d of them in the gate's RAM)", count, sharedEntries)
	ratio := MedianRatio(gate.rates, echo.rates)
	t.Figure(fmt.Sprintf("%s, %d MTA connections", what, b.Connections),
		fmt.Sprintf("%.0f RCPT/s, echo milter %.0f: %.2f; p99 %.0f µs; %d probes", Median(gate.rates), Median(echo.rates), ratio, Median(micros(gate.p99)), probes),
		map[string]float64{"gate": Median(gate.rates), "echo": Median(echo.rates), "ratio": ratio, "p99_us": Median(micros(gate.p99)), "probes": float64(probes)})
	g, e := Median(micros(gate.paced)), Median(micros(echo.paced))
	t.Figure(fmt.Sprintf("p99 of an answer from memcached at %.0f RCPT/s", cmp.Or(b.Rate, sharedPace)), fmt.Sprintf("%.0f µs, echo milter %.0f µs", g, e),
		map[string]float64{"gate_us": g, "echo_us": e})
	t.Figure("processor time an answer from memcached takes the gate", fmt.Sprintf("%.1f µs, echo %.1f µs", gate.perAnswer(), echo.perAnswer()),
		map[string]float64{"gate_us": gate.perAnswer(), "echo_us": echo.perAnswer()})
}

// fillMemcached writes the answers as a gate does, no faster than they are taken.
func fillMemcached(ctx context.Context, socket, backend string, count int) error {
	cfg := memcached.DefaultConfig()
	at, err := memcached.ParseServer("unix:" + socket)
	if err != nil {
		return err
	}
	cfg.Servers = []memcached.Server{at}
	client, err := memcached.NewClient(cfg, slog.New(slog.DiscardHandler), memcached.ClientOptions{
		Timeout: time.Second, // a pause of this process is not the server's fault
	})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	s := memcached.New(client, memcached.Options{})
	defer func() { _ = s.Close() }()
	names, rec := people(goodUser, 1, count, domain), answer(backend, time.Now())
	for range count {
		if err := s.Put(ctx, string(names.Append(nil)), rec); err != nil {
			return err
		}
		if err := waitBelow(ctx, s, 1000); err != nil {
			return err
		}
	}
	if err := waitBelow(ctx, s, 0); err != nil {
		return err
	}
	if q := s.Queue(); q.Dropped+q.Failed > 0 {
		return fmt.Errorf("%d answers were not written", q.Dropped+q.Failed)
	}
	key := string(people(goodUser, 1, count, domain).Append(nil))
	_, err = s.Get(rcptgate.WithBudget(ctx, time.Second), key)
	return err
}

// waitBelow waits until at most so many answers are still to be written.
func waitBelow(ctx context.Context, s *memcached.Store, most int) error {
	for end := time.Now().Add(time.Minute); s.Queue().Waiting > most; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%d answers wait to be written", s.Queue().Waiting)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// besideMemcached measures new recipients with and without a memcached, in turns: a look-up, a lease and a write more.
func (b *bench) besideMemcached(ctx context.Context, t *Table) error {
	return b.withGate(ctx, 0, func(p *process, backend *sim.Server) error {
		server, err := b.memcached(ctx, "")
		if err != nil {
			return err
		}
		defer server.stop()
		shares, _, err := b.sharingGate(ctx, backend, server.socket, "")
		if err != nil {
			return err
		}
		defer shares.stop()
		alone, sharing := &side{process: p}, &side{process: shares}
		if err := InTurns(b.Rounds, []*side{alone, sharing}, func(round int, s *side) error {
			return b.missTurn(ctx, s, round, true)
		}); err != nil {
			return err
		}
		ratio := MedianRatio(sharing.rates, alone.rates)
		t.Figure("misses against a fast backend with memcached, compared with a gate without",
			fmt.Sprintf("%.0f RCPT/s, without %.0f: %.2f (%.0f and %.0f µs of processor time)", Median(sharing.rates), Median(alone.rates), ratio, sharing.perAnswer(), alone.perAnswer()),
			map[string]float64{"with": Median(sharing.rates), "without": Median(alone.rates), "ratio": ratio, "with_us": sharing.perAnswer(), "without_us": alone.perAnswer()})
		return nil
	})
}
