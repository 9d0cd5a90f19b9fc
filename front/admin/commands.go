// SPDX-License-Identifier: BSD-2-Clause

package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rcptgate/kit/exit"
	"rcptgate/kit/term"
	"rcptgate/unit"
	"rcptgate/view"
)

// commands are those that go through the admin socket.
type commands struct{ *unit.CLI }

func (k commands) all() []*cobra.Command {
	list := []*cobra.Command{k.check(), k.cache(), k.status(), k.reload(), unit.Under("config", k.show())}
	for i := range k.Units {
		if u := &k.Units[i]; len(u.Ops) > 0 {
			list = append(list, k.ops(u))
		}
	}
	return list
}

// withDaemon runs f with a client of the daemon that the configuration names. Mistakes in the
// file are warned of: the daemon goes on with the configuration that it has.
func (k commands) withDaemon(cmd *cobra.Command, f func(ctx context.Context, c *Client) error) error {
	return k.withDaemonOf(cmd, true, f)
}

// withDaemonOf is withDaemon that can be silent about mistakes.
func (k commands) withDaemonOf(cmd *cobra.Command, warn bool, f func(ctx context.Context, c *Client) error) error {
	c, mistakes := k.Reach(cmd)
	if c == nil {
		return mistakes
	}
	client := NewClient(SocketOf(c).Address)
	defer client.Close()
	if warn && mistakes != nil {
		warnOf(cmd, mistakes)
	}
	err := f(cmd.Context(), client)
	switch {
	case err == nil:
		return nil
	case mistakes != nil && errors.Is(err, ErrUnreachable):
		return mistakes // perhaps the daemon is not found for them
	}
	return clientError(err)
}

func warnOf(cmd *cobra.Command, mistakes error) {
	fmt.Fprintf(cmd.ErrOrStderr(), "rcptgate: warning: the daemon goes on with the configuration that it has; the file has mistakes:\n%v\n", mistakes)
}

// clientError gives the exit code for what went wrong between us and the daemon.
func clientError(err error) error {
	var refusal *Refusal
	var has *exit.Error
	switch {
	case errors.As(err, &has):
		return err
	case errors.Is(err, ErrUnreachable), errors.Is(err, ErrTruncated):
		return exit.With(exit.Unavailable, err)
	case errors.As(err, &refusal) && refusal.BadRequest():
		return exit.With(exit.Data, err)
	case errors.As(err, &refusal) && refusal.Unconfigured():
		return exit.With(exit.Config, err)
	case errors.As(err, &refusal) && refusal.NotFound():
		return exit.With(exit.UnknownUser, err)
	case errors.As(err, &refusal) && refusal.Part():
		return exit.With(exit.Tempfail, err)
	}
	return exit.With(exit.Software, err)
}

// ops makes the commands of a unit that the daemon answers.
func (k commands) ops(u *unit.Unit) *cobra.Command {
	parent := &cobra.Command{
		Use: u.Name, Short: cmp.Or(u.OpsDoc, "commands of "+u.Name), Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, op := range u.Ops {
		word, _, _ := strings.Cut(op.Use, " ")
		var asJSON bool
		flags := make([]string, len(op.Flags))
		cmd := &cobra.Command{Use: op.Use, Short: op.Short, Long: op.Long, Args: op.Args, RunE: func(cmd *cobra.Command, args []string) error {
			for i, f := range op.Flags {
				if flags[i] != "" {
					args = append(args, "--"+f.Name+"="+flags[i])
				}
			}
			return k.withDaemon(cmd, func(ctx context.Context, c *Client) error {
				tables, err := c.Do(ctx, u.Name, word, args)
				if err != nil {
					return err
				}
				if op.Lines && !asJSON {
					return printLines(cmd.OutOrStdout(), tables)
				}
				if err := printTables(cmd.OutOrStdout(), tables, asJSON); err != nil || !op.Judges {
					return err
				}
				return judged(tables)
			})
		}}
		for i, f := range op.Flags {
			cmd.Flags().StringVar(&flags[i], f.Name, f.Default, f.Doc)
		}
		cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
		parent.AddCommand(cmd)
	}
	return parent
}

// judged is exit code 1 for tables of which a row needs attention.
func judged(tables []view.Table) error {
	for i := range tables {
		if len(tables[i].Attention()) > 0 {
			return exit.Quietly(exit.Attention)
		}
	}
	return nil
}

// printLines writes the first column of tables for other programs.
func printLines(w io.Writer, tables []view.Table) error {
	for _, t := range tables {
		for _, row := range t.Rows {
			if _, err := fmt.Fprintln(w, row.Cells[0]); err != nil {
				return err
			}
		}
	}
	return nil
}

func printTables(w io.Writer, tables []view.Table, asJSON bool) error {
	if asJSON {
		return term.JSON(w, tables)
	}
	for i := range tables {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := tables[i].Print(w, time.Now()); err != nil {
			return err
		}
	}
	return nil
}

func (k commands) status() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [UNIT]",
		Short: "show what the running daemon does, and what needs attention",
		Long: `status shows what the running daemon does: whether it refuses or rehearses, which
configuration is active and how old it is, the servers behind, the MTA's tables, and what is
remembered. What needs attention comes first. With a UNIT (backends, memory, blocklist,
milter, ...) only its tables are shown; with the name of a table, only that one.

Exit codes, for monitoring: 0 all is well, 1 something needs attention, 69 the daemon cannot
be reached.

A table is shown if what it is about is configured. Counters begin with the daemon. These are
the tables and their columns:

` + view.Explain(unit.Tables(k.Units)),
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return k.withDaemon(cmd, func(ctx context.Context, c *Client) error {
				answer, err := c.Status(ctx, strings.Join(args, ""))
				if err != nil {
					return err
				}
				if asJSON {
					err = term.JSON(cmd.OutOrStdout(), answer)
				} else {
					err = printStatus(cmd.OutOrStdout(), &answer, len(args) > 0)
				}
				if err == nil && (len(answer.Attention) > 0 || answer.ReloadError != "" || len(answer.NotReady) > 0) {
					return exit.Quietly(exit.Attention)
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

// modeWords say what a mode means.
func modeWords(mode string) string {
	switch mode {
	case "enforcing":
		return "enforcing: recipients are refused"
	case "rehearsing":
		return "rehearsing: nothing is refused; the log says what would have been"
	}
	return mode + ": [[domain]] sections differ in enforce"
}

func printStatus(w io.Writer, s *StatusAnswer, one bool) error {
	now := time.Now()
	if !one {
		line := func(word, text string) { fmt.Fprintf(w, "%-14s %s\n", word, view.Clean(text)) }
		state := "ready"
		if len(s.NotReady) > 0 {
			state = "takes no questions: " + strings.Join(s.NotReady, ", ")
		}
		line("gateway", fmt.Sprintf("%s, rcptgate %s, started %s", s.Hostname, s.Version, view.Ago(now, s.Started)))
		line("state", state)
		line("mode", modeWords(s.Mode))
		line("configuration", fmt.Sprintf("%s, read %s, %s", s.Configuration, view.Ago(now, s.Loaded), term.Count(s.Domains, "[[domain]] section")))
		if s.ReloadError != "" {
			line("", "the last reload failed: "+strings.ReplaceAll(s.ReloadError, "\n", "; "))
		}
		if len(s.Restart) > 0 {
			line("", "changed, and needs a restart: "+strings.Join(s.Restart, ", "))
		}
		for i, why := range s.Attention {
			line(map[bool]string{true: "attention", false: ""}[i == 0], why)
		}
		fmt.Fprintln(w)
	}
	return printTables(w, s.Tables, false)
}

func (k commands) reload() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "make the daemon read its configuration again, and print the result",
		Long: `reload does what SIGHUP does, and prints the result. A configuration with a mistake
changes nothing: each mistake is printed with its line, and the exit code is 78. Settings
that changed but need a restart are named. Exit code 69: the daemon cannot be reached.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return k.withDaemonOf(cmd, false, func(ctx context.Context, c *Client) error {
				done, err := c.Reload(ctx)
				var refusal *Refusal
				if errors.As(err, &refusal) && !refusal.NotFound() {
					return exit.With(exit.Config, fmt.Errorf("not reloaded, the old configuration stays active:\n%w", err))
				}
				if err != nil {
					return err
				}
				if len(done.Restart) > 0 {
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "reloaded; needs a restart to take effect: %s\n", strings.Join(done.Restart, ", "))
					return err
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "reloaded")
				return err
			})
		},
	}
}

func (k commands) show() *cobra.Command {
	var file bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "print every effective value",
		Long: `show prints the active configuration of the running daemon, defaults included, as a file
that rcptgate can read. Comments at the end show the state of each table that it names. With --file, or when no daemon can be reached, it reads the file instead.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := k.Load(cmd)
			if err != nil {
				return err
			}
			text := ""
			if !file {
				client := NewClient(SocketOf(c).Address)
				defer client.Close()
				text, err = client.Config(cmd.Context())
				if err != nil && !errors.Is(err, ErrUnreachable) {
					return clientError(err)
				}
			}
			if text == "" {
				if text, err = k.showFile(cmd, c, !file); err != nil {
					return err
				}
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		},
	}
	cmd.Flags().BoolVar(&file, "file", false, "show the file instead of the daemon's active configuration")
	return cmd
}

func (k commands) showFile(cmd *cobra.Command, c *unit.Config, wanted bool) (string, error) {
	if wanted {
		fmt.Fprintf(cmd.ErrOrStderr(), "rcptgate: no daemon can be reached; this is %s\n", c.Source())
	}
	h, err := k.Offline(cmd.Context(), c)
	if err != nil {
		return "", err
	}
	defer h.Stop()
	return h.Show(), nil
}
