// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"

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
	var as string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "check the configuration and report mistakes",
		Long: `check reads the configuration file as the daemon would, builds what it describes, and
reports mistakes with their line and what is allowed: all wrong keys and values of the file
at once (the first 20), then what fails when it is built. After a mistake in the syntax the
rest cannot be judged, so that mistake is reported alone. The exit code is 0 if the file is
good, else 78.

If root runs it, it checks with the rights of the daemon's user (--user), and so finds files
that only root can read.

Warnings name what the daemon accepts but is probably a mistake: a table that cannot be read,
HTTP on all addresses, memcached without a key. They change the exit code (to 1) only with
--strict.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			other, err := asUser(as, cmd.Flags().Changed("user"))
			if err != nil {
				return exit.With(exit.Usage, err)
			}
			if other != nil {
				return checkAs(cmd, other)
			}
			return p.checkConfig(cmd, strict)
		},
	}
	cmd.Flags().StringVar(&as, "user", "rcptgate", "the daemon's `USER`, whose rights count when root runs the check; \"\" means the caller")
	cmd.Flags().BoolVar(&strict, "strict", false, "exit with code 1 if there are warnings")
	return cmd
}

// checkConfig reads and builds the configuration, and prints what is wrong or doubtful in it.
func (p *program) checkConfig(cmd *cobra.Command, strict bool) error {
	c, err := p.load(cmd)
	if err != nil {
		return err
	}
	h, err := p.offline(cmd.Context(), c)
	if err != nil {
		return err
	}
	defer h.Stop()
	if err := h.Verify(); err != nil {
		return exit.With(exit.Config, err)
	}
	warnings := h.Warnings()
	if c.File == nil {
		warnings = append(warnings, fmt.Sprintf("there is no %s: the built-in defaults are used, which check no recipients", unit.DefaultFile))
	}
	for _, w := range warnings {
		fmt.Fprintf(cmd.ErrOrStderr(), "rcptgate: warning: %s\n", view.Clean(w))
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: good (%s)\n", c.Source(), summary(c))
	if strict && len(warnings) > 0 {
		return exit.Quietly(exit.Attention)
	}
	return nil
}

// asUser gives whose rights count: nil when they are the caller's own, or when there is no
// such user and none was asked for.
func asUser(name string, asked bool) (*syscall.Credential, error) {
	if name == "" || os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // the caller's own
	}
	u, err := user.Lookup(name)
	if err != nil && !asked {
		return nil, nil //nolint:nilnil,nilerr // not made yet
	}
	if err != nil {
		return nil, err
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	cred := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	groups, _ := u.GroupIds()
	for _, g := range groups {
		if id, err := strconv.ParseUint(g, 10, 32); err == nil {
			cred.Groups = append(cred.Groups, uint32(id))
		}
	}
	if cred.Uid == 0 {
		return nil, nil //nolint:nilnil // as above
	}
	return cred, nil
}

// checkAs runs the same command with another user's rights.
func checkAs(cmd *cobra.Command, as *syscall.Credential) error {
	self, err := os.Executable()
	if err != nil {
		return exit.With(exit.Software, err)
	}
	again := exec.CommandContext(cmd.Context(), self, os.Args[1:]...) // #nosec G204 -- ourselves
	again.Args = append(again.Args, "--user", "")
	again.Args[0] = os.Args[0]
	again.Stdout, again.Stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
	again.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	err = again.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return exit.Quietly(ended.ExitCode())
	}
	return exit.With(exit.Software, err)
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
