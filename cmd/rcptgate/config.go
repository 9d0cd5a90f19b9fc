// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"rcptgate/config"
)

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "check, show or explain the configuration",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "check",
			Short: "read the configuration and say what is wrong with it",
			Long: `check reads the configuration file as the daemon would and reports every mistake with
its line and what is allowed. Exit code 0: the file is good; 78: it is not.

The tables that it names are read once. One that cannot be read is told on standard error,
and is no mistake of the file: at the start of the daemon, or where a reload names it anew,
recipients for whom it would have to be asked hear 451 until it can be read.`,
			Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return configCheck(cmd) },
		},
		&cobra.Command{
			Use:   "show",
			Short: "print every effective value",
			Long: `show prints the configuration in force after the file was read, defaults included, as a
file that rcptgate reads again. The tables that it names are read once; what came of each
stands in comments at the end.`,
			Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return configShow(cmd) },
		},
		&cobra.Command{
			Use:   "example",
			Short: "print a commented example",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				cfg := referenceDefaults()
				_, err := fmt.Fprint(cmd.OutOrStdout(), config.Example(&cfg))
				return err
			},
		},
	)
	return cmd
}

func configShow(cmd *cobra.Command) error {
	l, err := loadConfig(cmd)
	if err != nil {
		return err
	}
	text := l.show()
	files := newTables(slog.New(slog.DiscardHandler), true)
	defer files.close()
	if err := buildWith(&l.Config, files, func() { text += files.comments() }); err != nil {
		return exitWith(exitConfig, l.file.Place(err))
	}
	_, err = fmt.Fprint(cmd.OutOrStdout(), text)
	return err
}

// loaded is a configuration and where it came from.
type loaded struct {
	Config
	file *config.File // nil without a file
}

// show prints what is in force: what the file leaves to be derived from other
// settings is written out.
func (l *loaded) show() string {
	cfg := l.Config
	cfg.Listen.Admin = cfg.adminSocket()
	cfg.Callahead.FallbackSender = cfg.Callahead.Fallback(cfg.Hostname)
	return l.file.Show(&cfg)
}

func (l *loaded) source() string {
	if l.file == nil {
		return "built-in defaults"
	}
	return l.file.Name
}

// loadConfig reads the file that the command line names.
func loadConfig(cmd *cobra.Command) (*loaded, error) {
	path, err := cmd.Flags().GetString("config")
	if err != nil {
		return nil, err
	}
	l, err := readConfig(path)
	return l, exitWith(exitConfig, err)
}

// readConfig reads the file at path; "" is the default file if there is one, else
// the built-in defaults.
func readConfig(path string) (*loaded, error) {
	l := &loaded{Config: defaults()}
	if path == "" {
		if _, err := os.Stat(defaultConfigFile); errors.Is(err, fs.ErrNotExist) {
			return l, config.Validate(&l.Config)
		}
		path = defaultConfigFile
	}
	file, err := config.LoadFile(path, &l.Config)
	if err != nil {
		return nil, err
	}
	l.file = file
	return l, nil
}

// configCheck also builds what the file describes, since a section can be well
// formed and still name a backend that is none.
func configCheck(cmd *cobra.Command) error {
	l, err := loadConfig(cmd)
	if err != nil {
		return err
	}
	files := newTables(slog.New(slog.DiscardHandler), true)
	defer files.close()
	var unread []string
	if err := checkKeyFile(&l.Config); err != nil {
		return exitWith(exitConfig, l.file.Place(err))
	}
	if err := buildWith(&l.Config, files, func() { unread = files.unread() }); err != nil {
		return exitWith(exitConfig, l.file.Place(err))
	}
	for _, words := range unread {
		if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "rcptgate: table %s\n", printable(words)); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: good (%s)\n", l.source(), l.summary())
	return err
}

// summary says in a few words what the configuration amounts to.
func (c *Config) summary() string {
	mode, exceptions := "enforcing", 0
	for i := range c.Domain {
		if e := c.Domain[i].Enforce; e != nil && *e != c.Enforce {
			exceptions++
		}
	}
	switch {
	case !c.Enforce && exceptions == 0:
		mode = "rehearsal: nothing is refused"
	case !c.Enforce:
		mode = "rehearsal, but enforcing in " + count(exceptions, "section")
	case exceptions > 0:
		mode = "enforcing, but rehearsing in " + count(exceptions, "section")
	}
	return fmt.Sprintf("%s, %s, %s, %s", count(len(c.Domain), "[[domain]] section"), count(len(c.Listen.Milter), "milter socket"), count(len(c.Trusted), "trusted network"), mode)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
