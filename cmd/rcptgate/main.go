// SPDX-License-Identifier: BSD-2-Clause

// Command rcptgate decides, while the sending server is still connected, whether
// a recipient's mailbox will take a message. See rcptgate(1).
//
// One file holds one command that belongs to no unit; builtin.go is the list of units, which
// bring their own. Exit codes are those of sysexits.h.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"rcptgate/config"
	"rcptgate/kit/exit"
	"rcptgate/unit"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, units(), os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without the process and with a list of units, for tests.
func run(ctx context.Context, list []unit.Unit, args []string, stdout, stderr io.Writer) int {
	root, err := newRoot(list)
	if err != nil {
		fmt.Fprintf(stderr, "rcptgate: %v\n", err)
		return exit.Software
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err = root.ExecuteContext(ctx); err == nil {
		return exit.OK
	}
	var has *exit.Error
	if !errors.As(err, &has) {
		has = &exit.Error{Code: exit.Usage, Err: err} // cobra's own errors are about the command line
	}
	if !has.Quiet {
		fmt.Fprintf(stderr, "rcptgate: %v\n", has.Err)
	}
	return has.Code
}

// newRoot makes the command of a list of units.
func newRoot(list []unit.Unit) (*cobra.Command, error) {
	p, err := newProgram(list)
	if err != nil {
		return nil, err
	}
	return p.root()
}

// program is what commands stand on: the units, and the configuration that they compose.
type program struct {
	units  []unit.Unit
	schema *config.Schema
}

// newProgram composes the program of a list of units. A list that does not fit together is
// a mistake that a test finds.
func newProgram(units []unit.Unit) (*program, error) {
	schema, err := unit.Compose(units)
	return &program{units, schema}, err
}

// load reads the file that the command line names.
func (p *program) load(cmd *cobra.Command) (*unit.Config, error) {
	path, err := cmd.Flags().GetString("config")
	if err != nil {
		return nil, err
	}
	c, err := unit.Load(p.schema, path)
	return c, exit.With(exit.Config, err)
}

// reach is load for a client of the daemon.
func (p *program) reach(cmd *cobra.Command) (*unit.Config, error) {
	path, err := cmd.Flags().GetString("config")
	if err != nil {
		return nil, err
	}
	c, err := unit.Reach(p.schema, path)
	return c, exit.With(exit.Config, err)
}

// offline opens a host that answers in this process, without what the daemon remembers.
func (p *program) offline(ctx context.Context, c *unit.Config) (*unit.Host, error) {
	return unit.Open(ctx, p.units, c, unit.Options{Version: versionText(), Offline: true})
}

func (p *program) root() (*cobra.Command, error) {
	root := &cobra.Command{
		Use:   "rcptgate",
		Short: "decide at RCPT time whether a mailbox will accept a message",
		Long: `rcptgate is a milter that asks the mail server behind a gateway, while the sending
server is still connected, whether a recipient's mailbox will accept the message. It
remembers the answers and keeps accepting mail for known recipients while that server
is down.

Exit codes are those of sysexits.h: 0 good, 1 something needs attention, 64 usage,
65 bad data, 66 no file could be read (reports), 67 unknown recipient, 69 the daemon is
not reachable or could not listen, 70 internal error, 75 temporary failure, 77 refused by
policy, 78 configuration.`,
		Version:           versionLine(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.PersistentFlags().StringP("config", "c", "", "configuration `FILE` (default "+unit.DefaultFile+" if it exists, else built-in defaults)")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(p.serve(), p.config(), p.demo(), p.table(), newBenchCommand(), p.man(), newVersionCommand())
	cli := &unit.CLI{Units: p.units, Version: versionText(), Load: p.load, Reach: p.reach, Offline: p.offline}
	var list []*cobra.Command
	for i := range p.units {
		if commands := p.units[i].Commands; commands != nil {
			list = append(list, commands(cli)...)
		}
	}
	if err := unit.Attach(root, list); err != nil {
		return nil, err
	}
	onlyCommands(root)
	explainUsage(root)
	return root, nil
}

// onlyCommands has each command that only holds others refuse a word that is not one of them,
// and name the one that was probably meant.
func onlyCommands(c *cobra.Command) {
	if !c.HasSubCommands() {
		return
	}
	for _, sub := range c.Commands() {
		onlyCommands(sub)
	}
	c.SuggestionsMinimumDistance = 2
	c.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		var hint string
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			hint = fmt.Sprintf("; did you mean %q?", near[0])
		}
		return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), hint)
	}
	if c.RunE == nil {
		c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
}

// explainUsage has each command that is called with the wrong arguments or options say how it is
// called.
func explainUsage(root *cobra.Command) {
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; see %q", err, cmd.CommandPath()+" --help")
	})
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if right := c.Args; right != nil && !c.HasSubCommands() {
			c.Args = func(cmd *cobra.Command, args []string) error {
				if right(cmd, args) != nil {
					return fmt.Errorf("wrong number of arguments; usage: %s", cmd.UseLine())
				}
				return nil
			}
		}
	}
	walk(root)
}
