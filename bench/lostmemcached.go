// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"rcptgate/backend/sim"
	"rcptgate/bench/load"
)

// memcachedTrouble is what happens to the memcached at the beginning of a turn.
type memcachedTrouble struct {
	what string
	do   func(*process)
}

const (
	// troublePace is the rate at which new recipients are asked about meanwhile, in RCPT/s: far from what a gate can do,
	// so that waiting for others is no part of the time.
	troublePace = 1000
	// troubleConnections are so many that no question waits for the one before it on its connection, were all to take
	// 100 ms.
	troubleConnections = troublePace / 10
	// troubleTurn bounds a turn: what matters is the moment when the server goes.
	troubleTurn = 500 * time.Millisecond
)

// lost is a gate whose memcached comes and goes, and its answers.
type lost struct {
	*bench
	gate    *process
	server  *process // its memcached; nil for a gate without
	metrics string
	medians []float64 // ms, of each turn
	longest []float64 // ms, of each turn
}

// withTrouble measures new recipients of two gates in turns. One has no memcached, that of the other goes away at the
// beginning of each of its turns. The machine takes a processor away for longer than a gate waits for memcached, now and
// then: so the longest answer is that of the median turn, and the longest of all is given next to it.
func (b *bench) withTrouble(ctx context.Context, t *Table, trouble memcachedTrouble) error {
	return b.withGate(ctx, 0, func(p *process, backend *sim.Server) (err error) {
		alone, troubled := &lost{bench: b, gate: p}, &lost{bench: b}
		if troubled.server, err = b.memcached(ctx, ""); err != nil {
			return err
		}
		defer func() { troubled.server.kill() }()
		if troubled.gate, troubled.metrics, err = b.sharingGate(ctx, backend, troubled.server.socket, ""); err != nil {
			return err
		}
		defer troubled.gate.stop()
		if err := InTurns(2*b.Rounds, []*lost{alone, troubled}, func(round int, g *lost) error {
			return g.turn(ctx, trouble, round)
		}); err != nil {
			return err
		}
		added, most := Median(troubled.medians)-Median(alone.medians), Median(troubled.longest)-Median(alone.longest)
		t.Bar(fmt.Sprintf("a memcached that %s: what it adds to answers about new recipients, median and longest of a turn, %d RCPT/s", trouble.what, troublePace),
			fmt.Sprintf("%.2f ms (%.2f, without memcached %.2f), %.1f ms (%.1f and %.1f; of all turns %.1f and %.1f)",
				added, Median(troubled.medians), Median(alone.medians), most, Median(troubled.longest), Median(alone.longest), slices.Max(troubled.longest), slices.Max(alone.longest)),
			"1 ms, 50 ms", added < 1 && most <= 50,
			map[string]float64{
				"median_added_ms": added, "longest_added_ms": most, "median_ms": Median(troubled.medians), "longest_ms": Median(troubled.longest),
				"without_median_ms": Median(alone.medians), "without_longest_ms": Median(alone.longest), "longest_of_all_ms": slices.Max(troubled.longest),
			})
		return nil
	})
}

// turn asks about recipients that this gate has not been asked about before.
func (l *lost) turn(ctx context.Context, trouble memcachedTrouble, series int) error {
	if l.server != nil {
		if err := l.bring(ctx); err != nil {
			return err
		}
	}
	conns, err := l.dial(ctx, l.gate, troubleConnections, people(mixedUser, 2+series, 9_000_000, domain))
	if err != nil {
		return err
	}
	defer load.CloseAll(conns)
	if _, err := l.ask(ctx, conns, load.Plan{Count: 10 * troubleConnections}); err != nil { // it opens connections to the backend
		return err
	}
	if l.server != nil {
		trouble.do(l.server)
	}
	r, err := l.ask(ctx, conns, load.Plan{Duration: min(l.Each, troubleTurn), Rate: troublePace})
	if err != nil {
		return err
	}
	if r.Temporary > 0 {
		return fmt.Errorf("%d of %d recipients were put off with a memcached that %s%s", r.Temporary, r.Asked, trouble.what, l.gate.log.tail())
	}
	l.medians = append(l.medians, r.Latency.Quantile(0.5).Seconds()*1e3)
	l.longest = append(l.longest, r.Latency.Max().Seconds()*1e3)
	return nil
}

// bring starts the memcached anew and waits until the gate uses it.
func (l *lost) bring(ctx context.Context) (err error) {
	socket := l.server.socket
	l.server.kill()
	if l.server, err = l.memcached(ctx, socket); err != nil {
		return err
	}
	for end := time.Now().Add(startLimit); ; {
		up, err := metric(ctx, l.metrics, "rcptgate_memcached_up", "")
		switch {
		case err != nil:
			return err
		case up == 1:
			return nil
		case time.Now().After(end):
			return errors.New("the gate does not use its memcached again" + l.gate.log.tail())
		}
		time.Sleep(50 * time.Millisecond)
	}
}
