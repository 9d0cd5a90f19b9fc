// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/kit/exit"
	"rcptgate/kit/term"
	"rcptgate/unit"
	"rcptgate/view"
)

func commands(cli *unit.CLI) []*cobra.Command {
	cmd := &cobra.Command{Use: "script", Short: "check, test and run the script", RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(checkCommand(cli), testCommand(cli), runCommand(cli), apiCommand())
	return []*cobra.Command{cmd}
}

// unusableError is what is wrong with a script that was named on a command line. It is not an
// error of the configuration.
type unusableError struct{ error }

func (e *unusableError) Unwrap() error { return e.error }

var errNoScript = errors.New("no script is configured: [script] file names none")

// configured opens what the configuration describes, in this process. The script named, if
// any, takes the place of the configuration's.
func configured(cli *unit.CLI, cmd *cobra.Command, script string) (*unit.Config, *unit.Host, error) {
	c, err := cli.Load(cmd)
	if err != nil {
		return nil, nil, err
	}
	if script != "" {
		if script, err = filepath.Abs(script); err != nil {
			return nil, nil, exit.With(exit.Usage, err)
		}
		cfg := unit.Part[Config](c)
		cfg.File, cfg.named = script, true
	}
	h, err := cli.Offline(cmd.Context(), c)
	var unusable *unusableError
	if errors.As(err, &unusable) {
		err = exit.With(exit.Config, unusable)
	}
	return c, h, err
}

func checkCommand(cli *unit.CLI) *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "check the script, or the file named",
		Long: `check reads the script as the daemon would: with everything that it loads, and run from
top to bottom. It reports every mistake with its line and column, warns of what is probably
one, and says which functions there are and what they need from the MTA. FILE may also be
one that scripts load, with nothing in it that the gate calls.

Exit codes: 0 good, 1 there are warnings, 78 it cannot be used.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, h, err := configured(cli, cmd, strings.Join(args, ""))
			if err != nil {
				return err
			}
			defer h.Stop()
			p := programOf(c)
			if p == nil {
				return exit.With(exit.Config, errNoScript)
			}
			for _, w := range p.warnings() {
				fmt.Fprintf(cmd.ErrOrStderr(), "rcptgate: warning: %s\n", view.Clean(w))
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: good (%s)\n%s", p.config.File, p.summary(), p.needs())
			if len(p.warnings()) > 0 {
				return exit.Quietly(exit.Attention)
			}
			return nil
		},
	}
}

// summary says which functions there are.
func (p *Program) summary() string {
	var called, others []string
	for _, n := range p.names() {
		if slices.ContainsFunc(hooks, func(h hook) bool { return h.name == n }) {
			called = append(called, n)
		} else {
			others = append(others, n)
		}
	}
	text := "nothing is called by itself"
	if len(called) > 0 {
		text = strings.Join(called, ", ")
	}
	if len(others) > 0 {
		text += "; " + term.Count(len(others), "other function")
	}
	return text
}

func testCommand(cli *unit.CLI) *cobra.Command {
	var asJSON, cover bool
	cmd := &cobra.Command{
		Use:   "test [FILE|DIR...]",
		Short: "run the tests of scripts",
		Long: `test runs every function whose name begins with "test_" in files whose names end in
"_test.star": those named, those in the folders named, or those beside the script of the
configuration. Nothing is asked and nothing kept: time, DNS, existing mailboxes, local
domains and viruses are what the tests say.

The output is TAP (testanything.org), or with --json one object for each test. With --cover
it also says which lines of the scripts have run.

Exit codes: 0 all tests pass, 1 one fails, 65 a file cannot be used.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, h, err := configured(cli, cmd, "")
			if err != nil {
				return err
			}
			defer h.Stop()
			cfg := *unit.Part[Config](c)
			paths, err := testPaths(cfg.File, args)
			if err != nil {
				return exit.With(exit.Data, err)
			}
			ts := &tester{config: cfg, env: cfg.part.env}
			if cover {
				ts.cover = newCoverage()
			}
			return runTests(cmd, ts, paths, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object for each test")
	cmd.Flags().BoolVar(&cover, "cover", false, "say which lines of the scripts have run")
	return cmd
}

// testPaths are the files of tests that a command line means.
func testPaths(script string, args []string) (list []string, err error) {
	if len(args) == 0 {
		if script == "" {
			return nil, errNoScript
		}
		args = []string{filepath.Dir(script)}
	}
	for _, a := range args {
		if !isDir(a) {
			list = append(list, a)
			continue
		}
		found, err := testFiles(filepath.Join(a, "x"))
		if err != nil {
			return nil, err
		}
		list = append(list, found...)
	}
	for i := range list {
		if list[i], err = filepath.Abs(list[i]); err != nil {
			return nil, err
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no file ends in %s", testSuffix)
	}
	return list, nil
}

func runTests(cmd *cobra.Command, ts *tester, paths []string, asJSON bool) error {
	var all []tested
	for _, path := range paths {
		list, err := ts.file(cmd.Context(), path)
		if err != nil {
			return exit.With(exit.Data, err)
		}
		all = append(all, list...)
	}
	w := cmd.OutOrStdout()
	if asJSON {
		for i := range all {
			if err := term.JSON(w, all[i]); err != nil {
				return err
			}
		}
	} else if err := tap(w, all); err != nil {
		return err
	}
	if ts.cover != nil {
		if err := ts.cover.print(cmd.ErrOrStderr()); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(all, func(r tested) bool { return !r.OK }) {
		return exit.Quietly(exit.Attention)
	}
	return nil
}

// runFlags are the question of "script run".
type runFlags struct {
	script, sender, client, name, helo, auth, file string

	recipients []string
}

func runCommand(cli *unit.CLI) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run FUNCTION",
		Short: "call one function of the script, and show what it says",
		Long: `run calls a function of the script in this process: one of connect, helo, sender,
recipient and message, or any other of one argument, which gets a recipient. It prints what
it logs, what it returns, what it would change, and how many steps and how much time it took.
DNS and the servers behind the gateway are asked if it asks them; counters and memories are
empty.

Exit codes: 0 it continues, accepts or holds, 77 it refuses or discards, 75 it defers or
fails, 64 there is no such function.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, h, err := configured(cli, cmd, f.script)
			if err != nil {
				return err
			}
			defer h.Stop()
			p := programOf(c)
			if p == nil {
				return exit.With(exit.Config, errNoScript)
			}
			q, err := f.question(args[0])
			if err != nil {
				return exit.With(exit.Usage, err)
			}
			return runFunction(cmd, p, args[0], q)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.script, "script", "", "`FILE` of the script (default: the configuration's)")
	flags.StringVar(&f.sender, "sender", "", "reverse-path `ADDRESS` of the message (default <>)")
	flags.StringArrayVar(&f.recipients, "recipient", []string{"postmaster@localhost"}, "`ADDRESS` of the recipient; more of them for message()")
	flags.StringVar(&f.client, "client", "", "`IP` address of the client")
	flags.StringVar(&f.name, "name", "", "the client's `HOST` name in DNS")
	flags.StringVar(&f.helo, "helo", "", "`NAME` that the client said in HELO")
	flags.StringVar(&f.auth, "auth", "", "`USER` as whom the client authenticated")
	flags.StringVar(&f.file, "file", "", "`FILE` with the message, for message()")
	return cmd
}

// question makes the question of a function.
func (f *runFlags) question(function string) (*rcptgate.Query, error) {
	q := &rcptgate.Query{
		Stage: rcptgate.StageRcpt, Sender: address.Parse(f.sender).Path, ClientName: f.name, Helo: f.helo, AuthUser: f.auth, QueueID: "run",
		Recipient: address.Parse(f.recipients[len(f.recipients)-1]), Session: &rcptgate.Session{},
	}
	q.Target = q.Recipient
	q.Trace.Explain = true
	if f.client != "" {
		a, err := netip.ParseAddr(f.client)
		if err != nil {
			return nil, fmt.Errorf("client %q is not an IP address", f.client)
		}
		q.Client = a.Unmap()
	}
	for _, h := range hooks {
		if h.name == function {
			q.Stage = h.stage
		}
	}
	if q.Stage == rcptgate.StageMessage {
		if f.file == "" {
			return nil, errors.New("message() needs a message: --file FILE")
		}
		raw, err := os.ReadFile(f.file)
		if err != nil {
			return nil, err
		}
		q.Message = rcptgate.ReadMessage(raw)
		for _, r := range f.recipients {
			q.Message.Recipients = append(q.Message.Recipients, address.Parse(r))
		}
	}
	return q, nil
}

func runFunction(cmd *cobra.Command, p *Program, name string, q *rcptgate.Query) error {
	f := p.functions[name]
	if f == nil || f.f.NumParams() != 1 {
		return exit.With(exit.Usage, fmt.Errorf("the script has no function %s() of one argument; it has %s", name, strings.Join(p.names(), ", ")))
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
	defer cancel()
	r := p.runners.take(0)
	start := time.Now()
	v, err := r.call(ctx, q, f)
	took := time.Since(start)
	steps := r.thread.Steps
	p.runners.give(r)
	w := cmd.OutOrStdout()
	for _, note := range q.Trace.Notes() {
		fmt.Fprintln(w, view.Clean(note))
	}
	var failed *Error
	if errors.As(err, &failed) {
		fmt.Fprintf(w, "failed: %s: %s\n%s\n", failed.Place, failed.Text, failed.Backtrace)
		return exit.Quietly(exit.Tempfail)
	}
	fmt.Fprintln(w, verdictLine(&v))
	if q.Message != nil {
		list := q.Message.Proposed()
		for i := range list {
			fmt.Fprintln(w, view.Clean(list[i].String()))
		}
	}
	fmt.Fprintf(w, "%s, %.3f ms\n", term.Count(steps, "step"), float64(took.Microseconds())/1000)
	switch {
	case v.Action == rcptgate.Reject, v.Action.Discards():
		return exit.Quietly(exit.Refused)
	case v.Action == rcptgate.Tempfail:
		return exit.Quietly(exit.Tempfail)
	}
	return nil
}

func verdictLine(v *rcptgate.Verdict) string {
	s := v.Action.String()
	if v.Action.Refuses() {
		s += fmt.Sprintf(" %d %s", v.Code, v.Enhanced)
	}
	if v.Text != "" {
		s += " " + view.Clean(v.Text)
	}
	return s
}

// apiCommand prints the reference of what scripts can use: docs/script-api.md, by "make docs".
func apiCommand() *cobra.Command {
	return &cobra.Command{
		Use: "api", Short: "print the reference of what scripts can use, as Markdown", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), manual())
			return err
		},
	}
}
