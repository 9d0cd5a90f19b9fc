// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rcptgate/backend/sim"
	"rcptgate/bench/load"
)

// withGate runs f with a gate before a backend that takes delay for each recipient.
func (b *bench) withGate(ctx context.Context, delay time.Duration, f func(gate *process, backend *sim.Server) error) error {
	backend, err := startBackend(delay)
	if err != nil {
		return err
	}
	defer backend.Stop()
	gate, err := b.gate(ctx, backend)
	if err != nil {
		return err
	}
	defer gate.stop()
	return f(gate, backend)
}

// fastMisses measures new recipients, 1 in 20 of them unknown, and the connections that
// they cost the backend.
func fastMisses(ctx context.Context, b *bench, t *Table) error {
	for _, size := range []struct{ people, bar int }{{1000, 15}, {20_000, 300}} {
		err := b.withGate(ctx, 0, func(gate *process, backend *sim.Server) error {
			r, err := b.askOnce(ctx, gate, b.Connections, people(mixedUser, 1, size.people, domain), load.Plan{Count: size.people})
			if err != nil {
				return err
			}
			if want := size.people / refusedEvery; r.Refused != want || r.Temporary > 0 {
				return fmt.Errorf("%d of %d recipients are unknown, the gate refused %d and was not sure of %d%s",
					want, size.people, r.Refused, r.Temporary, gate.log.tail())
			}
			s := backend.Stats()
			t.Bar(fmt.Sprintf("connections to the backend for %d new recipients, 1 in 20 refused", size.people),
				fmt.Sprintf("%d (%d probes)", s.Connections, s.Probes), fmt.Sprintf("%d", size.bar), s.Connections <= size.bar,
				map[string]float64{"connections": float64(s.Connections), "probes": float64(s.Probes)})
			return nil
		})
		if err != nil {
			return err
		}
	}
	return missRate(ctx, b, t)
}

// missMicros is the most of the gate's processor time, in µs, that a miss may take.
const missMicros = 45

// missRate measures how many misses a second there are, in turns with a milter that holds one dialogue a recipient. Their
// processor time is compared with an answer of the echo milter too, since a processor's speed is in every figure in µs, and
// with what a milter takes that asks over kept connections and does nothing else: the least that any gate can take.
func missRate(ctx context.Context, b *bench, t *Table) error {
	return b.withGate(ctx, 0, func(p *process, backend *sim.Server) error {
		d, err := b.dialogue(ctx, backend)
		if err != nil {
			return err
		}
		defer d.stop()
		k, err := b.dialogue(ctx, backend, "--kept")
		if err != nil {
			return err
		}
		defer k.stop()
		e, err := b.startEcho(ctx)
		if err != nil {
			return err
		}
		defer e.stop()
		gate, single, kept, echo := &side{process: p}, &side{process: d}, &side{process: k}, &side{process: e}
		if err := InTurns(b.Rounds, []*side{gate, single, kept, echo}, func(round int, s *side) error {
			return b.missTurn(ctx, s, round, s != echo)
		}); err != nil {
			return err
		}
		times := MedianRatio(gate.rates, single.rates)
		t.Bar(fmt.Sprintf("misses against a fast backend, %d MTA connections, compared with one dialogue a recipient (what milter-ahead does, at its cheapest)", b.Connections),
			fmt.Sprintf("%.0f RCPT/s, one dialogue each %.0f: %.1f x", Median(gate.rates), Median(single.rates), times), "3 x",
			times >= 3, map[string]float64{"gate": Median(gate.rates), "dialogue": Median(single.rates), "times": times})
		echoes := gate.perAnswer() / echo.perAnswer()
		t.Bar("processor time a miss takes", fmt.Sprintf("%.0f µs, %.1f x the echo milter's %.1f µs; one dialogue each %.0f µs; a milter that only asks, over kept connections, %.0f µs",
			gate.perAnswer(), echoes, echo.perAnswer(), single.perAnswer(), kept.perAnswer()),
			fmt.Sprintf("%d µs", missMicros), gate.perAnswer() <= missMicros,
			map[string]float64{"gate_us": gate.perAnswer(), "echo_us": echo.perAnswer(), "echoes": echoes, "dialogue_us": single.perAnswer(), "kept_us": kept.perAnswer()})
		return nil
	})
}

// missTurn asks one side about recipients that it has not been asked about before. Asks: it is to know which are unknown.
func (b *bench) missTurn(ctx context.Context, s *side, series int, asks bool) error {
	before := s.cpu()
	r, err := b.askOnce(ctx, s.process, b.Connections, people(mixedUser, 2+series, 9_000_000, domain), load.Plan{Duration: b.Each})
	if err != nil {
		return err
	}
	if want := r.Asked / refusedEvery; asks && (r.Temporary > 0 || r.Refused < want-b.Connections || r.Refused > want+b.Connections) {
		return fmt.Errorf("%s refused %d of %d recipients, about %d are unknown, and was not sure of %d%s",
			s.name, r.Refused, r.Asked, want, r.Temporary, s.log.tail())
	}
	s.used += s.cpu() - before
	s.asked += r.Asked
	s.rates = append(s.rates, r.PerSecond())
	return nil
}

// The slow backend and how many ask it at the same time.
const (
	slowReply       = 200 * time.Millisecond
	slowConnections = 64
)

// slowMisses measures how well a slow backend is used.
func slowMisses(ctx context.Context, b *bench, t *Table) error {
	return b.withGate(ctx, slowReply, func(gate *process, backend *sim.Server) error {
		plan := load.Plan{Duration: max(3*b.Each, 5*time.Second)}
		r, err := b.askOnce(ctx, gate, slowConnections, people(goodUser, 1, 1_000_000, domain), plan)
		if err != nil {
			return err
		}
		if r.Accepted != r.Asked {
			return fmt.Errorf("the gate took %d of %d recipients that exist%s", r.Accepted, r.Asked, gate.log.tail())
		}
		possible := slowConnections / slowReply.Seconds()
		used := r.PerSecond() / possible
		t.Bar(fmt.Sprintf("misses against a backend that takes %v, %d connections", slowReply, slowConnections),
			fmt.Sprintf("%.0f RCPT/s of %.0f possible: %.2f (%d backend connections)", r.PerSecond(), possible, used, backend.Stats().MaxConnections),
			"0.95", used >= 0.95, map[string]float64{"rate": r.PerSecond(), "used": used})
		return nil
	})
}

// sameQuestion asks about one address over very many connections at the same moment.
func sameQuestion(ctx context.Context, b *bench, t *Table) error {
	for _, n := range []int{500, 1000} {
		for _, c := range []struct {
			what, recipient string
			allowed         int // probes besides the first: the accept-all test after a valid answer
		}{{"unknown", "nobody@" + domain, 0}, {"existing", "good1@" + domain, 1}} {
			err := b.withGate(ctx, slowReply, func(gate *process, backend *sim.Server) error {
				one, err := load.Pattern(c.recipient, 1)
				if err != nil {
					return err
				}
				r, err := b.askOnce(ctx, gate, n, one, load.Plan{Count: n})
				if err != nil {
					return err
				}
				if r.Answered() != n || r.Temporary > 0 || (r.Refused == n) != (c.allowed == 0) {
					return errors.New("the gate's answers are wrong: " + fmt.Sprintf("%d accepted, %d refused, %d temporary", r.Accepted, r.Refused, r.Temporary))
				}
				s := backend.Stats()
				other := s.Probes - backend.Asked(c.recipient)
				t.Bar(fmt.Sprintf("%d simultaneous questions for one %s address", n, c.what),
					fmt.Sprintf("%d probe(s), %d accept-all test(s)", backend.Asked(c.recipient), other),
					"1 probe"+map[bool]string{true: " + 1 test"}[c.allowed > 0],
					backend.Asked(c.recipient) == 1 && other <= c.allowed,
					map[string]float64{"probes": float64(backend.Asked(c.recipient)), "others": float64(other)})
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
