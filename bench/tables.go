// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"rcptgate/bench/load"
	"rcptgate/table"
	"rcptgate/table/live"
	"rcptgate/table/open"
)

// localDomain is the domain whose names the alias file holds.
const localDomain = "local.example"

// tableTypes are the kinds of file that the alias file is measured as. Both can be written without an MTA's tools: the
// text that people write, which is the slowest to read, and one that a tool makes of it.
var tableTypes = []table.Type{table.Text, table.CDB}

// aliasName is the name of number i in the alias file, aliasMailbox what it stands for: a mailbox elsewhere, since a local
// name that is neither an alias nor a user of this machine is refused.
func aliasName(i int) string    { return fmt.Sprintf(localUser+"0%07d", i) }
func aliasMailbox(i int) string { return fmt.Sprintf("mailbox%d@store.example", i) }

const localUser = "firstname.lastname"

// aliasTables measures an alias file of a million names: how soon it is active, how fast a name is found, what memory
// it takes, and what reading it again costs those who ask meanwhile.
func aliasTables(ctx context.Context, b *bench, t *Table) error {
	for _, kind := range tableTypes {
		dir, err := b.newDir("aliases")
		if err != nil {
			return err
		}
		spec := table.Spec{Type: kind, Name: filepath.Join(dir, "aliases")}
		if err := writeAliases(spec, b.Entries, 0); err != nil {
			return fmt.Errorf("writing %s: %w", spec, err)
		}
		if err := b.loadAliases(ctx, t, spec); err != nil {
			return err
		}
		if err := b.reloadAliases(ctx, t, spec); err != nil {
			return err
		}
	}
	return nil
}

// loadAliases measures a table in this process.
func (b *bench) loadAliases(ctx context.Context, t *Table, spec table.Spec) error {
	var seconds, lookup []float64
	var each float64
	for range b.Rounds {
		before := liveHeap()
		l, err := open.Live(live.Config{Spec: spec, Aliases: true})
		if err != nil {
			return err
		}
		began := time.Now()
		if err := l.Load(ctx); err != nil {
			return err
		}
		seconds = append(seconds, time.Since(began).Seconds())
		x := l.Index()
		if x.Len() != b.Entries {
			return fmt.Errorf("%s: %d of %d names were read", spec, x.Len(), b.Entries)
		}
		each = float64(int64(liveHeap()-before)-x.Octets()) / float64(b.Entries) //nolint:gosec // far below 2^63
		us, err := lookups(ctx, l, b.Entries)
		if err != nil {
			return err
		}
		lookup = append(lookup, us)
	}
	what := fmt.Sprintf("alias file of %d names (%s): ", b.Entries, spec.Type)
	t.Bar(what+"from opening it to being active", fmt.Sprintf("%.2f s", Median(seconds)), "2 s", Median(seconds) < 2, map[string]float64{"s": Median(seconds)})
	t.Bar(what+"a look-up, names in random order", fmt.Sprintf("%.2f µs", Median(lookup)), "2 µs", Median(lookup) < 2, map[string]float64{"us": Median(lookup)})
	t.Bar(what+"live heap a name, beyond its own octets and its value's", fmt.Sprintf("%.0f octets", each), "150 octets", each <= 150, map[string]float64{"octets": each})
	return nil
}

// lookups gives the time of one look-up in microseconds.
func lookups(ctx context.Context, l *live.Live, entries int) (us float64, err error) {
	const many = 1_000_000
	names := make([]string, many)
	for i := range names {
		names[i] = aliasName(rand.IntN(entries)) //nolint:gosec // any order does
	}
	began := time.Now()
	for _, name := range names {
		if _, found, err := l.Lookup(ctx, name); !found || err != nil {
			return 0, errors.Join(fmt.Errorf("%s was not found", name), err)
		}
	}
	return float64(time.Since(began).Microseconds()) / many, nil
}

// reloadAliases measures what reading the file again adds to the answers of a gate that is being asked about its names.
func (b *bench) reloadAliases(ctx context.Context, t *Table, spec table.Spec) error {
	dir, err := b.gateDir(nil)
	if err != nil {
		return err
	}
	if err := appendFile(filepath.Join(dir, "rcptgate.toml"), fmt.Sprintf("\n[aliases]\nfiles = [%q]\ndomains = [%q]\n", spec, localDomain)); err != nil {
		return err
	}
	gate, err := b.serve(ctx, dir)
	if err != nil {
		return err
	}
	defer gate.stop()
	r := tableRun{bench: b, spec: spec, gate: gate, metrics: metricsOf(dir)}
	if r.conns, err = b.dial(ctx, gate, b.Connections, people(localUser, 0, b.Entries, localDomain).Shuffled()); err != nil {
		return err
	}
	defer load.CloseAll(r.conns)
	if err := InTurns(b.Rounds, []bool{true, false}, func(_ int, reload bool) error { return r.turn(ctx, reload) }); err != nil {
		return err
	}
	quiet, beside := Median(micros(r.quiet))/1000, Median(micros(r.beside))/1000
	t.Bar(fmt.Sprintf("alias file of %d names (%s): what a reload adds to an answer at p99.9, %.0f RCPT/s", b.Entries, spec.Type, b.paced()),
		fmt.Sprintf("%.2f ms (%.2f ms next to one, else %.2f ms)", beside-quiet, beside, quiet), "10 ms", beside-quiet <= 10,
		map[string]float64{"added_ms": beside - quiet, "beside_ms": beside, "quiet_ms": quiet, "reloads": float64(r.reloads)})
	return nil
}

// paced is the rate at which latencies are compared.
func (b *bench) paced() float64 { return cmp.Or(b.Rate, pacedRate) }

// tableRun is a gate that is asked in turns, with and without a reload.
type tableRun struct {
	*bench
	spec          table.Spec
	gate          *process
	metrics       string
	conns         []*load.Conn
	reloads       int
	quiet, beside []time.Duration // p99.9 of each turn
}

// reloadTurns is how many turns a reload may take: a file is looked at now and then, and read once it is at rest.
const reloadTurns = 5

// turn asks for a while. A reload begins with it, and it lasts until the new content is active.
func (r *tableRun) turn(ctx context.Context, reload bool) error {
	before, err := loads(ctx, r.metrics)
	if err != nil {
		return err
	}
	if !reload {
		p, err := r.p999(ctx)
		r.quiet = append(r.quiet, p)
		return err
	}
	r.reloads++
	if err := writeAliases(r.spec, r.Entries, r.reloads); err != nil { // and put into place at once
		return err
	}
	var worst time.Duration
	for range reloadTurns {
		p, err := r.p999(ctx)
		if err != nil {
			return err
		}
		worst = max(worst, p)
		switch after, err := loads(ctx, r.metrics); {
		case err != nil:
			return err
		case after > before:
			r.beside = append(r.beside, worst)
			return nil
		}
	}
	return fmt.Errorf("%s was not read again within %v: longer turns (--seconds) are needed%s", r.spec, reloadTurns*r.Each, r.gate.log.tail())
}

// p999 asks for one turn's length.
func (r *tableRun) p999(ctx context.Context) (time.Duration, error) {
	result, err := r.ask(ctx, r.conns, load.Plan{Duration: r.Each, Rate: r.paced()})
	switch {
	case err != nil:
		return 0, err
	case result.Accepted != result.Asked:
		return 0, fmt.Errorf("%d of %d names in %s were taken%s", result.Accepted, result.Asked, r.spec, r.gate.log.tail())
	}
	return result.Latency.Quantile(0.999), nil
}

// writeAliases makes the file anew and renames it into place; version changes one value.
func writeAliases(spec table.Spec, entries, version int) error {
	name := spec.Path()
	f, err := os.Create(name + ".new")
	if err != nil {
		return err
	}
	value := func(i int) string {
		if i == entries/2 {
			return fmt.Sprintf("version%d@store.example", version)
		}
		return aliasMailbox(i)
	}
	if spec.Type == table.CDB {
		err = writeCDB(f, entries, value)
	} else {
		out := bufio.NewWriterSize(f, 1<<20)
		for i := range entries {
			_, _ = out.WriteString(aliasName(i) + ": " + value(i) + "\n") // Flush says what went wrong
		}
		err = out.Flush()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	// A text that was written this moment is left alone for half a second: it looks an hour old here.
	if err := os.Chtimes(name+".new", time.Time{}, time.Now().Add(-time.Hour+time.Duration(version)*time.Second)); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

func appendFile(name, text string) (err error) {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// loads is how often the gate has made a table's content active.
func loads(ctx context.Context, metrics string) (float64, error) {
	return metric(ctx, metrics, "rcptgate_table_loads_total", `use="aliases"`)
}
