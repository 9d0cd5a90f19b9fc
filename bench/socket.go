// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"time"

	"rcptgate/bench/load"
	"rcptgate/config/setting"
	"rcptgate/front/milter"
)

// ServeEcho runs an echo milter on a socket until ctx ends. Direct has it read and write as the gate does.
func ServeEcho(ctx context.Context, socket setting.Socket, direct bool) error {
	ln, err := milter.Listen(ctx, socket, 0o600, "")
	if err != nil {
		return err
	}
	echo := milter.NewEcho(0)
	echo.Direct = direct
	return echo.Serve(ctx, ln)
}

// Target is a milter that runs already, of whatever make.
type Target struct {
	Socket     setting.Socket
	Recipients *load.Recipients
	// NextHop is {rcpt_host}; default "[127.0.0.1]".
	NextHop string
}

// RunSocket loads a milter that runs already. Connections, Each and Rate of the options count. The recipients are each
// asked once before the clock starts, unless there are more than warmMax.
func RunSocket(ctx context.Context, o Options, target Target) (*Table, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	b := &bench{Options: o}
	m := load.Milter{
		Network: target.Socket.Network, Address: target.Socket.Address, Sender: "sender@example.net",
		NextHop: cmp.Or(target.NextHop, "[127.0.0.1]"), PerTransaction: perTransaction, Recipients: target.Recipients,
	}
	conns, err := load.DialAll(ctx, o.Connections, m.Dial)
	if err != nil {
		return nil, err
	}
	defer load.CloseAll(conns)
	if n := target.Recipients.Size(); n <= warmMax {
		fmt.Fprintf(o.Progress, "asking about %d recipients once ...\n", n) //nolint:errcheck // progress
		if _, err := b.ask(ctx, conns, load.Plan{Count: n}); err != nil {
			return nil, err
		}
	}
	r, err := b.ask(ctx, conns, load.Plan{Duration: o.Each, Rate: o.Rate})
	if err != nil {
		return nil, err
	}
	t := new(Table)
	t.Figure("answers", fmt.Sprintf("%.0f RCPT/s", r.PerSecond()), map[string]float64{"rate": r.PerSecond()})
	t.Figure("accepted, refused, temporary", fmt.Sprintf("%d, %d, %d", r.Accepted, r.Refused, r.Temporary),
		map[string]float64{"accepted": float64(r.Accepted), "refused": float64(r.Refused), "temporary": float64(r.Temporary)})
	for _, q := range []struct {
		name  string
		share float64
	}{{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}, {"longest", 1}} {
		us := float64(r.Latency.Quantile(q.share)) / float64(time.Microsecond)
		t.Figure("time of an answer, "+q.name, fmt.Sprintf("%.0f µs", us), map[string]float64{"us": us})
	}
	t.Note("%s; %d connections for %v, %d recipients a transaction.", machine(), o.Connections, o.Each, perTransaction)
	t.Note("The load generator: one thread, %.0f %% of one processor.", 100*b.share)
	return t, nil
}

// warmMax is the largest number of recipients that are asked about once before the clock starts.
const warmMax = 1_000_000

// Print writes the table as text or JSON.
func (t *Table) Print(w io.Writer, asJSON bool) error {
	if asJSON {
		return t.WriteJSON(w)
	}
	return t.Write(w)
}
