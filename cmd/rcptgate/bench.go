// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rcptgate/bench"
	"rcptgate/bench/load"
	"rcptgate/config/setting"
	"rcptgate/kit/exit"
)

// exitMissed is the exit code of bench --strict when a bar was not met.
const exitMissed = 1

// benchFlags are the flags of the command.
type benchFlags struct {
	socket, echo, dialogue, recipients, nextHop string
	direct, kept                                bool
	people                                      int
	seconds                                     float64
	json, strict                                bool
	options                                     bench.Options
}

func newBenchCommand() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "load a milter socket and print a table",
		Long: `bench measures how fast and how large the gate is. Without --socket it starts
gates, echo milters and simulated mail servers of its own, on this machine and in a
temporary directory, and prints what it measured next to what the design asks for.
Figures are ratios measured in turns in one run. It takes a few minutes, and the
machine should have nothing else to do.

With --socket it loads a milter that is already running and prints what it answers and
how fast. Use made-up recipients only, because the servers behind the milter may be
asked about them.

The exit code is 0 whatever was measured, unless --strict is given: then it is 1 when
a bar was not met.`,
		Example: `  rcptgate bench
  rcptgate bench --only remembered,misses --seconds 10
  rcptgate bench --socket inet:8890@127.0.0.1 --recipients 'user%05d@example.com' --people 1000`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.socket, "socket", "", "load the milter at this `SOCKET` instead (unix:/path, inet:PORT@HOST)")
	flags.StringVar(&f.echo, "echo", "", "run an echo milter on this `SOCKET` until interrupted, and measure nothing")
	flags.BoolVar(&f.direct, "direct", false, "with --echo: read and write sockets in the gate's way instead of Go's usual one")
	flags.BoolVar(&f.kept, "kept", false, "with --dialogue: ask over connections that are kept, with all commands in one write")
	flags.StringVar(&f.dialogue, "dialogue", "", "with --echo: hold one SMTP dialogue a recipient with the server at `ADDRESS:PORT`, and pass its reply on")
	flags.StringVar(&f.recipients, "recipients", "user%07d@example.com", "with --socket: a `PATTERN` with one number, or a file with one recipient a line")
	flags.IntVar(&f.people, "people", 10_000, "with --socket: `NUMBER` of different recipients in the pattern")
	flags.StringVar(&f.nextHop, "next-hop", "[127.0.0.1]", "with --socket: the MTA's `NEXTHOP` for the recipients")
	flags.IntVar(&f.options.Connections, "connections", 8, "`NUMBER` of MTA connections")
	flags.Float64Var(&f.seconds, "seconds", 2, "length of one turn in `SECONDS`")
	flags.Float64Var(&f.options.Rate, "rate", 0, "offered `RCPT/s` for latencies (default: 10000; with --socket: as fast as it goes)")
	flags.IntVar(&f.options.Rounds, "rounds", 5, "`NUMBER` of turns of each side")
	flags.IntVar(&f.options.Entries, "entries", 1_000_000, "`NUMBER` of remembered recipients in the measurement of memory, and of names in the alias file")
	flags.StringSliceVar(&f.options.Only, "only", nil, "make only these `MEASUREMENTS`: "+strings.Join(bench.Names(), ", "))
	flags.BoolVar(&f.json, "json", false, "print JSON")
	flags.BoolVar(&f.strict, "strict", false, "exit with code 1 if a bar was not met")
	cmd.MarkFlagsMutuallyExclusive("socket", "echo")
	return cmd
}

func (f *benchFlags) run(cmd *cobra.Command) error {
	switch {
	case f.echo == "" && (f.direct || f.dialogue != ""):
		return exit.With(exit.Usage, errors.New("bench: --direct and --dialogue need --echo"))
	case f.kept && f.dialogue == "":
		return exit.With(exit.Usage, errors.New("bench: --kept needs --dialogue"))
	}
	if f.echo != "" {
		return f.runEcho(cmd)
	}
	if f.seconds <= 0 || f.seconds > 3600 || f.options.Connections < 1 || f.options.Rounds < 1 || f.options.Entries < 1 || f.options.Rate < 0 {
		return exit.With(exit.Usage, fmt.Errorf("bench: --seconds (up to 3600), --connections, --rounds and --entries must be positive, --rate not negative"))
	}
	f.options.Each = time.Duration(f.seconds * float64(time.Second))
	f.options.Progress = cmd.ErrOrStderr()
	table, err := f.measure(cmd)
	if table != nil && len(table.Rows) > 0 {
		if perr := table.Print(cmd.OutOrStdout(), f.json); perr != nil && err == nil {
			return exit.With(exit.Software, perr)
		}
	}
	if err != nil {
		return err
	}
	if f.strict && table.Missed() > 0 {
		return exit.Quietly(exitMissed)
	}
	return nil
}

// measure loads the milter that was named, or makes the whole run.
func (f *benchFlags) measure(cmd *cobra.Command) (*bench.Table, error) {
	if f.socket == "" {
		table, err := bench.Run(cmd.Context(), f.options)
		return table, exit.With(exit.Software, err)
	}
	socket, err := setting.ParseSocket(f.socket)
	if err != nil {
		return nil, exit.With(exit.Usage, fmt.Errorf("bench: --socket: %w", err))
	}
	target := bench.Target{Socket: socket, NextHop: f.nextHop}
	if strings.Contains(f.recipients, "@") {
		target.Recipients, err = load.Pattern(f.recipients, f.people)
	} else {
		target.Recipients, err = load.File(f.recipients)
	}
	if err != nil {
		return nil, exit.With(exit.Data, fmt.Errorf("bench: --recipients: %w", err))
	}
	table, err := bench.RunSocket(cmd.Context(), f.options, target)
	return table, exit.With(exit.Unavailable, err)
}

func (f *benchFlags) runEcho(cmd *cobra.Command) error {
	socket, err := setting.ParseSocket(f.echo)
	if err == nil && socket.IsZero() {
		err = fmt.Errorf("no socket")
	}
	if err != nil {
		return exit.With(exit.Usage, fmt.Errorf("bench: --echo: %w", err))
	}
	if f.dialogue != "" {
		return exit.With(exit.Unavailable, bench.ServeDialogue(cmd.Context(), socket, f.dialogue, f.kept))
	}
	return exit.With(exit.Unavailable, bench.ServeEcho(cmd.Context(), socket, f.direct))
}
