// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"errors"
	"fmt"
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

// commands are those that read the configuration themselves: a rule can be tried before the
// daemon has it.
func commands(cli *unit.CLI) []*cobra.Command {
	return []*cobra.Command{unit.Under("rule", testCommand(cli)), unit.Under("rule", expectCommand(cli))}
}

// withRules runs f with the rules of the configuration file; nil if there are none.
func withRules(cli *unit.CLI, cmd *cobra.Command, f func(c *unit.Config, check *Check) error) error {
	c, err := cli.Load(cmd)
	if err != nil {
		return err
	}
	h, err := cli.Offline(cmd.Context(), c)
	if err != nil {
		return err
	}
	defer h.Stop()
	check, _ := h.Step(rcptgate.StageRcpt, stepName).(*Check)
	return f(c, check)
}

type testFlags struct {
	sender, client, name, helo, auth, mailer, target, size, at string
	rcpts                                                      int
	tls                                                        bool
}

func testCommand(cli *unit.CLI) *cobra.Command {
	var f testFlags
	cmd := &cobra.Command{
		Use:   "test RECIPIENT...",
		Short: "show which rule decides on recipients, and why the others do not",
		Long: `test puts a question to the rules of the configuration file, and shows each rule in its
order with the first condition that does not match, up to the rule that decides. Nothing but
the rules is asked: "rcptgate check" asks everything, and asks the daemon.

Exit codes are those of "rcptgate check": 0 the rules let all recipients pass, 77 one is
refused or discarded, 75 one is deferred or cannot be decided, 64 the command line is wrong,
78 the configuration is.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e := new(expectation)
			if err := f.fill(e); err != nil {
				return exit.With(exit.Usage, err)
			}
			return withRules(cli, cmd, func(_ *unit.Config, check *Check) error { return runTest(cmd, check, e, args) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.sender, "sender", "", "reverse-path `ADDRESS` of the message (default <>)")
	flags.StringVar(&f.client, "client", "", "`IP` address of the client")
	flags.StringVar(&f.name, "name", "", "the client's `HOST` name in DNS")
	flags.StringVar(&f.helo, "helo", "", "`NAME` that the client said in HELO")
	flags.StringVar(&f.auth, "auth", "", "`USER` as whom the client authenticated")
	flags.StringVar(&f.mailer, "mailer", "", "the MTA's `MAILER` for the recipient")
	flags.StringVar(&f.target, "target", "", "the `ADDRESS` that the MTA made of the recipient")
	flags.StringVar(&f.size, "size", "", "the size in `OCTETS` that the client announced")
	flags.StringVar(&f.at, "at", "", "the `TIME` of the question: \"Fri 18:30\" or \"2026-11-28T18:30\" (default now)")
	flags.IntVar(&f.rcpts, "rcpts", 1, "how many `RECIPIENTS` the message has with this one")
	flags.BoolVar(&f.tls, "tls", false, "the client uses TLS")
	return cmd
}

// fill makes a question of the flags.
func (f *testFlags) fill(e *expectation) error {
	var errs []error
	for _, c := range [][2]string{{"client", f.client}, {"name", f.name}, {"helo", f.helo}, {"auth", f.auth}, {"mailer", f.mailer}, {"target", f.target}, {"size", f.size}, {"at", f.at}} {
		if c[1] != "" {
			errs = append(errs, e.circumstance(c[0], c[1]))
		}
	}
	if f.tls {
		errs = append(errs, e.circumstance("tls", ""))
	}
	e.query.Accepted = f.rcpts - 1
	e.query.Sender = strings.TrimSuffix(strings.TrimPrefix(f.sender, "<"), ">")
	return errors.Join(errs...)
}

func runTest(cmd *cobra.Command, check *Check, e *expectation, recipients []string) error {
	if check == nil {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "no rules are configured")
		return err
	}
	code, target := exit.OK, e.query.Target
	for _, recipient := range recipients {
		e.query.Recipient = address.Parse(recipient)
		if e.query.Target = target; target.IsZero() {
			e.query.Target = e.query.Recipient
		}
		one, err := printTest(cmd, check, e)
		if err != nil {
			return err
		}
		if code == exit.OK {
			code = one
		}
	}
	return exit.Quietly(code)
}

// printTest prints what the rules say of one recipient, and gives its exit code.
func printTest(cmd *cobra.Command, check *Check, e *expectation) (int, error) {
	list, f, failed := check.explain(cmd.Context(), &e.query, e.at)
	t := view.Table{
		Name: "rules", Title: e.query.Recipient.Path + ": " + words(&f, failed), Empty: "no rule was asked",
		Columns: view.Columns("rule", "Rule", "action", "Action", "result", "Result"),
	}
	for _, c := range list {
		t.Add("", c.name, c.act, c.result)
	}
	if err := t.Print(cmd.OutOrStdout(), time.Now()); err != nil {
		return 0, err
	}
	switch {
	case failed != nil, f.verdict.Action == rcptgate.Tempfail:
		return exit.Tempfail, nil
	case f.verdict.Action == rcptgate.Reject, f.verdict.Action.Discards():
		return exit.Refused, nil
	}
	return exit.OK, nil
}

func words(f *found, failed error) string {
	switch {
	case failed != nil:
		return "cannot be decided, 451 4.3.0"
	case f.name == "":
		return "continue (no rule matches)"
	}
	text := f.word()
	if f.verdict.Action.Refuses() {
		text += fmt.Sprintf(", %d %s %s", f.verdict.Code, f.verdict.Enhanced, f.verdict.Text)
	}
	return fmt.Sprintf("%s (rule %q)", text, f.name)
}

func expectCommand(cli *unit.CLI) *cobra.Command {
	return &cobra.Command{
		Use:   "expect",
		Short: "check that the rules answer as their expect lines say",
		Long: `expect puts every expect line of the configuration file to its rules, as if no rule were
rehearsed. "rcptgate config check" does the same, and so does the daemon before it makes a new
configuration active: one that fails changes nothing.

Exit codes: 0 all hold, 78 one does not hold (each is printed with its line), 75 one cannot be
checked, because a table cannot be read.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withRules(cli, cmd, func(c *unit.Config, check *Check) error {
				if check == nil {
					check = new(Check)
				}
				if err := check.Verify(cmd.Context(), true); err != nil {
					code := exit.Config
					if check.Verify(cmd.Context(), false) == nil {
						code = exit.Tempfail
					}
					return exit.With(code, c.Place(err))
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: all good\n", term.Count(check.expectations(), "expectation"))
				return err
			})
		},
	}
}
