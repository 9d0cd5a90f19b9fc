// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"rcptgate/backend/sim"
	"rcptgate/bench/load"
)

// muteDomain belongs to a backend that accepts connections and says nothing.
const muteDomain = "mute.example"

// muteBackend measures what a mute backend costs those who ask for its recipients, and those who ask for others.
func muteBackend(ctx context.Context, b *bench, t *Table) error {
	mute := sim.New(sim.Config{Behaviour: sim.Behaviour{Faults: map[sim.Stage]sim.Fault{sim.Banner: {Kind: sim.Hang}}}})
	if err := mute.Start(); err != nil {
		return err
	}
	defer mute.Stop()
	backend, err := startBackend(0)
	if err != nil {
		return err
	}
	defer backend.Stop()
	dir, err := b.gateDir(map[string]string{domain: backend.Backend(), muteDomain: mute.Backend()})
	if err != nil {
		return err
	}
	gate, err := b.serve(ctx, dir)
	if err != nil {
		return err
	}
	defer gate.stop()

	calm, err := b.gate(ctx, backend)
	if err != nil {
		return err
	}
	defer calm.stop()
	first, disturbed, quiet, err := b.duringMute(ctx, gate, calm)
	if err != nil {
		return err
	}
	later, err := b.askOnce(ctx, gate, b.Connections, people(goodUser, 2, 1000, muteDomain), load.Plan{Count: 200})
	if err != nil {
		return err
	}
	if first.Temporary != first.Asked || later.Temporary != later.Asked {
		return fmt.Errorf("questions about a mute backend's recipients: %d of %d and %d of %d were answered with a temporary failure",
			first.Temporary, first.Asked, later.Temporary, later.Asked)
	}
	t.Bar("first questions for a mute backend, longest", fmt.Sprintf("%.2f s", first.Latency.Max().Seconds()), "8.5 s",
		first.Latency.Max() <= 8500*time.Millisecond, map[string]float64{"s": first.Latency.Max().Seconds()})
	t.Bar("later questions for it, longest", fmt.Sprintf("%.1f ms", later.Latency.Max().Seconds()*1e3), "100 ms",
		later.Latency.Max() < 100*time.Millisecond, map[string]float64{"ms": later.Latency.Max().Seconds() * 1e3})
	ratio := MedianRatio(disturbed.rates, quiet.rates)
	t.Bar("misses of another backend meanwhile, compared with those of a gate that asks no mute one",
		fmt.Sprintf("%.0f RCPT/s, the other gate %.0f: %.2f", Median(disturbed.rates), Median(quiet.rates), ratio), "0.9", ratio >= 0.9,
		map[string]float64{"meanwhile": Median(disturbed.rates), "quiet": Median(quiet.rates), "ratio": ratio})
	return nil
}

// While a mute backend is waited for (8 s), muteTurns of muteTurn are measured on each side.
const (
	muteTurns = 16
	muteTurn  = 200 * time.Millisecond
)

// duringMute asks gate for the mute backend's recipients over 8 connections, and meanwhile, in turns, gate and another one
// for recipients of a backend that answers.
func (b *bench) duringMute(ctx context.Context, gate, calm *process) (first *load.Result, disturbed, quiet *side, err error) {
	disturbed, quiet = &side{process: gate}, &side{process: calm}
	for _, s := range []*side{disturbed, quiet} { // the first questions open connections
		if _, err := b.askOnce(ctx, s.process, b.Connections, people(goodUser, 1, 9_000_000, domain), load.Plan{Duration: muteTurn}); err != nil {
			return nil, nil, nil, err
		}
	}
	conns, err := b.dial(ctx, gate, 8, people(goodUser, 1, 1000, muteDomain))
	if err != nil {
		return nil, nil, nil, err
	}
	defer load.CloseAll(conns)
	var waiting sync.WaitGroup
	var ferr error
	waiting.Go(func() { first, ferr = load.Run(ctx, conns, load.Plan{Count: len(conns)}) })
	err = InTurns(muteTurns, []*side{disturbed, quiet}, func(round int, s *side) error {
		r, err := b.askOnce(ctx, s.process, b.Connections, people(goodUser, 2+round, 9_000_000, domain), load.Plan{Duration: muteTurn})
		if err == nil {
			s.rates = append(s.rates, r.PerSecond())
		}
		return err
	})
	waiting.Wait()
	switch {
	case err != nil:
		return nil, nil, nil, err
	case ferr != nil:
		return nil, nil, nil, ferr
	case first.Failed > 0:
		return nil, nil, nil, fmt.Errorf("asking for a mute backend's recipients: %w", first.Err)
	}
	return first, disturbed, quiet, nil
}

// How many connections do nothing, and how many have sent half a frame.
const (
	idleCount = 10_000
	halfCount = 100
)

// idleConnections measures remembered answers of two gates in turns; one of them holds very many connections that do
// nothing.
func idleConnections(ctx context.Context, b *bench, t *Table) error {
	return b.withGate(ctx, 0, func(p *process, backend *sim.Server) error {
		other, err := b.gate(ctx, backend)
		if err != nil {
			return err
		}
		defer other.stop()
		alone, crowded := &side{process: p}, &side{process: other}
		for _, s := range []*side{alone, crowded} {
			if err := b.warm(ctx, s); err != nil {
				return err
			}
			defer load.CloseAll(s.conns)
		}
		leave, err := b.crowd(ctx, other)
		defer leave()
		if err != nil {
			return err
		}
		if err := b.turns(ctx, alone, crowded, b.Rounds, min(b.Each, halfLimit/time.Duration(2*b.Rounds)), 0); err != nil {
			return err
		}
		ratio := MedianRatio(crowded.rates, alone.rates)
		t.Bar(fmt.Sprintf("remembered answers next to %d idle connections and %d half-sent frames", idleCount, halfCount),
			fmt.Sprintf("%.0f RCPT/s, a gate without them %.0f: %.2f (p99 %.0f and %.0f µs)",
				Median(crowded.rates), Median(alone.rates), ratio, Median(micros(crowded.p99)), Median(micros(alone.p99))),
			"0.9", ratio >= 0.9, map[string]float64{"with": Median(crowded.rates), "without": Median(alone.rates), "ratio": ratio})
		return nil
	})
}

// halfLimit bounds the turns next to half-sent frames: the gate ends their connections after ten seconds (frame_time).
const halfLimit = 9 * time.Second

// crowd opens very many connections that do nothing; leave closes them.
func (b *bench) crowd(ctx context.Context, gate *process) (leave func(), err error) {
	var half []net.Conn
	var idle []*load.Conn
	leave = func() {
		load.CloseAll(idle)
		for _, c := range half {
			_ = c.Close()
		}
	}
	if idle, err = b.dial(ctx, gate, idleCount, people(goodUser, 1, 1, domain)); err != nil {
		return leave, err
	}
	for range halfCount {
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", gate.socket)
		if err != nil {
			return leave, fmt.Errorf("opening a connection: %w", err)
		}
		half = append(half, c)
		if _, err := c.Write([]byte{0, 0, 0, 13, 'O', 0, 0}); err != nil { // the beginning of an option negotiation
			return leave, fmt.Errorf("sending half a frame: %w", err)
		}
	}
	return leave, nil
}
