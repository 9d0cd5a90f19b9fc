// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"context"
	"fmt"
	"time"

	"rcptgate/bench/load"
)

// rememberedPeople is the number of different recipients asked about while answers are remembered.
const rememberedPeople = 10_000

// pieces is into how many a turn is cut where one pause of the machine would decide over all of it: a processor that is
// taken away for 20 ms is the p99 of two seconds, but of one short turn among many, and the median passes it over.
const pieces = 4

// pacedRate is the rate at which latencies are compared, in RCPT/s: more than twice what a Postfix or Sendmail of the
// same machine asks for, and well below the rate at which the generator's one thread is busy all the time (30,000 on the
// machine of docs/performance.md). Above that its own queue is measured.
const pacedRate = 10_000

// milterAhead is the share of an echo milter's rate that milter-ahead 1.14.1 reached with remembered answers in an
// earlier lab (21,800 of 91,000 RCPT/s; docs/performance.md). It is not in Debian, so its bar is held against this
// ratio and the echo milter of this run, with another generator: the row says so.
const milterAhead = 21_800.0 / 91_000

// side is one of the programs compared, with its connections open.
type side struct {
	*process
	conns []*load.Conn
	rates []float64       // RCPT/s of each turn
	p99   []time.Duration // of each turn, as fast as it goes
	paced []time.Duration // p99 of each turn at the fixed rate
	used  time.Duration   // processor time of the child during the turns
	asked int
}

// warm opens the connections of a side and asks about everybody once.
func (b *bench) warm(ctx context.Context, s *side) (err error) {
	if s.conns, err = b.dial(ctx, s.process, b.Connections, people(goodUser, 1, rememberedPeople, domain).Shuffled()); err != nil {
		return err
	}
	r, err := b.ask(ctx, s.conns, load.Plan{Count: rememberedPeople})
	if err != nil {
		return err
	}
	if r.Accepted != rememberedPeople {
		return fmt.Errorf("%s took %d of %d recipients that exist%s", s.name, r.Accepted, rememberedPeople, s.log.tail())
	}
	return nil
}

// pair starts a program to compare with (b.echo, b.plain), and a gate with what more there is. Both have been asked about
// everybody whom they will be asked about.
func (b *bench) pair(ctx context.Context, compared starter, more ...addition) (other, gate *side, done func(), err error) {
	backend, err := startBackend(0)
	if err != nil {
		return nil, nil, nil, err
	}
	other, gate = new(side), new(side)
	done = func() {
		for _, s := range []*side{other, gate} {
			load.CloseAll(s.conns)
			if s.process != nil {
				s.stop()
			}
		}
		backend.Stop()
	}
	if other.process, err = compared(ctx, backend); err == nil {
		gate.process, err = b.gate(ctx, backend, more...)
	}
	for _, s := range []*side{other, gate} {
		if err == nil {
			err = b.warm(ctx, s)
		}
	}
	if err != nil {
		done()
		return nil, nil, nil, err
	}
	return other, gate, done, nil
}

// turn loads one side as fast as it goes, or at a rate.
func (b *bench) turn(ctx context.Context, s *side, each time.Duration, rate float64) error {
	before := s.cpu()
	r, err := b.ask(ctx, s.conns, load.Plan{Duration: each, Rate: rate})
	if err != nil {
		return err
	}
	if r.Accepted != r.Asked {
		return fmt.Errorf("%s took %d of %d recipients that exist", s.name, r.Accepted, r.Asked)
	}
	if rate > 0 {
		s.paced = append(s.paced, r.Latency.Quantile(0.99))
		return nil
	}
	s.rates = append(s.rates, r.PerSecond())
	s.p99 = append(s.p99, r.Latency.Quantile(0.99))
	s.used += s.cpu() - before
	s.asked += r.Asked
	return nil
}

// turns gives both sides n turns.
func (b *bench) turns(ctx context.Context, first, second *side, n int, each time.Duration, rate float64) error {
	return InTurns(n, []*side{first, second}, func(_ int, s *side) error { return b.turn(ctx, s, each, rate) })
}

// remembered measures remembered answers: their rate and their latency compared with the echo milter's.
func remembered(ctx context.Context, b *bench, t *Table) error {
	echo, gate, done, err := b.pair(ctx, b.echo)
	if err != nil {
		return err
	}
	defer done()
	lines := gate.log.lines.Load()
	if err := b.turns(ctx, echo, gate, b.Rounds, b.Each, 0); err != nil {
		return err
	}
	lines = gate.log.lines.Load() - lines
	rate := b.paced()
	if err := b.turns(ctx, echo, gate, b.Rounds*pieces, b.Each/pieces, rate); err != nil {
		return err
	}
	b.rememberedRows(t, echo, gate, rate)
	t.Figure("processor time a remembered answer takes",
		fmt.Sprintf("%.1f µs, echo %.1f µs", gate.perAnswer(), echo.perAnswer()),
		map[string]float64{"gate_us": gate.perAnswer(), "echo_us": echo.perAnswer()})
	t.Figure("log lines read a remembered answer", fmt.Sprintf("%.2f", float64(lines)/float64(gate.asked)),
		map[string]float64{"lines": float64(lines), "answers": float64(gate.asked)})
	return b.besideDirect(ctx, t)
}

// besideDirect compares with an echo milter that reads and writes sockets as the gate does: what is left is the gate's
// own work.
func (b *bench) besideDirect(ctx context.Context, t *Table) error {
	echo, gate, done, err := b.pair(ctx, b.directEcho)
	if err != nil {
		return err
	}
	defer done()
	if err := b.turns(ctx, echo, gate, b.Rounds, b.Each, 0); err != nil {
		return err
	}
	ratio, values := ratioOf(gate, echo)
	values["gate_us"], values["echo_us"] = gate.perAnswer(), echo.perAnswer()
	t.Figure("remembered answers, compared with an echo milter that reads and writes sockets in the gate's way",
		fmt.Sprintf("%.0f RCPT/s, echo milter %.0f: %.2f; %.1f µs and %.1f µs of processor time", values["gate"], values["other"], ratio, gate.perAnswer(), echo.perAnswer()), values)
	return nil
}

func (s *side) perAnswer() float64 { return s.used.Seconds() * 1e6 / float64(max(s.asked, 1)) }

func (b *bench) rememberedRows(t *Table, echo, gate *side, rate float64) {
	ratio, values := ratioOf(gate, echo)
	what := fmt.Sprintf("remembered answers, %d MTA connections", b.Connections)
	t.Bar(what, fmt.Sprintf("%.0f RCPT/s, echo milter %.0f: %.2f", values["gate"], values["other"], ratio),
		"0.80 of the echo milter", ratio >= 0.80, values)
	times := ratio / milterAhead
	t.Bar("the same, compared with milter-ahead's 0.24 of an echo milter (an earlier lab's ratio, with its own generator)", fmt.Sprintf("%.1f x", times), "3 x",
		times >= 3, map[string]float64{"ratio": times})
	latencyRow(t, fmt.Sprintf("p99 of a remembered answer at %.0f RCPT/s", rate), gate.paced, echo.paced)
	latencyRow(t, "p99 of a remembered answer, as fast as it goes", gate.p99, echo.p99)
}

func latencyRow(t *Table, what string, gate, echo []time.Duration) {
	g, e := micros(gate), micros(echo)
	ratio := MedianRatio(g, e)
	t.Bar(what, fmt.Sprintf("%.0f µs, echo milter %.0f µs: %.2f", Median(g), Median(e), ratio), "2 x the echo milter",
		ratio <= 2, map[string]float64{"gate_us": Median(g), "echo_us": Median(e), "ratio": ratio})
}

func micros(list []time.Duration) (us []float64) {
	for _, d := range list {
		us = append(us, float64(d)/float64(time.Microsecond))
	}
	return us
}
