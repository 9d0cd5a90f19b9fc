// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"rcptgate/config"
	"rcptgate/kit/exit"
	"rcptgate/kit/term"
	"rcptgate/route"
	"rcptgate/unit"
	"rcptgate/view"
)

func (p *program) config() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "check, show or explain the configuration",
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.configCheck(), &cobra.Command{
		Use:   "example",
		Short: "print a commented example",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), config.Example(p.reference().Any()))
			return err
		},
	})
	return cmd
}

// reference is the configuration that examples and manual pages are made of: the same on
// every machine.
func (p *program) reference() *config.Composed {
	c := p.schema.Defaults()
	config.Get[unit.Core](c).Hostname = ""
	return c
}

func (p *program) configCheck() *cobra.Command {
	var strict bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "read the configuration and say what is wrong with it",
		Long: `check reads the configuration file as the daemon would, builds what it describes, and
reports every mistake with its line and what is allowed. Exit code 0: the file is good; 78:
it is not.

Warnings name what the daemon would accept and a postmaster would not want: a table that
cannot be read, HTTP on all addresses, memcached without a key. They change the exit code
only with --strict: then it is 1.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.load(cmd)
			if err != nil {
				return err
			}
			h, err := unit.Open(cmd.Context(), p.units, c, unit.Options{Version: versionText(), Offline: true})
			if err != nil {
				return err
			}
			defer h.Stop()
			warnings := h.Warnings()
			for _, w := range warnings {
				fmt.Fprintf(cmd.ErrOrStderr(), "rcptgate: warning: %s\n", view.Clean(w))
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: good (%s)\n", c.Source(), summary(c))
			if strict && len(warnings) > 0 {
				return exit.Quietly(exit.Attention)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&strict, "strict", false, "exit with 1 when there are warnings")
	return cmd
}

// summary says in a few words what the configuration amounts to.
func summary(c *unit.Config) string {
	sections, exceptions := unit.Domains[route.DomainConfig](c), 0
	enforce := c.Core().Enforce
	for i := range sections {
		if e := sections[i].Enforce; e != nil && *e != enforce {
			exceptions++
		}
	}
	mode, other := "rehearsing: nothing is refused", "enforcing"
	if enforce {
		mode, other = "enforcing", "rehearsing"
	}
	if exceptions > 0 {
		mode, _, _ = strings.Cut(mode, ":")
		mode += ", but " + other + " in " + term.Count(exceptions, "section")
	}
	return term.Count(len(sections), "[[domain]] section") + ", " + mode
}
